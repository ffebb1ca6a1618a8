// SPDX-License-Identifier: MIT
// What a sequence forgot, when, and by whom: a record of one generation or evaluation.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/drawing.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

/// The whole history of one sequence. Since a drop is final, it is one integer per (layer, lane, token); all that is
/// shown of it (who sees what, live counts, kept fractions) follows from these.
struct Trace {
  template <class T>
  using PerRow = std::vector<std::vector<std::vector<T>>>;  // [layer][lane][position]

  struct Pass {
    Position first = 0, next = 0;        // it fed the tokens [first, next)
    std::size_t kv_bytes = 0;            // pages in use after it
    std::vector<std::size_t> live_rows;  // per layer, over lanes, after it
  };

  std::vector<Token> tokens;
  PerRow<std::int32_t> drop_at;  // the first position that did not see the token, -1 = none
  PerRow<float> gate_score;      // the gate's s - threshold - tau at the drop; NaN: not dropped by it; empty: no gate
  std::vector<float> logprob;    // of each token given those before it, in nats; NaN: not known
  std::vector<float> entropy;    // of the distribution it was drawn from, in nats; NaN: not known
  std::vector<Pass> passes;
  double kv_row_bytes = 0;  // of one row of one lane, its share of a page
};

/// Of all pairs (query, token at or before it), the fraction that is visible: drop_at of one lane.
PITH_API double kept_fraction(std::span<const std::int32_t> drop_at);

/// Records the sequences of one session.
///
///     Tracer tracer;
///     Session session(model, tracer.attach(options));
///     …
///     Trace trace = tracer.trace(session, sequence);
class PITH_API Tracer {
 public:
  Tracer();
  ~Tracer();
  Tracer(Tracer&&) noexcept;
  Tracer& operator=(Tracer&&) noexcept;

  /// The same options, with drops and passes reported to this tracer as well; the session must not outlive it.
  SessionOptions attach(SessionOptions options);

  /// `token` stands at `position`, drawn (or given) where the model's answer was `logits`.
  void predicted(SequenceId sequence, std::size_t position, std::span<const float> logits, Token token);

  Trace trace(const Session& session, SequenceId sequence) const;

 private:
  struct PITH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a trace file says beside the trace itself.
struct TraceInfo {
  std::string model;   // its name
  std::string policy;  // prune::AnyPolicy::describe
  float tau = 0;
  KvPair kv = KvFormat::f32;
  std::size_t prompt_tokens = 0;  // the first so many tokens were given
};

/// The text of each token, a special one as it is spelled. A character that several tokens spell is the first one's,
/// and the others' is empty; U+FFFD for bytes that are no character.
PITH_API std::vector<std::string> pieces(std::span<const Token> tokens, const Tokenizer& tokenizer);

/// The trace as JSON, format pith-trace/1 (src/trace/pith-trace-1.schema.json).
PITH_API std::string to_json(const Trace& trace, const TraceInfo& info, const Config& config,
                             const Tokenizer& tokenizer);

/// A report that opens from disk, with no network: one or two traces, as to_json wrote them, in one HTML page.
PITH_API std::string to_html(std::string_view trace_json, std::string_view other_json = "null");

/// Fraction of the layers (and lanes) that still hold each token before query `now` attends.
PITH_API std::vector<float> held(const Trace& trace, std::size_t now);

/// How many rows of a layer each query sees, mean over its lanes: [position].
PITH_API std::vector<double> kept_rows(const std::vector<std::vector<std::int32_t>>& drop_at);

/// Both pictures of the paper (arXiv 2305.15805), of all layers together. The text, each token shaded by the fraction
/// of layers that hold it at the end and struck through where none does, with arrows from the tokens that dropped most
/// to what they dropped. And for each layer the map of who sees whom, columns tokens and rows queries, over a curve of
/// the rows that each query sees.
PITH_API Drawing draw(const Trace& trace, const Tokenizer& tokenizer);

/// Both pictures of one layer, where a token is dropped by one other (in each lane): arrows from every token to all
/// that it dropped, and the map of who sees whom. Throws Error (argument) for a layer that the trace has not.
PITH_API Drawing draw_layer(const Trace& trace, const Tokenizer& tokenizer, std::size_t layer);

/// As draw(), when `now` tokens had been fed (at least one), with arrows from the last of them to what it drops: a
/// frame of an animation. All frames of a trace have one size.
PITH_API Drawing draw_moment(const Trace& trace, const Tokenizer& tokenizer, std::size_t now);

}  // namespace pith
