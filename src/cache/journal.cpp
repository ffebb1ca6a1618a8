// SPDX-License-Identifier: MIT
#include "pith/cache/journal.hpp"

namespace pith::inline cache {

namespace {

constexpr std::size_t capacity = PageLayout::capacity;

}  // namespace

void Journal::Shelf::put(const Lane& lane, std::size_t row) {
  if (rows_ == pages_.size() * capacity) pages_.push_back(std::make_unique<std::byte[]>(lane.layout().bytes()));
  lane.save(row, pages_[rows_ / capacity].get(), rows_ % capacity);
  ++rows_;
}

Journal::Shelf& Journal::shelf(const Lane& lane) {
  for (Shelf& shelf : shelves_)
    if (shelf.holds(lane.layout())) return shelf;
  return shelves_.emplace_back(lane.layout());
}

template <class F>
void Journal::Shelf::take(F&& back) {
  --rows_;
  back(pages_[rows_ / capacity].get(), rows_ % capacity);
}

void Journal::begin(Position position, std::span<const Lane> lanes, const Lane* gate) {
  steps_.push_back({position, columns_.size(), changes_.size()});
  for (const Lane& lane : lanes) lane.save_columns(columns_);
  if (gate != nullptr) gate->save_columns(columns_);
}

void Journal::erasing(Lane& lane, std::size_t row) {
  shelf(lane).put(lane, row);
  changes_.push_back({Change::Kind::erase, &lane, row});
}

void Journal::changing(Lane& lane, std::size_t row) {
  shelf(lane).put(lane, row);
  changes_.push_back({Change::Kind::change, &lane, row});
}

void Journal::clear() {
  steps_.clear();
  columns_.clear();
  changes_.clear();
  for (Shelf& shelf : shelves_) shelf.clear();
}

std::size_t Journal::undo(Position length, std::span<Lane> lanes, Lane* gate) {
  std::size_t drops = 0;
  while (!steps_.empty() && steps_.back().position >= length) {
    const Step step = steps_.back();
    steps_.pop_back();
    for (; changes_.size() > step.changes; changes_.pop_back()) {
      const Change change = changes_.back();
      Lane* const lane = change.lane;
      switch (change.kind) {
        case Change::Kind::append:
          lane->erase(lane->rows() - 1);
          break;
        case Change::Kind::erase:
          shelf(*lane).take([&](const std::byte* page, std::size_t i) { lane->insert(change.row, page, i); });
          if (lane != gate) ++drops;
          break;
        case Change::Kind::change:
          shelf(*lane).take([&](const std::byte* page, std::size_t i) { lane->restore(change.row, page, i); });
          break;
        case Change::Kind::pass_over:
          ++drops;
          break;
      }
    }
    const std::byte* from = columns_.data() + step.columns;
    for (Lane& lane : lanes) from = lane.restore_columns(from);
    if (gate != nullptr) gate->restore_columns(from);
    columns_.resize(step.columns);
  }
  return drops;
}

}  // namespace pith::inline cache
