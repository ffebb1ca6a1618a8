// SPDX-License-Identifier: MIT
// Pages of a few sizes, shared by all lanes of a session, under one byte budget.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "pith/api.hpp"

namespace pith::inline cache {

/// Thread-safe. Pages are 64-byte aligned and uninitialised.
class PITH_API PagePool {
 public:
  /// `budget`: the most bytes that pages in use may take; 0 = unlimited.
  explicit PagePool(std::size_t budget) : budget_(budget) {}
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  /// `bytes`: a multiple of 64. Throws Error (budget), std::bad_alloc.
  std::byte* take(std::size_t bytes);
  /// `bytes`: as it was taken.
  void give(std::byte* page, std::size_t bytes);

  /// How many more bytes of pages the budget allows.
  std::size_t available() const;

  /// Gives the memory of free pages back to the operating system; returns the bytes given back.
  std::size_t trim();

  std::size_t bytes_used() const;
  std::size_t bytes_reserved() const;    // used, and free but not given back
  std::size_t bytes_high_water() const;  // the most bytes_used has been

 private:
  struct Slab {
    std::byte* memory;
    std::size_t bytes;
  };
  /// The pages of one size.
  struct Shelf {
    std::size_t page_bytes;
    std::vector<Slab> slabs = {};
    std::vector<std::byte*> free = {};      // resident
    std::vector<std::byte*> released = {};  // free, their memory given back
    void grow();
    std::size_t trim();
  };
  Shelf& shelf(std::size_t page_bytes);

  const std::size_t budget_;
  mutable std::mutex mutex_;
  std::vector<Shelf> shelves_;
  std::size_t used_ = 0, high_water_ = 0;  // bytes
};

}  // namespace pith::inline cache
