// SPDX-License-Identifier: MIT
// What was done to the lanes of one layer, step by step, so that it can be undone.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/lane.hpp"

namespace pith::inline cache {

/// Columns are saved as a whole when a step begins; keys and values, which are many more, when their row leaves or is
/// written to. Changes are said before they are made, but for rows that were appended.
class PITH_API Journal {
 public:
  /// A step begins, which feeds tokens from `position` on: no step before it was later. `gate`: as KvLayer has it.
  void begin(Position position, std::span<const Lane> lanes, const Lane* gate);

  void appended(Lane& lane) { changes_.push_back({Change::Kind::append, &lane, 0}); }
  void erasing(Lane& lane, std::size_t row);
  void changing(Lane& lane, std::size_t row);
  void passed_over() { changes_.push_back({Change::Kind::pass_over, nullptr, 0}); }

  /// Nothing is left to be undone.
  void clear();

  /// Undoes the steps at `length` and later. Returns how many drops were on record of what they did.
  std::size_t undo(Position length, std::span<Lane> lanes, Lane* gate);

 private:
  struct Change {
    enum class Kind { append, erase, change, pass_over } kind;
    Lane* lane;
    std::size_t row;
  };
  struct Step {
    Position position;
    std::size_t columns, changes;  // where its own begin
  };

  /// Rows of one layout that were put away, the last of which comes back first.
  class Shelf {
   public:
    explicit Shelf(const PageLayout& layout) : bytes_(layout.bytes()), heads_(layout.shape().heads) {}
    bool holds(const PageLayout& layout) const { return layout.bytes() == bytes_ && layout.shape().heads == heads_; }
    void put(const Lane& lane, std::size_t row);
    /// back(page, i): the latest is row i of page.
    template <class F>
    void take(F&& back);
    void clear() { rows_ = 0; }

   private:
    std::size_t bytes_, heads_;
    std::vector<std::unique_ptr<std::byte[]>> pages_ = {};
    std::size_t rows_ = 0;
  };
  Shelf& shelf(const Lane& lane);

  std::vector<Step> steps_;
  std::vector<std::byte> columns_;
  std::vector<Change> changes_;
  std::vector<Shelf> shelves_;  // of whole keys, of each number of channels, of the gate
};

}  // namespace pith::inline cache
