// SPDX-License-Identifier: MIT
// What may be forgotten. A policy works on one sequence at a time, at three moments of each forward pass:
//   before a layer's attention, it may close rows: set the position from which they are not seen (exact, token by
//   token); after it, it may judge the layer's rows by the evidence they carry and evict some (once per pass); after
//   the pass, it may judge the rows of all layers together.
// Policies hold no state of their own: what they must remember travels with the rows, or with their lane
// (Lane::state).
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/kv_cache.hpp"
#include "pith/prune/rotation.hpp"
#include "pith/tensor/matrix.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/tensor.hpp"
#include "pith/tensor/view.hpp"

namespace pith::prune {

/// A file that a policy was made of, and the shape of the only models that it says something about.
struct MadeFor {
  std::string file;
  std::size_t layers = 0, kv_heads = 0;
  std::size_t d_model = 0;  // 0: any
  std::vector<std::size_t> lasting =
      {};  // layers that may have no sliding window of their own, in which rows die anyway

  bool operator==(const MadeFor&) const = default;
};

/// What a policy wants to be computed and kept for it.
struct PITH_API Needs {
  bool gate = false;           // the checkpoint's learned gates: keys in the rows, queries at each pass
  bool decisions = false;      // the checkpoint's own, at each pass
  bool lane_per_head = false;  // a lane for each kv-head, so that heads may forget differently
  Columns evidence = {};       // of the rows
  int window = 0;              // the last tokens of a prompt, whose attention column::window collects
  std::size_t layers = 0;      // the model must have at least so many layers
  std::size_t kv_heads = 0;    // and kv-heads
  std::size_t key_blocks = 1;  // and keys of at least so many blocks of the format that they are stored in
  bool after_pass = false;     // it judges layers together, and the model must have some without a sliding window
  std::vector<MadeFor> made_for = {};

  /// What two policies want together. Throws Error (unsupported) when they observe windows of different lengths.
  Needs operator|(const Needs& other) const;
};

/// The learned gates' side of a pass: s[n, j] = queries[n - first] . key[j] * scale + bias, to be above threshold. A
/// layer has one gate for all its lanes, or one for each.
struct GateQueries {
  View<const float> queries;  // [next - first, gates * gate_dim]
  float scale = 1;
  std::span<const float> bias = {};  // [gates]
  float threshold = 0;
  int recent = 1;                 // the first token that may drop j is j + recent
  int sinks = 0;                  // the tokens before this one are not judged
  std::optional<float> tau = {};  // the sequence's own, in place of the policy's
};

/// A checkpoint's own word on its rows (DMS, Lancucki et al., arXiv 2506.05345): where logits[n - first][kv-head] > 0,
/// the row of token n - 1 is to be seen by `window` tokens behind its own and no more.
struct Decisions {
  View<const float> logits = {};  // [next - first, kv-heads]
  int window = 0;
};

struct LayerMoment;

/// Memory that a policy may use during one call; kept between calls, so that steady use allocates nothing.
struct Scratch {
  std::vector<float> values;
  std::vector<std::vector<float>> scores;              // [lane][row]
  std::vector<std::size_t> keep;                       // [lane]
  std::vector<std::size_t> order;                      // [row]
  std::vector<std::size_t> nearest;                    // [victim] a row
  std::vector<Position> until;                         // [row]
  std::vector<float> sums;                             // [position]
  std::vector<float> lane_scores;                      // [row]
  std::vector<std::pair<float, std::size_t>> contest;  // (score, lane)
  std::vector<float> numbers;                          // [head_dim] of one row
  std::vector<float> mean;                             // [head_dim]
  std::vector<float> squares, weights;                 // [row]
  std::vector<float> keys, folded;                     // [row][head_dim]
  std::vector<float> outputs, block;                   // of products with Moment::wo
  Activations input;                                   // Moment::input, to be multiplied
  Activations hidden;                                  // what a gate makes of it on the way
  Tensor<float> products[2];
  std::vector<float> turns;         // of Rotation::mean
  std::vector<LayerMoment> layers;  // what AnyPolicy::after_pass is given
};

/// Where a pass stands.
struct Moment {
  std::size_t n_layers = 0;
  Position first = 0, next = 0;  // this pass feeds the tokens [first, next)
  Position prompt_begin = 0;     // the first token of the latest prompt
  Position prompt_end = 0;       // one past its last token
  GateQueries gate;              // where Needs::gate
  Decisions decisions = {};      // where Needs::decisions
  std::size_t group = 1;         // query heads that share a kv-head
  View<const float> q = {};      // [next - first, query heads * head_dim] queries, turned; empty after the pass
  float query_scale = 1;         // of q . k
  float score_cap = 0;           // c tanh(score / c) of the scaled q . k; 0: none
  Rotation rotation = {};        // what has turned queries and keys
  const Matrix* wo = nullptr;    // [d_model, query heads * head_dim] what turns attended values into the layer's output
  View<const float> input = {};  // [next - first, d_model] what q, k and v are made of; empty after the pass
  Threads threads = {};          // this one alone
  Scratch* scratch = nullptr;

  bool reads_prompt() const { return first < prompt_end; }
  bool ends_prompt() const { return first < prompt_end && next >= prompt_end; }
};

/// A layer, and where the pass stands there: what after_attention was given, but for queries.
struct LayerMoment {
  KvLayer layer;
  Moment moment;
};

/// A policy says what it needs and acts at one or more of three moments: before attention, after it, and after the
/// pass, on the layers that have no sliding window of their own (Needs::after_pass). It may not throw: sequences are
/// worked on in parallel.
template <class P>
concept ActsBefore = requires(const P& policy, const KvLayer& layer, const Moment& moment) {
  policy.before_attention(layer, moment);
};
template <class P>
concept ActsAfter = requires(const P& policy, const KvLayer& layer, const Moment& moment) {
  policy.after_attention(layer, moment);
};

/// It may also have tokens of a prompt leave the stream: those that narrow() takes out of `stay`, which are the
/// prompt's that are there, ascending, do not go on to the layers after one for which narrows_after(layer, n_layers)
/// holds. Asked at the prompt's end, after attention. The prompt's last token is not to leave.
template <class P>
concept Narrows = requires(const P& policy, const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) {
  { policy.narrows_after(layer.layer(), moment.n_layers) } -> std::same_as<bool>;
  policy.narrow(layer, moment, stay);
};
template <class P>
concept ActsAfterPass = requires(const P& policy, std::span<const LayerMoment> layers) {
  policy.after_pass(layers);
};
template <class P>
concept Policy = requires(const P& policy) {
  { policy.needs() } -> std::same_as<Needs>;
}
&&(ActsBefore<P> || ActsAfter<P> || ActsAfterPass<P> || Narrows<P>)&&std::copyable<P>;

/// It may also say how prune::parse spells it.
template <class P>
concept Describes = requires(const P& policy) {
  { policy.describe() } -> std::convertible_to<std::string>;
};

namespace detail {

/// The name of a type as its compiler writes it, without namespaces and arguments.
template <class T>
std::string type_name() {
  std::string_view text = __PRETTY_FUNCTION__;  // "… [with T = A; …]", "… [T = A]"
  text.remove_prefix(text.find("T = ") + 4);
  text = text.substr(0, text.find_first_of("<;]"));
  const auto colon = text.rfind(':');
  return std::string(colon == std::string_view::npos ? text : text.substr(colon + 1));
}

}  // namespace detail

/// Any policy, as a value. Default: forgets nothing.
class AnyPolicy {
 public:
  AnyPolicy() = default;

  template <class P>
  requires(!std::same_as<std::remove_cvref_t<P>, AnyPolicy> && Policy<std::remove_cvref_t<P>>)
      AnyPolicy(P&& policy)  // NOLINT(google-explicit-constructor): any policy is an AnyPolicy
      : self_(std::make_shared<Model<std::remove_cvref_t<P>>>(std::forward<P>(policy))) {}

  Needs needs() const { return self_ ? self_->needs() : Needs{}; }
  void before_attention(const KvLayer& layer, const Moment& moment) const {
    if (self_) self_->before_attention(layer, moment);
  }
  void after_attention(const KvLayer& layer, const Moment& moment) const {
    if (self_) self_->after_attention(layer, moment);
  }
  void after_pass(std::span<const LayerMoment> layers) const {
    if (self_ && !layers.empty()) self_->after_pass(layers);
  }
  bool narrows_after(std::size_t layer, std::size_t n_layers) const {
    return self_ && self_->narrows_after(layer, n_layers);
  }
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    if (self_) self_->narrow(layer, moment, stay);
  }
  explicit operator bool() const { return self_ != nullptr; }

  /// Text that prune::parse makes an equal policy of. One that does not say its own is its type in brackets, which
  /// parse refuses: "[MyPolicy]".
  std::string describe() const { return self_ ? self_->describe() : "none"; }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual Needs needs() const = 0;
    virtual void before_attention(const KvLayer&, const Moment&) const = 0;
    virtual void after_attention(const KvLayer&, const Moment&) const = 0;
    virtual void after_pass(std::span<const LayerMoment>) const = 0;
    virtual bool narrows_after(std::size_t, std::size_t) const = 0;
    virtual void narrow(const KvLayer&, const Moment&, std::vector<Position>&) const = 0;
    virtual std::string describe() const = 0;
  };

  template <Policy P>
  struct Model final : Interface {
    explicit Model(P p) : policy(std::move(p)) {}
    Needs needs() const override { return policy.needs(); }
    void before_attention([[maybe_unused]] const KvLayer& layer, [[maybe_unused]] const Moment& m) const override {
      if constexpr (ActsBefore<P>) policy.before_attention(layer, m);
    }
    void after_attention([[maybe_unused]] const KvLayer& layer, [[maybe_unused]] const Moment& m) const override {
      if constexpr (ActsAfter<P>) policy.after_attention(layer, m);
    }
    void after_pass([[maybe_unused]] std::span<const LayerMoment> layers) const override {
      if constexpr (ActsAfterPass<P>) policy.after_pass(layers);
    }
    bool narrows_after([[maybe_unused]] std::size_t layer, [[maybe_unused]] std::size_t n_layers) const override {
      if constexpr (Narrows<P>) return policy.narrows_after(layer, n_layers);
      return false;
    }
    void narrow([[maybe_unused]] const KvLayer& layer, [[maybe_unused]] const Moment& m,
                [[maybe_unused]] std::vector<Position>& stay) const override {
      if constexpr (Narrows<P>) policy.narrow(layer, m, stay);
    }
    std::string describe() const override {
      if constexpr (Describes<P>) return policy.describe();
      return "[" + detail::type_name<P>() + "]";
    }
    P policy;
  };

  std::shared_ptr<const Interface> self_;
};

}  // namespace pith::prune
