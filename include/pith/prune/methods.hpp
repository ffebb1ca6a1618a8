// SPDX-License-Identifier: MIT
// The papers: each one line over the parts, its deviations named. Those that cut rows to a budget sum or average over
// the query heads that share a kv-head, and give kv-heads budgets; papers that count query heads have as many times
// more. All of them throw Error (argument) where an option is out of its range, or a budget below what is spared.
#pragma once

#include <limits>
#include <tuple>

#include "pith/api.hpp"
#include "pith/prune/budgets.hpp"
#include "pith/prune/channels.hpp"
#include "pith/prune/combinators.hpp"
#include "pith/prune/evict.hpp"
#include "pith/prune/intervals.hpp"
#include "pith/prune/narrow.hpp"
#include "pith/prune/option.hpp"
#include "pith/prune/policy.hpp"
#include "pith/prune/query_scorers.hpp"
#include "pith/prune/scorers.hpp"

namespace pith::prune {

/// Forgets nothing.
inline AnyPolicy none() { return {}; }

/// Dynamic Context Pruning (Anagnostidis et al., arXiv 2305.15805): the model's own learned gate, as trained at
/// tau = 0; a higher tau forgets more. Exact, token by token.
struct LearnedGateOptions {
  float tau = 0;

  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr std::tuple list = {
      Option{"tau", &LearnedGateOptions::tau, -infinity, "strength: 0 as trained, higher forgets more", infinity}};
};
inline AnyPolicy learned_gate(const LearnedGateOptions& o = {}) {
  check("gate", o);
  return LearnedGate{o.tau};
}

/// Dynamic Memory Sparsification (Lancucki et al., arXiv 2506.05345): what the checkpoint was taught to decide of each
/// token, a token later. Exact, token by token.
struct DmsOptions {
  int window = 0;

  static constexpr std::tuple list = {
      Option{"window", &DmsOptions::window, 0, "tokens that see a row which leaves; 0: as it was taught", 1 << 30}};
};
inline AnyPolicy dms(const DmsOptions& o = {}) {
  check("dms", o);
  return TaughtDecisions{o.window};
}

/// StreamingLLM (Xiao et al., arXiv 2309.17453): the first tokens and the latest ones. Exact, token by token.
/// Deviation: tokens keep their original positions; the paper renumbers those that are left.
struct StreamingOptions {
  int sinks = 4;
  int recent = 508;

  static constexpr std::tuple list = {Option{"sinks", &StreamingOptions::sinks, 0, "first tokens, which always stay"},
                                      Option{"recent", &StreamingOptions::recent, 1, "latest tokens that stay"}};
};
inline AnyPolicy streaming(const StreamingOptions& o = {}) {
  check("streaming", o);
  return SlidingWindow{o.sinks, o.recent};
}

/// What can be said to every method that keeps to a budget of rows.
struct BudgetOptions {
  float share = 0;
  int sinks = 4;
  int slack = 0;
  int merge = 0;

  static constexpr std::tuple list = {
      Option{"share", &BudgetOptions::share, 0, "rows, as a share of the tokens so far; 0: as rows says", 1},
      Option{"sinks", &BudgetOptions::sinks, 0, "first tokens, which always stay"},
      Option{"slack", &BudgetOptions::slack, 0, "rows above the budget before it is cut to; saves scoring"},
      Option{"merge", &BudgetOptions::merge, 0, "1: values of what leaves are folded into the rows most alike", 1}};
};

namespace detail {

/// A scorer within a budget: sinks and `recent` tokens are spared.
template <Scorer S, class B>
auto within(std::string_view method, const S& scorer, const B& budget, int rows, int recent, const BudgetOptions& o) {
  const long spared = long{recent} + o.sinks;
  if (o.share == 0 && rows < spared)
    fail(ErrorCode::argument, std::string(method) + ": rows",
         "at least the " + std::to_string(spared) + " that are spared as sinks and recent tokens",
         std::to_string(rows));
  return Evict{scorer, budget, Both{Sinks{o.sinks}, Recent{recent}}, Forget{o.merge != 0},
               static_cast<std::size_t>(o.slack)};
}

/// The same once a prompt, for every kv-head.
template <Scorer S, class B>
AnyPolicy at_prompts_end(std::string_view method, const S& scorer, const B& budget, int rows, int recent,
                         const BudgetOptions& o) {
  return on_prefill(per_head(within(method, scorer, budget, rows, recent, o)));
}

inline Rows rows_of(int rows, const BudgetOptions& o) { return {static_cast<std::size_t>(rows), o.share}; }

}  // namespace detail

/// H2O (Zhang et al., arXiv 2306.14048): the tokens that received most attention so far, and the latest ones, in every
/// kv-head. Acts once per forward pass: with a prefill chunk of 1, after every token as in the paper.
/// Deviation: sinks are spared.
struct H2oOptions {
  int rows = 1024;  // all that stay, sinks and recent ones included
  int recent = 256;
  int per_query = 0;

  static constexpr std::tuple list = {
      Option{"rows", &H2oOptions::rows, 1, "all that stay in a kv-head"},
      Option{"recent", &H2oOptions::recent, 0, "latest tokens, which always stay"},
      Option{"per_query", &H2oOptions::per_query, 0, "1: attention by query that could give it, not its sum", 1}};
};
inline AnyPolicy h2o(const H2oOptions& o = {}, const BudgetOptions& b = {}) {
  check("h2o", o, b);
  const Rows rows = detail::rows_of(o.rows, b);
  const auto judged_by = [&](const auto& scorer) -> AnyPolicy {
    return detail::within("h2o", scorer, rows, o.rows, o.recent, b);
  };
  return Method{spelled("h2o", o, b),
                per_head(o.per_query != 0 ? judged_by(PerQuery{column::mass}) : judged_by(attention_mass))};
}

/// TOVA (Oren et al., arXiv 2401.06104): the tokens to which the last query attends most, over all heads of a layer.
/// Acts once per forward pass: with a prefill chunk of 1, after every token as in the paper.
/// Deviation: sinks and the last token are spared.
struct TovaOptions {
  int rows = 1024;
  int recent = 1;

  static constexpr std::tuple list = {Option{"rows", &TovaOptions::rows, 1, "all that stay in a layer"},
                                      Option{"recent", &TovaOptions::recent, 0, "latest tokens, which always stay"}};
};
inline AnyPolicy tova(const TovaOptions& o = {}, const BudgetOptions& b = {}) {
  check("tova", o, b);
  return Method{spelled("tova", o, b), detail::within("tova", Joint{ColumnScore{column::last}},
                                                      detail::rows_of(o.rows, b), o.rows, o.recent, b)};
}

/// Attendre's LRA (Yang and Hua, arXiv 2401.04881): the tokens that a query attended to most recently, over all heads
/// of a layer. Acts once per forward pass: with a prefill chunk of 1, after every token as in the paper. Deviations: a
/// query attends to what gets at least its even share of the attention, where the paper retrieves the best k; sinks and
/// recent tokens are spared.
struct LraOptions {
  int rows = 1024;
  int recent = 32;

  static constexpr std::tuple list = {Option{"rows", &LraOptions::rows, 1, "all that stay in a layer"},
                                      Option{"recent", &LraOptions::recent, 0, "latest tokens, which always stay"}};
};
inline AnyPolicy lra(const LraOptions& o = {}, const BudgetOptions& b = {}) {
  check("lra", o, b);
  return Method{spelled("lra", o, b), detail::within("lra", ColumnScore{column::last_attended},
                                                     detail::rows_of(o.rows, b), o.rows, o.recent, b)};
}

/// Attendre's LFA (the same paper): the tokens that most queries attended to, with LRA's deviations.
struct LfaOptions {
  int rows = 1024;
  int recent = 32;
  int per_query = 0;

  static constexpr std::tuple list = {
      Option{"rows", &LfaOptions::rows, 1, "all that stay in a layer"},
      Option{"recent", &LfaOptions::recent, 0, "latest tokens, which always stay"},
      Option{"per_query", &LfaOptions::per_query, 0, "1: of the queries that could attend to it, not their number", 1}};
};
inline AnyPolicy lfa(const LfaOptions& o = {}, const BudgetOptions& b = {}) {
  check("lfa", o, b);
  const auto judged_by = [&](const auto& scorer) -> AnyPolicy {
    return detail::within("lfa", scorer, detail::rows_of(o.rows, b), o.rows, o.recent, b);
  };
  return Method{spelled("lfa", o, b),
                o.per_query != 0 ? judged_by(PerQuery{column::times}) : judged_by(ColumnScore{column::times})};
}

/// R-KV (Cai et al., arXiv 2505.24133): the tokens that the last `window` queries attend to and whose keys are not
/// those of later ones again, for long answers. Acts in prompts and answers, whenever a kv-head has `slack` rows more
/// than it may keep: with none, it costs rows^2 head_dim multiplications a token.
/// Deviation: sinks are spared.
struct RkvOptions {
  int rows = 1024;
  int window = 8;
  int pool = 7;
  float weight = 0.07f;
  float share = 0;
  int sinks = 4;
  int slack = 128;

  static constexpr std::tuple list = {
      Option{"rows", &RkvOptions::rows, 1, "all that stay in a kv-head"},
      Option{"window", &RkvOptions::window, 1, "latest tokens, whose queries count and which always stay"},
      Option{"pool", &RkvOptions::pool, 1, "neighbouring tokens over which the maximum is taken; odd"},
      Option{"weight", &RkvOptions::weight, 0, "of attention; the rest is that of redundancy", 1},
      Option{"share", &RkvOptions::share, 0, "rows, as a share of the tokens so far; 0: as rows says", 1},
      Option{"sinks", &RkvOptions::sinks, 0, "first tokens, which always stay"},
      Option{"slack", &RkvOptions::slack, 0, "rows above the budget before it is cut to; saves scoring"}};
};
inline AnyPolicy rkv(const RkvOptions& o = {}) {
  check("rkv", o);
  require(o.pool % 2 == 1, ErrorCode::argument, "rkv: pool must be odd");
  const BudgetOptions b{.share = o.share, .sinks = o.sinks, .slack = o.slack};
  return Method{spelled("rkv", o), per_head(detail::within("rkv", Redundancy{o.window, o.pool, o.weight},
                                                           detail::rows_of(o.rows, b), o.rows, o.window, b))};
}

/// SnapKV (Li et al., arXiv 2404.14469): at the end of the prompt, keeps in every kv-head the tokens to which the
/// prompt's last `window` tokens attend most, with their neighbours before the window, and the window itself.
/// Deviation: sinks are spared.
struct SnapKvOptions {
  int rows = 2048;  // all that stay, sinks and window included
  int window = 32;
  int pool = 7;
  int average = 0;

  static constexpr std::tuple list = {
      Option{"rows", &SnapKvOptions::rows, 1, "all that stay in a kv-head"},
      Option{"window", &SnapKvOptions::window, 1, "last tokens of the prompt, whose attention counts"},
      Option{"pool", &SnapKvOptions::pool, 1, "neighbouring tokens over which the maximum is taken; odd"},
      Option{"average", &SnapKvOptions::average, 0, "1: the mean over neighbours in place of the maximum", 1}};
};

namespace detail {

inline ObservationWindow observation(std::string_view method, const SnapKvOptions& o) {
  require(o.pool % 2 == 1, ErrorCode::argument, std::string(method) + ": pool must be odd");
  return {o.window, o.pool, o.average != 0};
}

}  // namespace detail

inline AnyPolicy snapkv(const SnapKvOptions& o = {}, const BudgetOptions& b = {}) {
  check("snapkv", o, b);
  return Method{spelled("snapkv", o, b), detail::at_prompts_end("snapkv", detail::observation("snapkv", o),
                                                                detail::rows_of(o.rows, b), o.rows, o.window, b)};
}

/// FastKV (Jo et al., arXiv 2502.01068): SnapKV with the mean over neighbours; and after one layer only the prompt's
/// `tokens` to which its end attends most, over all heads, go on, so that the other layers never work on the rest.
/// Where logits after every token are asked for, all tokens go on. Deviation: sinks are spared.
struct FastKvOptions {
  int rows = 512;  // all that stay, sinks and window included
  int window = 8;
  int pool = 7;
  int tokens = 2048;  // sinks and window included
  float tokens_share = 0;
  int layer = -1;

  static constexpr std::tuple list = {
      Option{"rows", &FastKvOptions::rows, 1, "all that stay in a kv-head"},
      Option{"window", &FastKvOptions::window, 1, "last tokens of the prompt, whose attention counts"},
      Option{"pool", &FastKvOptions::pool, 1, "neighbouring tokens over which the mean is taken; odd"},
      Option{"tokens", &FastKvOptions::tokens, 1, "of the prompt that go on"},
      Option{"tokens_share", &FastKvOptions::tokens_share, 0, "the same as a share of the prompt; 0: as tokens says",
             1},
      Option{"layer", &FastKvOptions::layer, -1, "after which the others leave; -1: the one before the middle"}};
};
inline AnyPolicy fastkv(const FastKvOptions& o = {}, const BudgetOptions& b = {}) {
  check("fastkv", o, b);
  const ObservationWindow scorer = detail::observation("fastkv", {.window = o.window, .pool = o.pool, .average = 1});
  const long spared = long{o.window} + b.sinks;
  if (o.tokens_share == 0 && o.tokens < spared)
    fail(ErrorCode::argument, "fastkv: tokens",
         "at least the " + std::to_string(spared) + " that are spared as sinks and window", std::to_string(o.tokens));
  const Narrow narrow{scorer, AfterOne{{static_cast<std::size_t>(o.tokens), o.tokens_share}, o.layer},
                      Both{Sinks{b.sinks}, Recent{o.window}}};
  return Method{spelled("fastkv", o, b),
                per_head(chain(AnyPolicy(narrow), detail::at_prompts_end("fastkv", scorer, detail::rows_of(o.rows, b),
                                                                         o.rows, o.window, b)))};
}

/// PyramidInfer (Yang et al., arXiv 2405.12532): after every layer a few more of a prompt's tokens leave, those to
/// which its last `window` tokens attend least, over all heads; of an answer, whenever `every` tokens have left its
/// last `window`, those to which it has attended least. Deviations: the window is a number of tokens, not a fifth of
/// the prompt, and its queries count alike; a token of an answer is judged by all queries since its own, which are more
/// than the window's by up to `every`.
struct PyramidInferOptions {
  float share = 0.9f;
  int window = 65;
  int least = 64;
  int sinks = 4;
  int every = 16;
  float answer = 0.9f;
  float answer_last = 0.1f;

  static constexpr std::tuple list = {
      Option{"share", &PyramidInferOptions::share, 0, "of a layer's tokens that go on, towards the last layer", 1},
      Option{"window", &PyramidInferOptions::window, 1,
             "last tokens of the prompt, which go on, and whose attention counts"},
      Option{"least", &PyramidInferOptions::least, 0, "tokens before the window of which all go on"},
      Option{"sinks", &PyramidInferOptions::sinks, 0, "first tokens, which always go on"},
      Option{"every", &PyramidInferOptions::every, 0, "tokens of an answer judged together; 0: none are"},
      Option{"answer", &PyramidInferOptions::answer, 0, "share of them that stays in the first layer", 1},
      Option{"answer_last", &PyramidInferOptions::answer_last, 0, "of that share what the last layers come near", 1}};
};
inline AnyPolicy pyramidinfer(const PyramidInferOptions& o = {}) {
  check("pyramidinfer", o);
  const Narrow prompt{ObservationWindow{o.window, 1}, AfterEach{o.share, o.window, o.least},
                      Both{Sinks{o.sinks}, Recent{o.window}}};
  const LeavingAnswer leaving{o.window, o.every, o.answer, o.answer_last};
  const AnyPolicy answers = o.every > 0 ? AnyPolicy(Evict{Joint{PerQuery{column::mass}}, leaving, leaving}) : none();
  return Method{spelled("pyramidinfer", o), chain(AnyPolicy(prompt), answers)};
}

/// Ada-KV (Feng et al., arXiv 2407.11550): SnapKV, but the kv-heads of a layer share their rows: each keeps its best
/// `floor` of what it would have alone, and the rest goes where attention is.
struct AdaKvOptions {
  float floor = 0.2f;

  static constexpr std::tuple list = {
      Option{"floor", &AdaKvOptions::floor, 0, "part of its even share that a kv-head is sure of", 1}};
};
inline AnyPolicy adakv(const SnapKvOptions& o = {}, const AdaKvOptions& a = {}, const BudgetOptions& b = {}) {
  check("adakv", o, a, b);
  const SharedRows rows{detail::rows_of(o.rows, b), a.floor};
  return Method{spelled("adakv", o, a, b),
                detail::at_prompts_end("adakv", detail::observation("adakv", o), rows, o.rows, o.window, b)};
}

/// PyramidKV (Cai et al., arXiv 2406.02069): SnapKV with more rows in lower layers, and fewer in higher ones.
/// Deviation: what layers get is rounded so that its sum is exact.
struct PyramidKvOptions {
  float steepness = 20;

  static constexpr std::tuple list = {
      Option{"steepness", &PyramidKvOptions::steepness, 1, "average over what the last layer gets, window apart"}};
};
inline AnyPolicy pyramidkv(const SnapKvOptions& o = {}, const PyramidKvOptions& p = {}, const BudgetOptions& b = {}) {
  check("pyramidkv", o, p, b);
  const PyramidRows rows{detail::rows_of(o.rows, b), o.window, p.steepness};
  return Method{spelled("pyramidkv", o, p, b),
                detail::at_prompts_end("pyramidkv", detail::observation("pyramidkv", o), rows, o.rows, o.window, b)};
}

/// CriticalKV (Feng et al., arXiv 2502.03805): SnapKV, where half of what stays is chosen by what its values come to in
/// the layer's output, too. With `floor` below 1 over Ada-KV's budget.
struct CriticalKvOptions {
  float floor = 1;

  static constexpr std::tuple list = {
      Option{"floor", &CriticalKvOptions::floor, 0, "part of its even share that a kv-head is sure of", 1}};
};
inline AnyPolicy criticalkv(const SnapKvOptions& o = {}, const CriticalKvOptions& c = {}, const BudgetOptions& b = {}) {
  check("criticalkv", o, c, b);
  const Rows rows = detail::rows_of(o.rows, b);
  const Critical scorer{detail::observation("criticalkv", o), rows, Both{Sinks{b.sinks}, Recent{o.window}}, o.window};
  return Method{spelled("criticalkv", o, c, b),
                detail::at_prompts_end("criticalkv", scorer, SharedRows{rows, c.floor}, o.rows, o.window, b)};
}

/// DefensiveKV (Feng et al., arXiv 2510.13334): Ada-KV that judges a token by the most that one query of the window
/// gave it rather than by the sum, so that what matters once is not lost, and by what its values come to in the layer's
/// output.
/// Deviations: sinks are spared; the maximum over neighbours is taken of that most, where the paper averages every
/// query's attention over them first.
struct DefensiveKvOptions {
  int rows = 2048;
  int window = 32;
  int pool = 5;
  float sure = 0.9f;

  static constexpr std::tuple list = {
      Option{"rows", &DefensiveKvOptions::rows, 1, "all that stay in a kv-head, on average"},
      Option{"window", &DefensiveKvOptions::window, 1, "last tokens of the prompt, whose attention counts"},
      Option{"pool", &DefensiveKvOptions::pool, 1, "neighbouring tokens over which the maximum is taken; odd"},
      Option{"sure", &DefensiveKvOptions::sure, 0, "part of all attention whose tokens stay first of all", 1}};
};

namespace detail {

inline WorstCase worst_case(std::string_view method, const DefensiveKvOptions& o, const BudgetOptions& b) {
  require(o.pool % 2 == 1, ErrorCode::argument, std::string(method) + ": pool must be odd");
  return {o.window, o.pool, rows_of(o.rows, b), b.sinks, o.sure};
}

}  // namespace detail

inline AnyPolicy defensivekv(const DefensiveKvOptions& o = {}, const AdaKvOptions& a = {},
                             const BudgetOptions& b = {}) {
  check("defensivekv", o, a, b);
  const SharedRows rows{detail::rows_of(o.rows, b), a.floor};
  return Method{
      spelled("defensivekv", o, a, b),
      detail::at_prompts_end("defensivekv", detail::worst_case("defensivekv", o, b), rows, o.rows, o.window, b)};
}

/// Layer-DefensiveKV (the same paper): DefensiveKV whose rows go where they are worth most in all layers together.
/// Layers with a sliding window of their own have no part in it.
inline AnyPolicy layer_defensivekv(const DefensiveKvOptions& o = {}, const BudgetOptions& b = {}) {
  check("layer_defensivekv", o, b);
  const RowsOfLayers rows{detail::rows_of(o.rows, b)};
  return Method{spelled("layer_defensivekv", o, b),
                detail::at_prompts_end("layer_defensivekv", detail::worst_case("layer_defensivekv", o, b), rows, o.rows,
                                       o.window, b)};
}

/// What is judged by keys and values alone.
struct RowsOptions {
  int rows = 1024;  // all that stay, sinks and recent ones included
  int recent = 32;

  static constexpr std::tuple list = {Option{"rows", &RowsOptions::rows, 1, "all that stay in a kv-head"},
                                      Option{"recent", &RowsOptions::recent, 0, "latest tokens, which always stay"}};
};

/// KeyDiff (Park et al., arXiv 2504.15364): the tokens whose keys differ most from the others'. Acts once per forward
/// pass, in prompts too, whose memory is bounded by that.
/// Deviation: sinks and recent tokens are spared.
inline AnyPolicy keydiff(const RowsOptions& o = {}, const BudgetOptions& b = {}) {
  check("keydiff", o, b);
  return Method{spelled("keydiff", o, b),
                per_head(detail::within("keydiff", KeyDifference{}, detail::rows_of(o.rows, b), o.rows, o.recent, b))};
}

/// The tokens with the shortest keys (Devoto et al., arXiv 2406.11430). Acts once per forward pass.
/// Deviation: sinks and recent tokens are spared.
inline AnyPolicy knorm(const RowsOptions& o = {}, const BudgetOptions& b = {}) {
  check("knorm", o, b);
  return Method{spelled("knorm", o, b),
                per_head(detail::within("knorm", KeyNorm{}, detail::rows_of(o.rows, b), o.rows, o.recent, b))};
}

/// CurDKV (arXiv 2509.15038): at the end of the prompt, the tokens with long keys and long values among their
/// neighbours.
/// Deviation: recent tokens are spared.
inline AnyPolicy curdkv(const RowsOptions& o = {}, const BudgetOptions& b = {}) {
  check("curdkv", o, b);
  return Method{spelled("curdkv", o, b),
                detail::at_prompts_end("curdkv", NormShare{}, detail::rows_of(o.rows, b), o.rows, o.recent, b)};
}

/// Expected Attention (Devoto et al., arXiv 2510.00636): at the end of the prompt, the tokens that queries yet to come
/// can be expected to attend to, as the prompt's queries were distributed. With `floor` below 1 over Ada-KV's budget.
/// Deviations: recent tokens are spared; a model's own scale of scores is used, its cap on them is not.
struct ExpectedAttentionOptions {
  int cov = 2;
  float epsilon = 0;
  int ahead = 512;
  float floor = 1;

  static constexpr std::tuple list = {
      Option{"cov", &ExpectedAttentionOptions::cov, 0, "covariance of queries: 2 full, 1 its diagonal, 0 none", 2},
      Option{"epsilon", &ExpectedAttentionOptions::epsilon, 0,
             "added to the attention, before it is weighed by values"},
      Option{"ahead", &ExpectedAttentionOptions::ahead, 1, "positions to come that count", 65536},
      Option{"floor", &ExpectedAttentionOptions::floor, 0, "part of its even share that a kv-head is sure of", 1}};
};
inline AnyPolicy expected_attention(const RowsOptions& o = {}, const ExpectedAttentionOptions& e = {},
                                    const BudgetOptions& b = {}) {
  check("expected_attention", o, e, b);
  const ExpectedAttention scorer{b.sinks, static_cast<ExpectedAttention::Covariance>(e.cov), e.epsilon, e.ahead};
  const SharedRows rows{detail::rows_of(o.rows, b), e.floor};
  return Method{spelled("expected_attention", o, e, b),
                detail::at_prompts_end("expected_attention", scorer, rows, o.rows, o.recent, b)};
}

/// Leverage (Chari and Van Durme, arXiv 2507.08143): at the end of the prompt, the tokens whose keys stand out from the
/// others'. Deviation: recent tokens are spared.
struct LeverageOptions {
  int sketch = 48;
  int seed = 1;

  static constexpr std::tuple list = {
      Option{"sketch", &LeverageOptions::sketch, 1, "dimensions to which keys are projected", 1024},
      Option{"seed", &LeverageOptions::seed, 0, "of the random projection"}};
};
inline AnyPolicy leverage(const RowsOptions& o = {}, const LeverageOptions& l = {}, const BudgetOptions& b = {}) {
  check("leverage", o, l, b);
  return Method{spelled("leverage", o, l, b),
                detail::at_prompts_end("leverage", Leverage{b.sinks, o.recent, l.sketch, l.seed},
                                       detail::rows_of(o.rows, b), o.rows, o.recent, b)};
}

/// Compactor (the same paper): leverage and, more so, attention among the prompt's tokens themselves, each block of
/// them seen by all of it. Deviations: the attention is scaled as the model's is, and the last block counts what it has
/// (the published program does neither); each kv-head's scores are put on one scale by themselves.
struct CompactorOptions {
  float blend = 0.35f;
  int block = 256;

  static constexpr std::tuple list = {
      Option{"blend", &CompactorOptions::blend, 0,
             "weight of leverage beside attention; the share that leaves is a good one"},
      Option{"block", &CompactorOptions::block, 1, "tokens that are seen together"}};
};
inline AnyPolicy compactor(const RowsOptions& o = {}, const CompactorOptions& c = {}, const LeverageOptions& l = {},
                           const BudgetOptions& b = {}) {
  check("compactor", o, c, l, b);
  const BlockAttention scorer{Leverage{b.sinks, o.recent, l.sketch, l.seed}, c.blend, c.block};
  return Method{spelled("compactor", o, c, l, b),
                detail::at_prompts_end("compactor", scorer, detail::rows_of(o.rows, b), o.rows, o.recent, b)};
}

/// D2O (Wan et al., arXiv 2406.13035): H2O from the prompt's end on, with more rows in layers whose attention is
/// spread, which folds what leaves into what stays where their keys are alike enough. Deviations: query heads that
/// share a kv-head are summed up before their variance is taken; the recent tokens that are spared are a number, not a
/// part of each layer's rows; only values are folded (the paper folds turned keys, too), and a fold of nobody's is no
/// fold: the row's own weight is e, as in the paper, not 1, as in its program; thresholds are each kv-head's; layers
/// with a sliding window of their own have no part in it.
struct D2oOptions {
  int rows = 1024;
  int recent = 64;
  float memory = 0.5f;
  int first = 2;
  int last = 1;
  float share = 0;
  int sinks = 4;
  int slack = 0;

  static constexpr std::tuple list = {
      Option{"rows", &D2oOptions::rows, 1, "all that stay in a kv-head, on average over the layers"},
      Option{"recent", &D2oOptions::recent, 0, "latest tokens, which always stay"},
      Option{"memory", &D2oOptions::memory, 0, "part of the threshold that it keeps at each cut", 1},
      Option{"first", &D2oOptions::first, 0, "layers from the first on that keep everything"},
      Option{"last", &D2oOptions::last, 0, "layers up to the last that keep everything"},
      Option{"share", &D2oOptions::share, 0, "rows, as a share of a prompt's tokens; 0: as rows says", 1},
      Option{"sinks", &D2oOptions::sinks, 0, "first tokens, which always stay"},
      Option{"slack", &D2oOptions::slack, 0, "rows above the budget before it is cut to; saves scoring"}};
};
inline AnyPolicy d2o(const D2oOptions& o = {}) {
  check("d2o", o);
  const BudgetOptions b{.share = o.share, .sinks = o.sinks, .slack = o.slack};
  const auto [scorer, budget, spare, reclaim, slack] = detail::within(
      "d2o", attention_mass, RowsByDensity{detail::rows_of(o.rows, b), o.first, o.last}, o.rows, o.recent, b);
  return Method{spelled("d2o", o), per_head(Evict{scorer, budget, spare, Fold{MergeAlike{o.memory}}, slack})};
}

/// LagKV (Liang et al., arXiv 2504.04704): at the end of the prompt, of each part of `lag` tokens those that are
/// strangest to the next part; sinks, the last whole part and what follows it always stay.
struct LagKvOptions {
  int rows = 1024;
  int lag = 128;

  static constexpr std::tuple list = {
      Option{"rows", &LagKvOptions::rows, 1, "all that stay in a kv-head, if so many may leave"},
      Option{"lag", &LagKvOptions::lag, 2, "tokens in a part"}};
};
inline AnyPolicy lagkv(const LagKvOptions& o = {}, const BudgetOptions& b = {}) {
  check("lagkv", o, b);
  return Method{spelled("lagkv", o, b), detail::at_prompts_end("lagkv", LagDeviation{b.sinks, o.lag},
                                                               detail::rows_of(o.rows, b), o.rows, 0, b)};
}

/// ThinK (Xu et al., arXiv 2407.21018): at the end of the prompt, the keys of every kv-head keep a share of their
/// channels, those that its queries meet most. Drops no rows: what it saves is key bytes of all of them.
/// Deviation: rows of the latest tokens are no exception.
struct ThinkOptions {
  float channels = 0.5f;
  int window = 32;

  static constexpr std::tuple list = {
      Option{"channels", &ThinkOptions::channels, 0, "share of the channels that stays, in whole blocks of the format",
             1},
      Option{"window", &ThinkOptions::window, 1, "last tokens of the prompt, whose queries count"}};
};
inline AnyPolicy think(const ThinkOptions& o = {}) {
  check("think", o);
  return Method{spelled("think", o), MostMetChannels{o.channels, o.window}};
}

/// SimLayerKV (Zhang et al., arXiv 2410.13846): at the end of the prompt, layers whose last query attends to little but
/// sinks and recent tokens keep those alone; the others keep everything.
struct SimLayerKvOptions {
  int sinks = 4;
  int recent = 1024;
  float threshold = 0.9f;

  static constexpr std::tuple list = {
      Option{"sinks", &SimLayerKvOptions::sinks, 0, "first tokens, which always stay"},
      Option{"recent", &SimLayerKvOptions::recent, 1, "latest tokens, which always stay"},
      Option{"threshold", &SimLayerKvOptions::threshold, 0, "share of attention on them that makes a layer lazy", 1}};
};
inline AnyPolicy simlayerkv(const SimLayerKvOptions& o = {}) {
  check("simlayerkv", o);
  return Method{spelled("simlayerkv", o), on_prefill(Evict{Recency{}, LazyLayers{o.sinks, o.recent, o.threshold},
                                                           Both{Sinks{o.sinks}, Recent{o.recent}}})};
}

}  // namespace pith::prune
