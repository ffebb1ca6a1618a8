// SPDX-License-Identifier: MIT
#include "pith/cache/lane.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace pith::inline cache {

namespace {

constexpr std::size_t capacity = PageLayout::capacity;

void copy_all(const PageLayout& layout, std::byte* to, std::size_t i, std::byte* from, std::size_t j) {
  const auto& shape = layout.shape();
  for (std::size_t h = 0; h < shape.heads; ++h) {
    copy_row(shape.format, Side::keys, shape.head_dim, layout.k(to, h), i, layout.k(from, h), j);
    copy_row(shape.format, Side::values, shape.head_dim, layout.v(to, h), i, layout.v(from, h), j);
  }
  std::memcpy(layout.gate(to) + i * shape.gate_dim, layout.gate(from) + j * shape.gate_dim,
              shape.gate_dim * sizeof(float));
  layout.born(to)[i] = layout.born(from)[j];
  layout.until(to)[i] = layout.until(from)[j];
  for (std::size_t e = 0; e < evidence_count; ++e)
    if (const auto kind = static_cast<Evidence>(e); shape.evidence.has(kind))
      layout.evidence(to, kind)[i] = layout.evidence(from, kind)[j];
}

}  // namespace

Lane::Lane(const PageLayout& layout, PagePool& pool, std::size_t expected_rows) : layout_(&layout), pool_(&pool) {
  table_.reserve((expected_rows + capacity - 1) / capacity);
}

Lane::Lane(Lane&& other) noexcept
    : layout_(other.layout_),
      pool_(other.pool_),
      table_(std::exchange(other.table_, {})),
      rows_(std::exchange(other.rows_, 0)) {}

std::size_t Lane::append(Position born, Position until) {
  if (rows_ == table_.size() * capacity) {
    if (table_.size() == table_.capacity()) table_.reserve(2 * table_.size() + 1);  // before a page could be lost
    table_.push_back({pool_->take(), never});
  }
  const std::size_t row = rows_++;
  std::byte* const page = table_[row / capacity].memory;
  const std::size_t i = row % capacity;
  layout_->born(page)[i] = born;
  set_until(row, until);
  for (std::size_t e = 0; e < evidence_count; ++e)
    if (const auto kind = static_cast<Evidence>(e); layout_->shape().evidence.has(kind))
      layout_->evidence(page, kind)[i] = 0;
  return row;
}

void Lane::erase(std::size_t row) {
  assert(row < rows_);
  const std::size_t last = rows_ - 1;
  if (row != last) {
    const Entry& from = table_[last / capacity];
    const Entry& to = table_[row / capacity];
    copy_all(*layout_, to.memory, row % capacity, from.memory, last % capacity);
    to.earliest_until = std::min(to.earliest_until, from.earliest_until);
  }
  --rows_;
  if (rows_ % capacity == 0) {
    pool_->give(table_.back().memory);
    table_.pop_back();
  }
}

void Lane::find_earliest_until(std::size_t page) const {
  Position earliest = never;
  for (const Position until : this->page(page).until()) earliest = std::min(earliest, until);
  table_[page].earliest_until = earliest;
}

void Lane::clear() {
  for (const Entry& entry : table_) pool_->give(entry.memory);
  table_.clear();
  rows_ = 0;
}

void Lane::copy_from(const Lane& other) {
  assert(rows_ == 0 && layout_ == other.layout_);
  table_.reserve(other.table_.capacity());
  for (const Entry& entry : other.table_) {
    table_.push_back({pool_->take(), entry.earliest_until});
    std::memcpy(table_.back().memory, entry.memory, layout_->bytes());
  }
  rows_ = other.rows_;
}

}  // namespace pith::inline cache
