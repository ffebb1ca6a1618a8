// SPDX-License-Identifier: MIT
// What goes through operator new is counted, and can be made to fail. To be included by one file of a program.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace pith::testing {

/// Of the whole program, all threads together.
struct Allocations {
  std::atomic<std::size_t> made = 0;
  std::atomic<std::size_t> alive = 0;
  std::atomic<std::size_t> until_failure = 0;  // the allocation that fails, counted from 1 on; 0: none
};
inline Allocations allocations;

inline void* allocate(std::size_t bytes, std::size_t alignment) {
  if (allocations.until_failure.load() > 0 && allocations.until_failure.fetch_sub(1) == 1) throw std::bad_alloc();
  // aligned_alloc wants whole multiples of the alignment.
  void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  allocations.made.fetch_add(1, std::memory_order_relaxed);
  allocations.alive.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

inline void free(void* memory) noexcept {
  if (memory == nullptr) return;
  allocations.alive.fetch_sub(1, std::memory_order_relaxed);
  std::free(memory);
}

}  // namespace pith::testing

// g++, where it inlines some of these and not others, takes them for a mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

void* operator new(std::size_t bytes) { return pith::testing::allocate(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return pith::testing::allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return pith::testing::allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return pith::testing::allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  try {
    return pith::testing::allocate(bytes, alignof(std::max_align_t));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { pith::testing::free(memory); }
void operator delete[](void* memory) noexcept { pith::testing::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { pith::testing::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { pith::testing::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { pith::testing::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { pith::testing::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { pith::testing::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { pith::testing::free(memory); }
