// SPDX-License-Identifier: MIT
// Texts at which generation stops, wherever the borders of tokens lie.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"

namespace pith {

/// A filter in a stream of text: lets through what cannot be the start of a stop text any more.
/// Stops where the first of the stop texts is complete; of two that end together, the longer one counts.
class PITH_API StopSequences {
 public:
  /// Throws Error (argument) for an empty one.
  explicit StopSequences(std::vector<std::string> stops = {});

  /// The text that has become certain, without the stop text; nothing once that was found.
  std::string push(std::string_view text);

  /// What was held back, as no more text follows.
  std::string flush();

  /// The one that was found, as an index into those given.
  std::optional<std::size_t> stopped() const { return stopped_; }

 private:
  std::size_t undecided() const;

  std::vector<std::string> stops_;
  std::string pending_;  // after push(): the longest end of the text that is the start of a stop text
  std::optional<std::size_t> stopped_;
};

}  // namespace pith
