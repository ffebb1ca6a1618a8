// SPDX-License-Identifier: MIT
// The one place that starts threads (OpenMP, in src/parallel.cpp).
#pragma once

#include <cstddef>
#include <type_traits>

namespace pith {

/// How many threads work on a step. One thread never starts another.
class Threads {
 public:
  /// 0 = one per core the process may use.
  explicit Threads(int count = 1);
  int count() const { return count_; }

  /// Calls task(0) … task(tasks - 1), in any order, on up to count() threads; returns when all are done.
  /// Tasks must not throw.
  template <class Task>
  void run(std::size_t tasks, Task&& task) const {
    run_erased(
        tasks, [](void* f, std::size_t i) { (*static_cast<std::remove_reference_t<Task>*>(f))(i); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  void run_erased(std::size_t tasks, void (*call)(void*, std::size_t), void* task) const;
  int count_;
};

}  // namespace pith
