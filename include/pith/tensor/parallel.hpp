// SPDX-License-Identifier: MIT
// The one place that starts threads (OpenMP, in src/tensor/parallel.cpp).
//
// Threads are gathered once per step, and each parallel loop within it is a ticket that whoever is running takes tasks
// from. No loop waits for a thread that has not taken part in it, so that a busy machine costs a step its fair share of
// time and not a scheduler's time slice per loop. (OpenMP's own loops end in barriers of all threads: with other
// programs on the cores, a 135M-parameter model decoded 4 times slower on two threads than on one.)
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "pith/api.hpp"

namespace pith::inline tensor {

/// More than any machine has cores for; what is beyond would exhaust it.
inline constexpr int most_threads = 1024;

/// How many threads work on a step. One thread never starts another. Copies share the threads: where they are used from
/// several threads of the host, steps take turns, so that never more than `count` are at work.
class PITH_API Threads {
 public:
  /// 0 = one per core the process may use. Throws Error (argument) when negative or above most_threads.
  Threads(int count = 1);  // NOLINT(google-explicit-constructor): a count is threads
  int count() const { return count_; }

  /// Calls body() with the threads gathered, for calls of run() within it; waits while another thread has them. Within
  /// a body, gathering the same threads again changes nothing. What body throws comes out.
  template <class Body>
  void gather(Body&& body) const {
    gather_erased([](void* f) { (*static_cast<std::remove_reference_t<Body>*>(f))(); }, erase(body));
  }

  /// Calls task(0) … task(tasks - 1), in any order, on the threads this one has gathered (else on this one); returns
  /// when all are done. `work`: about how many multiply-adds that is; too little to share stays on this thread. Tasks
  /// must not throw. Within a task, run() works on the task's own thread.
  template <class Task>
  void run(std::size_t tasks, std::size_t work, Task&& task) const {
    run_erased(
        tasks, work, [](void* f, std::size_t i) { (*static_cast<std::remove_reference_t<Task>*>(f))(i); }, erase(task));
  }

  /// Calls task(row) for every row of a table [rows, cols], neighbouring rows mostly on the same thread. `cost`: about
  /// how many multiply-adds a number is worth.
  template <class Task>
  void run_rows(std::size_t rows, std::size_t cols, std::size_t cost, Task&& task) const {
    const std::size_t together = std::max(numbers_per_task / std::max(cols, std::size_t{1}), std::size_t{1});
    run((rows + together - 1) / together, cost * rows * cols, [&](std::size_t i) {
      for (std::size_t row = i * together; row < std::min(rows, (i + 1) * together); ++row) task(row);
    });
  }

 private:
  static constexpr std::size_t numbers_per_task = 4096;  // of rows
  struct PITH_LOCAL Crew;

  template <class F>
  static void* erase(F& f) {
    return const_cast<void*>(static_cast<const void*>(&f));
  }
  void gather_erased(void (*call)(void*), void* body) const;
  void run_erased(std::size_t tasks, std::size_t work, void (*call)(void*, std::size_t), void* task) const;

  int count_;
  std::shared_ptr<Crew> crew_;  // null for one thread
};

}  // namespace pith::inline tensor
