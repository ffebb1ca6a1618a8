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
#include "session/setup.hpp"

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

  /// What a segment's rows have come to at the end of a stage waits there. `stream`: theirs, [count, d_model].
  void add(const Segment& segment, std::span<const Position> its_positions, std::size_t before,
           View<const float> stream);

  /// Those that are not in `stay`, which is ascending, are gone; returns them.
  std::vector<Position> leave(std::span<const Position> stay, std::size_t d_model);
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
  std::vector<Token> tokens = {};       // [fed]
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
  bool broken = false;                         // a step failed halfway; it can only be finished

  Position total() const { return fed + static_cast<Position>(pending.size()); }
  Prompt prompt() const { return prompts.empty() ? Prompt{} : prompts.back(); }

  /// To be fed behind all that there is. Throw Error (argument): nothing, more than the context holds, a token out of
  /// range, an embedding of another length or of numbers that are not finite.
  void append(const Setup& setup, std::span<const Token> more, Stretch stretch);
  void append(const Setup& setup, View<const float> embeddings, Stretch stretch);

  /// Throws Error (state) unless all of it has gone through all layers. `what`: the call.
  void require_rest(const char* what) const;

  /// Throws Error (state) where drafted tokens are neither verified nor taken back.
  void require_no_drafts(const char* what) const;

  /// The layers that its next tokens go through: a stage of its own, or all.
  Stage next_stage(const Setup& setup) const;

  /// How many tokens the next pass takes of it: as many as if it were alone, so that its chunks do not depend on
  /// others. 0: not one would fit.
  std::size_t next_chunk(const Setup& setup) const;

  /// The same, or as many chunks of a prompt as are whole, or its end, and at most `room` tokens.
  std::size_t next_chunks(const Setup& setup, std::size_t room) const;

  /// It is as far as a segment of the finished pass has brought it; `x` is the residual stream of the pass's rows.
  /// Returns after which of them, the segment's last ones, there are to be logits.
  std::size_t advance(const Setup& setup, const Pass& pass, const Segment& segment, View<const float> x);

  /// Of the tokens between, the pins alone stay.
  void compress(const Compression& one);

  /// A step failed halfway.
  void break_off() noexcept;

  /// It is what it was when it had `to` tokens, and nothing is pending: through its mark, or where nothing has
  /// changed since.
  void go_back(Position to);

  /// With all that it has come to, as another's past.
  void copy_from(const Sequence& other);

 private:
  std::size_t left() const;                                      // tokens up to where the next pass has to end
  bool fits_alone(const Setup& setup, std::size_t count) const;  // within the budget, were there no others
  void add(std::span<const Token> more, Stretch stretch);
  void narrow(const Setup& setup, const Stage& stage);
};

}  // namespace pith
