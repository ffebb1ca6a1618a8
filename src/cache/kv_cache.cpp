// SPDX-License-Identifier: MIT
#include "pith/cache/kv_cache.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>

namespace pith::inline cache {

void KvLayer::erase(std::size_t lane, std::size_t row, Position until) const {
  const std::size_t number = lanes().number(lane);
  Lane& from = lanes_[number];
  const Position born = from.born(row);
  ledger_->log.record(
      {layer_, number, born, until, ledger_->gate_logit ? from.evidence(ledger_->gate_logit, row) : 0.0f});
  if (Journal* const journal = ledger_->journal(layer_)) journal->erasing(from, row);
  from.erase(row);
  ledger_->change();
  if (gate_ != nullptr) ledger_->gone[layer_].push_back(born);
}

Row KvLayer::changing(std::size_t lane, std::size_t row) const {
  Lane& of = lanes_[lanes().number(lane)];
  of.own(row);
  ledger_->change();
  if (Journal* const journal = ledger_->journal(layer_)) journal->changing(of, row);
  return of.row(row);
}

void KvLayer::sweep(Position next) const {
  for (std::size_t l = 0; l < lanes_.size(); ++l)
    for (std::size_t page = lanes_[l].pages(); page-- > 0;) {
      if (lanes_[l].earliest_until(page) > next) continue;
      // From the back: the row that fills a hole has been looked at.
      const std::span<const Position> until = lanes_[l].page(page).until();
      for (std::size_t i = until.size(); i-- > 0;)
        if (until[i] <= next) erase(l, page * PageLayout::capacity + i, until[i]);
      if (page < lanes_[l].pages()) lanes_[l].find_earliest_until(page);
    }
  if (gate_ == nullptr || ledger_->gone[layer_].empty()) return;
  gate_->own();
  const auto row_of = gate_rows();
  const Slot holders = gate_->slot(column::holders);
  for (const Position born : ledger_->gone[layer_])
    gate_->evidence(holders, row_of[static_cast<std::size_t>(born)]) -= 1;
  ledger_->gone[layer_].clear();
  for (std::size_t row = gate_->rows(); row-- > 0;) {
    if (gate_->evidence(holders, row) != 0) continue;
    if (Journal* const journal = ledger_->journal(layer_)) journal->erasing(*gate_, row);
    gate_->erase(row);
  }
}

std::span<const std::uint32_t> KvLayer::gate_rows() const {
  auto& rows = ledger_->gate_rows;
  for (std::size_t p = 0, row = 0; p < gate_->pages(); ++p)
    for (const Position born : gate_->page(p).born()) {
      const auto at = static_cast<std::size_t>(born);
      if (at >= rows.size()) rows.resize(std::max(at + 1, 2 * rows.size()));
      rows[at] = static_cast<std::uint32_t>(row++);
    }
  return rows;
}

namespace {

std::vector<std::size_t> each_its_own(std::size_t n_layers) {
  std::vector<std::size_t> owners(n_layers);
  std::iota(owners.begin(), owners.end(), std::size_t{0});
  return owners;
}

}  // namespace

KvCache::KvCache(const KvLayouts& layouts, PagePool& pool, std::size_t n_layers, std::size_t lanes_per_layer,
                 std::size_t expected_rows, DropLog::Keep keep)
    : KvCache(layouts, pool, each_its_own(n_layers), lanes_per_layer, expected_rows, keep) {}

KvCache::KvCache(const KvLayouts& layouts, PagePool& pool, std::vector<std::size_t> owners, std::size_t lanes_per_layer,
                 std::size_t expected_rows, DropLog::Keep keep)
    : layouts_(&layouts),
      owners_(std::move(owners)),
      places_(owners_.size()),
      per_layer_(lanes_per_layer),
      ledger_{DropLog(keep, owners_.size(), lanes_per_layer), layouts.kv.slot(column::gate_logit),
              std::vector<std::vector<Position>>(layouts.gate ? owners_.size() : 0)} {
  std::size_t filled = 0;  // layers that fill lanes
  for (std::size_t layer = 0; layer < owners_.size(); ++layer) {
    assert(owners_[layer] <= layer && owners_[owners_[layer]] == owners_[layer]);
    if (owners_[layer] == layer) places_[layer] = filled++;
  }
  lanes_.reserve(filled * lanes_per_layer);
  for (std::size_t i = 0; i < filled * lanes_per_layer; ++i) lanes_.emplace_back(layouts.kv, pool, expected_rows);
  if (!layouts.gate) return;
  gates_.reserve(filled);
  for (std::size_t i = 0; i < filled; ++i) gates_.emplace_back(*layouts.gate, pool, expected_rows);
  ledger_.gate_rows.resize(expected_rows);
}

void KvCache::append(std::size_t layer, Position born, Position until) {
  const bool kept = std::ranges::binary_search(kept_ahead_, born);
  ledger_.end = std::max(ledger_.end, born + 1);
  Journal* const journal = ledger_.journal(layer);
  for (Lane& lane : lanes(layer)) {
    lane.append(born, until);
    if (journal != nullptr) journal->appended(lane);
    if (kept) lane.pin(lane.rows() - 1, until);
  }
  if (gates_.empty()) return;
  Lane& gate = gates_[place(layer)];
  if (journal != nullptr) journal->appended(gate);
  gate.append(born, until).evidence(gate.slot(column::holders)) = static_cast<float>(per_layer_);
}

void KvCache::keep(std::size_t layer, std::span<const Position> positions, int window) {
  std::vector<Position> kept(positions.begin(), positions.end());
  std::ranges::sort(kept);
  for (Lane& lane : lanes(layer))
    for (std::size_t row = 0; row < lane.rows(); ++row)
      if (const Position born = lane.born(row); std::ranges::binary_search(kept, born))
        lane.pin(row, window > 0 ? born + window : never);
}

void KvCache::keep_ahead(std::span<const Position> positions) {
  kept_ahead_.insert(kept_ahead_.end(), positions.begin(), positions.end());
  std::ranges::sort(kept_ahead_);
}

void KvCache::forget(std::size_t layer, std::span<const Position> positions, Position next) {
  std::vector<Position> forgotten(positions.begin(), positions.end());
  std::ranges::sort(forgotten);
  for (Lane& lane : lanes(layer))
    for (std::size_t row = 0; row < lane.rows(); ++row)
      if (std::ranges::binary_search(forgotten, lane.born(row))) {
        lane.unpin(row);
        lane.close(row, next);
      }
  sweep(layer, next);
}

std::size_t KvCache::rows(std::size_t layer) const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes(layer)) sum += lane.rows();
  return sum;
}

std::size_t KvCache::bytes() const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes_) sum += lane.bytes();
  for (const Lane& lane : gates_) sum += lane.bytes();
  return sum;
}

std::size_t KvCache::shared_bytes() const {
  std::size_t sum = 0;
  for (const auto* const all : {&lanes_, &gates_})
    for (const Lane& lane : *all) sum += lane.shared_bytes();
  return sum;
}

std::size_t KvCache::state_bytes() const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes_) sum += lane.state_bytes();
  return sum;
}

std::size_t KvCache::bytes_for(std::size_t rows_per_lane) const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes_) sum += lane.pages_for(rows_per_lane) * lane.layout().bytes();
  for (const Lane& lane : gates_) sum += lane.pages_for(rows_per_lane) * layouts_->gate->bytes();
  return sum;
}

std::size_t KvCache::bytes_of(std::size_t rows_per_lane) const {
  const std::size_t pages = (rows_per_lane + PageLayout::capacity - 1) / PageLayout::capacity;
  return pages *
         (lanes_.size() * layouts_->kv.bytes() + (gates_.empty() ? 0 : gates_.size() * layouts_->gate->bytes()));
}

void KvCache::mark() {
  commit();
  ledger_.marked = true;
  ledger_.journals.resize(layers());
  for (auto* const all : {&lanes_, &gates_})
    for (Lane& lane : *all) lane.keep_emptied(Lane::Emptied::held);
}

void KvCache::commit() {
  ledger_.marked = false;
  for (Journal& journal : ledger_.journals) journal.clear();
  for (auto* const all : {&lanes_, &gates_})
    for (Lane& lane : *all) lane.keep_emptied(Lane::Emptied::given);
}

Position KvCache::settled() const {
  const bool takes_notes = std::ranges::any_of(
      lanes_, [](const Lane& lane) { return !lane.layout().shape().evidence.empty() || !lane.states().empty(); });
  return takes_notes ? ledger_.end : ledger_.settled;
}

void KvCache::take_back(Position length) {
  assert(length >= settled());
  for (auto* const all : {&lanes_, &gates_})
    for (Lane& lane : *all)
      while (lane.rows() > 0 && lane.born(lane.rows() - 1) >= length) lane.erase(lane.rows() - 1);
  ledger_.end = std::min(ledger_.end, length);
}

void KvCache::begin_step(std::size_t layer, Position position) {
  // Columns are written to row by row, by many.
  if (!layouts_->kv.shape().evidence.empty())
    for (const Lane& lane : lanes(layer)) lane.own();
  if (Journal* const journal = ledger_.journal(layer))
    journal->begin(position, lanes(layer), gates_.empty() ? nullptr : &gates_[place(layer)]);
}

void KvCache::rewind(Position length) {
  for (std::size_t layer = 0; layer < ledger_.journals.size(); ++layer) {
    std::size_t drops =
        ledger_.journals[layer].undo(length, lanes(layer), gates_.empty() ? nullptr : &gates_[place(layer)]);
    while (drops-- > 0) ledger_.log.take_back(layer);
  }
  ledger_.end = std::min(ledger_.end, length);
  ledger_.settled = std::min(ledger_.settled, length);
}

void KvCache::pass_over(std::size_t layer, std::span<const Position> positions) {
  if (positions.empty()) return;
  begin_step(layer, positions.front());
  ledger_.end = std::max(ledger_.end, positions.back() + 1);
  ledger_.change();
  Journal* const journal = ledger_.journal(layer);
  for (const Position position : positions)
    for (std::size_t lane = 0; lane < per_layer_; ++lane) {
      ledger_.log.record({layer, lane, position, position});
      if (journal != nullptr) journal->passed_over();
    }
}

void KvCache::copy_from(const KvCache& other) {
  for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i].copy_from(other.lanes_[i]);
  for (std::size_t i = 0; i < gates_.size(); ++i) gates_[i].copy_from(other.gates_[i]);
  ledger_.log = other.ledger_.log;
  ledger_.end = other.ledger_.end;
  ledger_.settled = other.ledger_.settled;
  kept_ahead_ = other.kept_ahead_;
}

}  // namespace pith::inline cache
