// SPDX-License-Identifier: MIT
// Columns: what a row remembers beside key and value, one f32 each, known by name. A policy asks for those that it
// judges by, and nobody pays for what nobody asks.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <string_view>
#include <vector>

namespace pith::inline cache {

/// A name. Columns that the library fills are listed below; any other is there for the policy that asks for it to fill
/// and read: 0 in a new row, and moved as the row moves.
class Column {
 public:
  /// `name`: a literal; at any rate a text that outlives the column.
  constexpr explicit Column(std::string_view name) : name_(name) {}
  constexpr std::string_view name() const { return name_; }
  constexpr bool operator==(const Column&) const = default;
  constexpr auto operator<=>(const Column&) const = default;

 private:
  std::string_view name_;
};

namespace column {
// Filled by attention, pass by pass.
inline constexpr Column mass{"mass"};      // attention received so far, summed over queries and heads
inline constexpr Column window{"window"};  // attention received from the last queries of the prompt
inline constexpr Column peak{"peak"};      // the most that one of those queries gave in one head
inline constexpr Column last{"last"};      // attention received from the last query

// A query attends to a row where it gives more than its even share of all that it sees, over the heads of the lane.
inline constexpr Column times{"times"};                  // queries that attended to it, its own counted as one
inline constexpr Column last_attended{"last_attended"};  // position of the latest of them

// Filled by the learned gate.
inline constexpr Column gate_logit{"gate_logit"};  // s - threshold - tau at the last query that judged the row

// Filled once, when the row is made.
inline constexpr Column value_norm{"value_norm"};  // Euclidean norm of the row's values, over the heads of its lane
}  // namespace column

/// A set of columns, ordered by name.
class Columns {
 public:
  Columns() = default;
  Columns(Column one) : all_{one} {}  // NOLINT(google-explicit-constructor): one is a set, too

  bool has(Column column) const { return std::ranges::binary_search(all_, column); }
  bool empty() const { return all_.empty(); }
  std::size_t size() const { return all_.size(); }
  auto begin() const { return all_.begin(); }
  auto end() const { return all_.end(); }
  bool operator==(const Columns&) const = default;

  friend Columns operator|(Columns a, const Columns& b) {
    for (const Column column : b)
      if (!a.has(column)) a.all_.insert(std::ranges::upper_bound(a.all_, column), column);
    return a;
  }

 private:
  std::vector<Column> all_;
};

/// Two columns by name, without asking for a set of one first.
inline Columns operator|(Column a, Column b) { return Columns(a) | Columns(b); }

}  // namespace pith::inline cache
