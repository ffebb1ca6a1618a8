// SPDX-License-Identifier: MIT
#include "pith/prune/protect.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "pith/error.hpp"
#include "pith/prune/combinators.hpp"
#include "pith/prune/intervals.hpp"
#include "pith/prune/spelling.hpp"

namespace pith::prune {

namespace {

/// A policy that was made by what a file says of the heads of a model.
struct OfFile {
  std::string spelling;
  AnyPolicy policy;
  MadeFor made_for;

  Needs needs() const { return policy.needs() | Needs{.lane_per_head = true, .made_for = {made_for}}; }
  void before_attention(const KvLayer& layer, const Moment& moment) const { policy.before_attention(layer, moment); }
  void after_attention(const KvLayer& layer, const Moment& moment) const { policy.after_attention(layer, moment); }
  void after_pass(std::span<const LayerMoment> layers) const { policy.after_pass(layers); }
  std::string describe() const { return spelling; }
};

AnyPolicy on_the_others(const char* method, const HeadScores& heads, const ProtectOptions& o, const AnyPolicy& policy,
                        std::string spelling) {
  check(method, o);
  if (heads.layers() == 0 || heads.kv_heads() == 0)
    fail(ErrorCode::argument, method, "a score for each kv-head", "none");
  const auto others = heads.others(o.share);
  const bool any = std::ranges::any_of(others, [](const auto& list) { return !list.empty(); });
  AnyPolicy acts = any ? for_heads(std::span<const std::vector<std::size_t>>(others), policy) : AnyPolicy();
  // Without a file there is nothing to read it from again: it is spelled as what it comes to.
  if (heads.file.empty()) spelling = acts.describe();
  return OfFile{
      std::move(spelling), std::move(acts), {heads.file, heads.layers(), heads.kv_heads(), 0, heads.scored()}};
}

}  // namespace

AnyPolicy protect(const HeadScores& heads, const ProtectOptions& o, const AnyPolicy& policy) {
  return on_the_others("protect", heads, o, policy,
                       spell("protect", {{"file", heads.file}, {"share", o.share}}, policy.describe()));
}

AnyPolicy duo(const HeadScores& heads, const ProtectOptions& o, const DuoOptions& d) {
  check("duo", d);
  return on_the_others(
      "duo", heads, o, SlidingWindow{d.sinks, d.recent},
      spell("duo", {{"file", heads.file}, {"share", o.share}, {"sinks", d.sinks}, {"recent", d.recent}}));
}

}  // namespace pith::prune
