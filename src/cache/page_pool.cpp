// SPDX-License-Identifier: MIT
#include "pith/cache/page_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <new>
#include <string>

#include "pith/error.hpp"

namespace pith::inline cache {

namespace {

// Slabs are mapped rather than allocated, so that the memory of free pages can be given back one by one; of the size
// and alignment of the system's huge pages, as attention reads all of a long context for every token.
constexpr std::size_t slab_bytes = std::size_t{1} << 21;

std::size_t system_page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

/// `bytes` of zeroes at a multiple of slab_bytes. Throws std::bad_alloc.
std::byte* map_slab(std::size_t bytes) {
  const std::size_t room = bytes + slab_bytes;
  void* const mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(mapped);
  const std::size_t before = (slab_bytes - reinterpret_cast<std::uintptr_t>(begin) % slab_bytes) % slab_bytes;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, room - before - bytes);
#if defined(MADV_HUGEPAGE)
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // a wish: where it is not granted, nothing is lost but time
#endif
  return begin + before;
}

}  // namespace

PagePool::PagePool(std::size_t page_bytes, std::size_t budget) : page_bytes_(page_bytes), budget_(budget) {
  assert(page_bytes % 64 == 0);
}

PagePool::~PagePool() {
  assert(used_ == 0 && "a lane outlives its pool");
  for (const Slab& slab : slabs_) munmap(slab.memory, slab.bytes);
}

void PagePool::grow() {
  const std::size_t bytes = (page_bytes_ + slab_bytes - 1) / slab_bytes * slab_bytes;
  const std::size_t pages = bytes / page_bytes_;
  slabs_.reserve(slabs_.size() + 1);
  // All that give() and trim() will ever need to note, so that they cannot fail.
  std::size_t total = pages;
  for (const Slab& slab : slabs_) total += slab.bytes / page_bytes_;
  free_.reserve(total);
  released_.reserve(total);
  std::byte* const memory = map_slab(bytes);
  slabs_.push_back({memory, bytes});
  // A fresh mapping takes no memory until it is written: its pages are as good as given back.
  for (std::size_t i = pages; i-- > 0;) released_.push_back(memory + i * page_bytes_);
}

std::byte* PagePool::take() {
  const std::lock_guard lock(mutex_);
  if (budget_ > 0 && (used_ + 1) * page_bytes_ > budget_)
    fail(ErrorCode::budget, "key-value cache", "at most " + std::to_string(budget_) + " bytes of pages",
         "one more than " + std::to_string(used_) + " pages of " + std::to_string(page_bytes_));
  if (free_.empty() && released_.empty()) grow();
  auto& source = free_.empty() ? released_ : free_;
  std::byte* const page = source.back();
  source.pop_back();
  high_water_ = std::max(high_water_, ++used_);
  return page;
}

void PagePool::give(std::byte* page) {
  const std::lock_guard lock(mutex_);
  free_.push_back(page);
  --used_;
}

std::size_t PagePool::available() const {
  const std::lock_guard lock(mutex_);
  if (budget_ == 0) return SIZE_MAX;
  return budget_ / page_bytes_ > used_ ? budget_ / page_bytes_ - used_ : 0;
}

std::size_t PagePool::trim() {
  const std::lock_guard lock(mutex_);
  const std::size_t unit = system_page();
  std::size_t given = 0;
  // Pages need not fill whole system pages: runs of neighbouring free pages are given back together.
  std::vector<std::byte*> all = free_;
  all.insert(all.end(), released_.begin(), released_.end());
  std::sort(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size();) {
    std::size_t end = i + 1;
    while (end < all.size() && all[end] == all[end - 1] + page_bytes_) ++end;
    const auto first = (reinterpret_cast<std::uintptr_t>(all[i]) + unit - 1) / unit * unit;
    const auto last = (reinterpret_cast<std::uintptr_t>(all[end - 1]) + page_bytes_) / unit * unit;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    i = end;
  }
  given = free_.size() * page_bytes_;
  released_ = std::move(all);
  free_.clear();
  return given;
}

std::size_t PagePool::bytes_used() const {
  const std::lock_guard lock(mutex_);
  return used_ * page_bytes_;
}

std::size_t PagePool::bytes_reserved() const {
  const std::lock_guard lock(mutex_);
  return (used_ + free_.size()) * page_bytes_;
}

std::size_t PagePool::bytes_high_water() const {
  const std::lock_guard lock(mutex_);
  return high_water_ * page_bytes_;
}

}  // namespace pith::inline cache
