// SPDX-License-Identifier: MIT
// What is kept of a whole text: of the pairs (query, token at or before it), the fraction that is visible, by what sets
// them apart.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "kept.hpp"
#include "pith/drawing.hpp"
#include "token_class.hpp"

namespace pith::tool {

/// Pairs that have something in common.
struct Bin {
  std::string name;
  double pairs = 0;             // in one layer
  std::vector<double> visible;  // of these, by layer, mean over its lanes

  double kept() const;  // mean over layers
};

/// One way to set pairs apart; bins without a pair are left out.
struct View {
  std::string name;   // "class"
  std::string title;  // "by class of the token"
  std::vector<Bin> bins;
};

/// Window after window; holds sums alone.
class Aggregate {
 public:
  explicit Aggregate(std::size_t n_layers);

  /// A window: the class of each of its tokens, and when each was dropped.
  void add(std::span<const TokenClass> classes, const DropAt& drop_at);

  std::size_t windows() const { return windows_; }
  std::size_t tokens() const { return tokens_; }
  double kept() const { return all_.kept(); }
  std::vector<double> kept_per_layer() const;

  /// By layer, distance, class, position of the token, position of the query.
  std::vector<View> views() const;

 private:
  void count(std::vector<Bin>& bins, std::size_t bin, double pairs);
  void see(std::vector<Bin>& bins, std::size_t bin, std::size_t layer, double pairs);

  std::size_t n_layers_, windows_ = 0, tokens_ = 0;
  Bin all_;
  std::vector<Bin> distances_, classes_, positions_, queries_;  // by octave, or class
};

nlohmann::ordered_json to_json(const Aggregate& aggregate);

/// Columns view, bin, layer ("all" or its number), pairs, kept.
std::string to_csv(const Aggregate& aggregate);

/// A bar for each bin of each view.
Drawing draw_chart(const Aggregate& aggregate, const std::string& title);
std::string to_text(const Aggregate& aggregate);

}  // namespace pith::tool
