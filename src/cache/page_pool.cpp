// SPDX-License-Identifier: MIT
#include "pith/cache/page_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
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

PagePool::~PagePool() {
  assert(used_ == 0 && "a lane outlives its pool");
  for (const Shelf& shelf : shelves_)
    for (const Slab& slab : shelf.slabs) munmap(slab.memory, slab.bytes);
}

PagePool::Shelf& PagePool::shelf(std::size_t page_bytes) {
  assert(page_bytes > 0 && page_bytes % 64 == 0);
  for (Shelf& shelf : shelves_)
    if (shelf.page_bytes == page_bytes) return shelf;
  return shelves_.emplace_back(Shelf{page_bytes});
}

void PagePool::Shelf::grow() {
  const std::size_t bytes = (page_bytes + slab_bytes - 1) / slab_bytes * slab_bytes;
  const std::size_t pages = bytes / page_bytes;
  slabs.reserve(slabs.size() + 1);
  // All that give() and trim() will ever need to note, so that they cannot fail.
  std::size_t total = pages;
  for (const Slab& slab : slabs) total += slab.bytes / page_bytes;
  free.reserve(total);
  released.reserve(total);
  std::byte* const memory = map_slab(bytes);
  slabs.push_back({memory, bytes});
  // A fresh mapping takes no memory until it is written: its pages are as good as given back.
  for (std::size_t i = pages; i-- > 0;) released.push_back(memory + i * page_bytes);
}

std::byte* PagePool::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  return take_locked(bytes);
}

std::byte* PagePool::take_locked(std::size_t bytes) {
  if (budget_ > 0 && used_ + bytes > budget_)
    fail(ErrorCode::budget, "key-value cache", "at most " + std::to_string(budget_) + " bytes of pages",
         "a page of " + std::to_string(bytes) + " bytes more than " + std::to_string(used_));
  Shelf& from = shelf(bytes);
  if (from.free.empty() && from.released.empty()) from.grow();
  auto& source = from.free.empty() ? from.released : from.free;
  std::byte* const page = source.back();
  source.pop_back();
  used_ += bytes;
  high_water_ = std::max(high_water_, used_);
  return page;
}

void PagePool::give(std::byte* page, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (leave_to_others(page)) return;
  shelf(bytes).free.push_back(page);
  used_ -= bytes;
}

bool PagePool::leave_to_others(const std::byte* page) {
  const auto found = others_.find(page);
  if (found == others_.end()) return false;
  if (--found->second == 0) others_.erase(found);
  return true;
}

void PagePool::share(std::byte* page) {
  const std::lock_guard lock(mutex_);
  ++others_[page];
}

std::byte* PagePool::own(std::byte* page, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!others_.contains(page)) return page;
  std::byte* const copy = take_locked(bytes);
  // Under the lock: whoever is left alone with the page may write to it as soon as it is known.
  std::memcpy(copy, page, bytes);
  leave_to_others(page);
  return copy;
}

bool PagePool::is_shared(const std::byte* page) const {
  const std::lock_guard lock(mutex_);
  return others_.contains(page);
}

std::size_t PagePool::available() const {
  const std::lock_guard lock(mutex_);
  if (budget_ == 0) return SIZE_MAX;
  return budget_ > used_ ? budget_ - used_ : 0;
}

std::size_t PagePool::Shelf::trim() {
  const std::size_t unit = system_page();
  // Pages need not fill whole system pages: runs of neighbouring free pages are given back together.
  std::vector<std::byte*> all = free;
  all.insert(all.end(), released.begin(), released.end());
  std::sort(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size();) {
    std::size_t end = i + 1;
    while (end < all.size() && all[end] == all[end - 1] + page_bytes) ++end;
    const auto first = (reinterpret_cast<std::uintptr_t>(all[i]) + unit - 1) / unit * unit;
    const auto last = (reinterpret_cast<std::uintptr_t>(all[end - 1]) + page_bytes) / unit * unit;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    i = end;
  }
  const std::size_t given = free.size() * page_bytes;
  // In place: what take() and give() were promised room for stays so.
  released.assign(all.begin(), all.end());
  free.clear();
  return given;
}

std::size_t PagePool::trim() {
  const std::lock_guard lock(mutex_);
  std::size_t given = 0;
  for (Shelf& shelf : shelves_) given += shelf.trim();
  return given;
}

std::size_t PagePool::bytes_used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::size_t PagePool::bytes_reserved() const {
  const std::lock_guard lock(mutex_);
  std::size_t bytes = used_;
  for (const Shelf& shelf : shelves_) bytes += shelf.free.size() * shelf.page_bytes;
  return bytes;
}

std::size_t PagePool::bytes_high_water() const {
  const std::lock_guard lock(mutex_);
  return high_water_;
}

}  // namespace pith::inline cache
