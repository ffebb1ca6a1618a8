// SPDX-License-Identifier: MIT
// Pages of one size, shared by all lanes of a session, under one byte budget.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace pith::inline cache {

/// Thread-safe. Pages are 64-byte aligned and uninitialised.
class PagePool {
 public:
  /// `budget`: the most bytes that pages in use may take; 0 = unlimited.
  PagePool(std::size_t page_bytes, std::size_t budget);
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  /// Throws Error (budget), std::bad_alloc.
  std::byte* take();
  void give(std::byte* page);

  /// How many more pages the budget allows.
  std::size_t available() const;

  /// Gives the memory of free pages back to the operating system; returns the bytes given back.
  std::size_t trim();

  std::size_t page_bytes() const { return page_bytes_; }
  std::size_t bytes_used() const;
  std::size_t bytes_reserved() const;    // used, and free but not given back
  std::size_t bytes_high_water() const;  // the most bytes_used has been

 private:
  struct Slab {
    std::byte* memory;
    std::size_t bytes;
  };
  void grow();

  const std::size_t page_bytes_;
  const std::size_t budget_;
  mutable std::mutex mutex_;
  std::vector<Slab> slabs_;
  std::vector<std::byte*> free_;           // resident
  std::vector<std::byte*> released_;       // free, their memory given back
  std::size_t used_ = 0, high_water_ = 0;  // pages
};

}  // namespace pith::inline cache
