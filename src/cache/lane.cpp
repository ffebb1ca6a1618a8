// SPDX-License-Identifier: MIT
#include "pith/cache/lane.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace pith::inline cache {

namespace {

constexpr std::size_t capacity = PageLayout::capacity;

std::uint32_t bit(std::size_t row) { return std::uint32_t{1} << row % capacity; }

}  // namespace

Lane::Lane(const PageLayout& layout, PagePool& pool, std::size_t expected_rows) : layout_(&layout), pool_(&pool) {
  table_.reserve((expected_rows + capacity - 1) / capacity);
}

Lane::Lane(Lane&& other) noexcept
    : layout_(other.layout_),
      channels_(std::move(other.channels_)),
      pool_(other.pool_),
      table_(std::exchange(other.table_, {})),
      rows_(std::exchange(other.rows_, 0)),
      emptied_(other.emptied_),
      held_(std::exchange(other.held_, {})),
      states_(std::exchange(other.states_, {})) {}

std::byte* Lane::take_page() {
  if (held_.empty()) return pool_->take(layout_->bytes());
  std::byte* const page = held_.back();
  held_.pop_back();
  return page;
}

Row Lane::append(Position born, Position until) {
  if (rows_ == table_.size() * capacity) {
    if (table_.size() == table_.capacity()) table_.reserve(2 * table_.size() + 1);  // before a page could be lost
    table_.push_back({take_page(), never, 0});
  }
  PageEntry& entry = table_.back();
  entry.own(layout_->bytes());
  const std::size_t i = rows_++ % capacity;
  layout_->born(entry.memory())[i] = born;
  layout_->until(entry.memory())[i] = until;
  entry.earliest_until = std::min(entry.earliest_until, until);
  for (const Column column : layout_->shape().evidence) layout_->evidence(entry.memory(), slot(column))[i] = 0;
  return page(table_.size() - 1).row(i);
}

void Lane::erase(std::size_t row) {
  assert(row < rows_);
  const std::size_t last = rows_ - 1;
  PageEntry& from = table_[last / capacity];
  // What may be undone is undone without another page.
  if (emptied_ == Emptied::held) own(last);
  if (row != last) {
    own(row);
    PageEntry& to = table_[row / capacity];
    layout_->copy_row(to.memory(), row % capacity, from.memory(), last % capacity);
    to.earliest_until = std::min(to.earliest_until, from.earliest_until);
    to.pinned = (from.pinned & bit(last)) != 0 ? to.pinned | bit(row) : to.pinned & ~bit(row);
  }
  from.pinned &= ~bit(last);
  --rows_;
  if (rows_ % capacity == 0) {
    if (emptied_ == Emptied::held)
      held_.push_back(from.memory());
    else
      pool_->give(from.memory(), layout_->bytes());
    table_.pop_back();
  }
}

void Lane::keep_emptied(Emptied emptied) {
  emptied_ = emptied;
  if (emptied == Emptied::held) return;
  for (std::byte* const page : held_) pool_->give(page, layout_->bytes());
  held_.clear();
}

void Lane::save(std::size_t row, std::byte* page, std::size_t i) const {
  layout_->copy_row(page, i, table_[row / capacity].memory(), row % capacity);
}

void Lane::restore(std::size_t row, const std::byte* page, std::size_t i) {
  own(row);
  layout_->copy_row(table_[row / capacity].memory(), row % capacity, page, i);
}

void Lane::insert(std::size_t row, const std::byte* page, std::size_t i) {
  const std::size_t last = rows_;
  assert(row <= last);
  append(0, never);
  if (row != last) save(row, table_[last / capacity].memory(), last % capacity);
  restore(row, page, i);
}

void Lane::save_columns(std::vector<std::byte>& out) const {
  const std::size_t columns = layout_->column_bytes(), page = sizeof(PageEntry) + columns;
  std::size_t at = out.size();
  out.resize(at + table_.size() * page);
  for (const PageEntry& entry : table_) {
    std::memcpy(&out[at], &entry, sizeof entry);
    std::memcpy(&out[at + sizeof entry], entry.memory(), columns);
    at += page;
  }
  const auto put = [&](const void* from, std::size_t bytes) {
    const auto* const first = static_cast<const std::byte*>(from);
    out.insert(out.end(), first, first + bytes);
  };
  const std::size_t states = states_.size();
  put(&states, sizeof states);
  for (const State& state : states_) {
    const std::size_t size = state.numbers.size();
    put(&size, sizeof size);
    put(state.numbers.data(), size * sizeof(float));
  }
}

const std::byte* Lane::restore_columns(const std::byte* from) {
  const std::size_t columns = layout_->column_bytes();
  for (PageEntry& entry : table_) {
    PageEntry was;
    std::memcpy(&was, from, sizeof was);
    entry.earliest_until = was.earliest_until;
    entry.pinned = was.pinned;
    // A page that is shared has not been written to.
    if (entry.shared_in == nullptr) std::memcpy(entry.memory(), from + sizeof was, columns);
    from += sizeof was + columns;
  }
  const auto take = [&](void* to, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    from += bytes;
  };
  std::size_t count = 0, size = 0;
  take(&count, sizeof count);
  states_.erase(states_.begin() + static_cast<std::ptrdiff_t>(count), states_.end());  // those that came since
  for (State& state : states_) {
    take(&size, sizeof size);
    state.numbers.resize(size);
    take(state.numbers.data(), size * sizeof(float));
  }
  return from;
}

void Lane::own() const {
  for (const PageEntry& entry : table_) entry.own(layout_->bytes());
}

std::size_t Lane::shared_bytes() const {
  std::size_t sum = 0;
  for (const PageEntry& entry : table_) {
    if (entry.shared_in == nullptr) continue;
    if (pool_->is_shared(entry.page))
      sum += layout_->bytes();
    else
      entry.shared_in = nullptr;  // the others have left it
  }
  return sum;
}

void Lane::pin(std::size_t row, Position until) {
  own(row);
  unpin(row);
  this->row(row).reopen(until);
  table_[row / capacity].pinned |= bit(row);
}

void Lane::unpin(std::size_t row) { table_[row / capacity].pinned &= ~bit(row); }

std::vector<float>& Lane::state(std::string_view name) const {
  const auto found = std::ranges::find(states_, name, &State::name);
  return found != states_.end() ? found->numbers : states_.emplace_back(State{std::string(name)}).numbers;
}

std::size_t Lane::state_bytes() const {
  std::size_t sum = 0;
  for (const State& state : states_) sum += state.numbers.capacity() * sizeof(float);
  return sum;
}

void Lane::find_earliest_until(std::size_t page) const {
  Position earliest = never;
  for (const Position until : this->page(page).until()) earliest = std::min(earliest, until);
  table_[page].earliest_until = earliest;
}

void Lane::clear() {
  keep_emptied(Emptied::given);
  for (const PageEntry& entry : table_) pool_->give(entry.page, layout_->bytes());
  table_.clear();
  rows_ = 0;
  states_.clear();
}

void Lane::keep_channels(std::vector<std::uint16_t> kept) {
  assert(channels_ == nullptr && emptied_ == Emptied::given);
  PageLayout::Shape shape = layout_->shape();
  assert(kept.size() % shape.heads == 0);
  shape.key_dim = kept.size() / shape.heads;
  const PageLayout& whole = *layout_;
  channels_ = std::make_shared<const KeyChannels>(KeyChannels{PageLayout(shape), std::move(kept)});
  layout_ = &channels_->layout;
  std::vector<std::byte> copy(whole.bytes());
  std::vector<float> numbers(shape.head_dim);
  for (std::size_t p = 0; p < table_.size(); ++p) {
    PageEntry& entry = table_[p];
    std::memcpy(copy.data(), entry.page, copy.size());
    pool_->give(entry.page, whole.bytes());
    const PageEntry from{copy.data(), entry.earliest_until, entry.pinned};
    entry.page = pool_->take(layout_->bytes());
    entry.shared_in = nullptr;
    const std::size_t rows = page(p).rows();
    const Page source(whole, from, rows);
    whole.copy_but_keys(*layout_, entry.page, copy.data());
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t h = 0; h < shape.heads; ++h) {
        source.row(i).key(h, numbers);
        page(p).row(i).set_key(h, numbers);
      }
  }
}

void Lane::copy_from(const Lane& other) {
  assert(rows_ == 0 && pool_ == other.pool_);
  layout_ = other.layout_;
  channels_ = other.channels_;
  table_.reserve(other.table_.capacity());
  for (const PageEntry& entry : other.table_) {
    pool_->share(entry.page);
    entry.shared_in = pool_;
    table_.push_back(entry);
  }
  rows_ = other.rows_;
  states_ = other.states_;
}

}  // namespace pith::inline cache
