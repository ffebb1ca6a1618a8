// SPDX-License-Identifier: MIT
// One sequence of a session: what it was given, and how far it has come.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "pith/cache/kv_cache.hpp"
#include "pith/nn/pass.hpp"
#include "pith/prune/policy.hpp"
#include "pith/session.hpp"

namespace pith {

/// In place of a token, where an embedding was given.
inline constexpr Token no_token = -1;

/// What one call gave a sequence.
struct Stretch {
  enum class Kind {
    prompt,
    decoded,  // tokens that go one by one
    drafted,  // one that stops before Stretch::exit
  } kind;
  Position begin, end;
  Logits logits;
  std::size_t exit = 0;                // of a drafted token: the first layer that it does not go through
  std::vector<float> embeddings = {};  // [end - begin, d_model] in place of tokens
};

/// Rows of the residual stream that wait before a layer, in the order of their positions.
struct Halted {
  std::size_t layer = 0;  // 0: none wait
  std::vector<Position> positions = {};
  std::vector<float> rows = {};  // [positions][d_model]
  std::size_t done = 0;          // of them, the first ones, have gone through the stage that begins at the layer

  std::size_t left() const { return positions.size() - done; }
  View<const float> rows_from(std::size_t first, std::size_t count, std::size_t d_model) const {
    return {rows.data() + first * d_model, count, d_model};
  }

  /// Those that are not in `stay`, which is ascending, are gone; returns them.
  std::vector<Position> leave(std::span<const Position> stay, std::size_t d_model) {
    std::vector<Position> gone;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (!std::ranges::binary_search(stay, positions[i])) {
        gone.push_back(positions[i]);
        continue;
      }
      positions[kept] = positions[i];
      std::copy_n(&rows[i * d_model], d_model, &rows[kept * d_model]);
      ++kept;
    }
    positions.resize(kept);
    rows.resize(kept * d_model);
    return gone;
  }
};

/// Once the tokens [begin, end) are all read, the pins alone stay of them.
struct Compression {
  Position begin, end;
  std::vector<Position> pins;  // ascending
};

struct Sequence {
  struct Prompt {
    Position begin = 0, end = 0;
  };

  KvCache cache;
  prune::Scratch scratch = {};
  std::vector<Token> pending = {};      // not yet in the first layer
  std::vector<Stretch> stretches = {};  // that are not done, in order
  Position fed = 0;                     // tokens that have gone through the first layer,
  Position length = 0;                  // and through the last
  Halted halted = {};
  std::vector<Position> stay = {};   // of those, at the end of a stage
  std::vector<Prompt> prompts = {};  // that were begun, the latest last
  std::optional<float> tau = {};
  std::vector<Compression> compressions = {};  // to come
  std::optional<Position> mark = {};           // the length to which it can go back

  Position total() const { return fed + static_cast<Position>(pending.size()); }
  Prompt prompt() const { return prompts.empty() ? Prompt{} : prompts.back(); }
};

}  // namespace pith
