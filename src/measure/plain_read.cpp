// SPDX-License-Identifier: MIT
#include "measure/plain_read.hpp"

#include <chrono>

namespace pith::inline measure {
namespace {

constexpr std::size_t parts = 64;
constexpr std::size_t chains = 8;  // sums that do not wait for each other

}  // namespace

PlainRead::PlainRead(const Threads& threads)
    : threads_(threads), words_(bytes / sizeof(std::uint64_t), 1), sums_(parts) {}

void PlainRead::operator()() {
  const std::size_t part = words_.size() / parts;
  threads_.gather([&] {
    threads_.run(parts, bytes, [&](std::size_t p) {
      std::uint64_t sums[chains] = {};
      for (std::size_t i = p * part; i < (p + 1) * part; i += chains)
        for (std::size_t k = 0; k < chains; ++k) sums[k] += words_[i + k];
      for (const std::uint64_t sum : sums) sums_[p] += sum;
    });
  });
}

double PlainRead::bytes_per_second() {
  const auto start = std::chrono::steady_clock::now();
  (*this)();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(bytes) / seconds.count();
}

}  // namespace pith::inline measure
