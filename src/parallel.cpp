// SPDX-License-Identifier: MIT
#include "pith/tensor/parallel.hpp"

#include <algorithm>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "pith/error.hpp"

namespace pith {
namespace {

int usable_cores() {
#if defined(__linux__)
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

Threads::Threads(int count) : count_(count == 0 ? usable_cores() : count) {
  require(count >= 0, ErrorCode::argument, "threads: expected a count of at least 0, found " + std::to_string(count));
}

void Threads::run_erased(std::size_t tasks, void (*call)(void*, std::size_t), void* task) const {
#if defined(_OPENMP)
  if (count_ > 1 && tasks > 1 && omp_in_parallel() == 0) {
    const int threads = static_cast<int>(std::min(tasks, static_cast<std::size_t>(count_)));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::size_t i = 0; i < tasks; ++i) call(task, i);
    return;
  }
#endif
  for (std::size_t i = 0; i < tasks; ++i) call(task, i);
}

}  // namespace pith
