// SPDX-License-Identifier: MIT
#include "measure/dot_peak.hpp"

#include <atomic>
#include <chrono>

#include "kernels/table.hpp"

namespace pith::inline measure {
namespace {

constexpr std::size_t tasks_per_thread = 16;
constexpr std::size_t rounds = 20'000;  // of a task: a fraction of a millisecond

}  // namespace

double DotPeak::multiply_adds_per_second() {
  const std::size_t tasks = tasks_per_thread * static_cast<std::size_t>(threads_.count());
  std::atomic<std::size_t> done{0};
  std::chrono::duration<double> seconds{};
  threads_.gather([&] {
    const auto start = std::chrono::steady_clock::now();
    threads_.run(tasks, tasks * rounds, [&](std::size_t) { done += kernels::table().dot_rounds(rounds); });
    seconds = std::chrono::steady_clock::now() - start;
  });
  return static_cast<double>(done) / seconds.count();
}

}  // namespace pith::inline measure
