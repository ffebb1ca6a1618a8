// SPDX-License-Identifier: MIT
// What kv-heads are worth to be kept whole, as files say it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "pith/api.hpp"

namespace pith::prune {

/// Of every kv-head of a model. Only their order counts.
struct PITH_API HeadScores {
  std::string file;                        // where they are from, as it was named; empty: from nowhere
  std::vector<std::vector<float>> scores;  // [layer][kv-head]; minus infinity: none, it is never kept whole

  /// A JSON object { "layer-head": score } with all kv-heads of all layers, as `pith heads` writes it, null for those
  /// of layers with a sliding window of their own, where there is nothing to be kept whole; or the gates of
  /// DuoAttention (arXiv 2410.10819): a line for each layer, with a number for each kv-head, between tabs or blanks.
  /// Throws Error (file, format).
  static HeadScores read(const std::filesystem::path& file);

  std::size_t layers() const { return scores.size(); }
  std::size_t kv_heads() const { return scores.empty() ? 0 : scores.front().size(); }

  /// The layers that have a head with a score.
  std::vector<std::size_t> scored() const;

  /// The heads of each layer, ascending, that are not among the best `share` of those with a score (rounded to whole
  /// heads). Of equals, those of the lower layer are better, then the lower head.
  std::vector<std::vector<std::size_t>> others(float share) const;
};

}  // namespace pith::prune
