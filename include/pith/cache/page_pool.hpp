// SPDX-License-Identifier: MIT
// Pages of a few sizes, shared by all lanes of a session, under one byte budget.
#pragma once

#include <cstddef>
#include <mutex>
#include <unordered_map>
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
  /// `bytes`: as it was taken. A page that others hold, too, stays theirs.
  void give(std::byte* page, std::size_t bytes);

  /// One more holds the page from now on.
  void share(std::byte* page);

  /// The page, where nobody else holds it, or in exchange for it a copy. Throws as take().
  std::byte* own(std::byte* page, std::size_t bytes);

  bool is_shared(const std::byte* page) const;

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
  std::byte* take_locked(std::size_t bytes);

  /// Whether others hold the page, of whom there is one less then.
  bool leave_to_others(const std::byte* page);

  const std::size_t budget_;
  mutable std::mutex mutex_;
  std::vector<Shelf> shelves_;
  std::unordered_map<const std::byte*, std::size_t> others_;  // [page] how many hold it beside the first
  std::size_t used_ = 0, high_water_ = 0;                     // bytes; a shared page counts once
};

}  // namespace pith::inline cache
