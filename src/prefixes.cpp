// SPDX-License-Identifier: MIT
#include "prefixes.hpp"

#include <algorithm>

namespace pith {

namespace {

std::size_t common(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

bool begins_with(std::span<const Token> prompt, std::span<const Token> tokens) {
  return common(prompt, tokens) == tokens.size();
}

}  // namespace

bool Prefixes::by_chunks(const Beginning& one) const { return one.prefix == 0 && !one.whole && looks_back_alone_; }

/// Of the first tokens of a prompt the whole chunks, but for its last token, whose logits are wanted. Under a byte
/// budget a pass may take less than a chunk, and what it takes depends on what is left of the prompt: of a chunk or
/// more it does not.
std::size_t Prefixes::chunks_in(std::size_t tokens, std::size_t prompt) const {
  const std::size_t after = within_budget_ ? chunk_ : 1;
  return prompt <= after ? 0 : std::min(tokens, prompt - after) / chunk_ * chunk_;
}

std::size_t Prefixes::own(const Beginning& one) const {
  if (!on() || one.whole) return 0;
  if (one.prefix > 0) return one.prefix < one.prompt.size() ? one.prefix : 0;
  return by_chunks(one) ? chunks_in(one.prompt.size(), one.prompt.size()) : 0;
}

std::size_t Prefixes::shared(const Beginning& a, const Beginning& b) const {
  if (a.prefix != b.prefix || a.pinned != b.pinned || a.tau != b.tau) return 0;
  const std::size_t same = common(a.prompt, b.prompt), most = std::min(own(a), own(b));
  return a.prefix > 0 ? (same >= most ? most : 0) : std::min(same / chunk_ * chunk_, most);
}

bool Prefixes::alike(const Entry& entry, const Beginning& one) const {
  return entry.of_prefix == (one.prefix > 0) && entry.pinned == one.pinned && entry.tau == one.tau;
}

const Prefixes::Entry* Prefixes::find(const Beginning& one) const {
  const std::size_t most = own(one);
  const Entry* best = nullptr;
  for (const Entry& entry : entries_) {
    const std::size_t n = entry.tokens.size();
    if (!alike(entry, one) || n > most || (one.prefix > 0 && n != one.prefix)) continue;
    if ((best == nullptr || n > best->tokens.size()) && begins_with(one.prompt, entry.tokens)) best = &entry;
  }
  return best;
}

std::size_t Prefixes::kept(const Beginning& one) const {
  const Entry* const entry = find(one);
  return entry != nullptr ? entry->tokens.size() : 0;
}

std::size_t Prefixes::common_with_kept(const Beginning& one) const {
  if (!by_chunks(one)) return 0;
  std::size_t most = 0;
  for (const Entry& entry : entries_)
    if (alike(entry, one)) most = std::max(most, chunks_in(common(one.prompt, entry.tokens), one.prompt.size()));
  return most > kept(one) ? most : 0;
}

std::optional<SequenceId> Prefixes::fork(const Beginning& one) {
  if (!on()) return {};
  ++counts_.prompts;
  if (const Entry* const entry = find(one)) {
    const SequenceId sequence = session_.fork(entry->sequence);
    entries_[static_cast<std::size_t>(entry - entries_.data())].used = ++clock_;
    ++counts_.hits;
    counts_.tokens_reused += entry->tokens.size();
    return sequence;
  }
  if (one.whole)
    ++counts_.read_whole;
  else if (one.prefix == 0 && !by_chunks(one))
    ++counts_.policy_looks_ahead;
  else
    ++counts_.not_kept;
  return {};
}

void Prefixes::keep(const Beginning& one, std::size_t length, SequenceId sequence) {
  if (!on() || kept(one) == length) return;
  const auto tokens = one.prompt.first(length);
  const SequenceId copy = session_.fork(sequence);
  session_.rewind(copy, length);
  entries_.push_back({{tokens.begin(), tokens.end()}, one.prefix > 0, one.pinned, one.tau, copy, ++clock_});
  take_stock();
  while (held_.bytes_used > most_) drop();
}

void Prefixes::take_stock() {
  std::vector<SequenceId> all;
  for (const Entry& entry : entries_) all.push_back(entry.sequence);
  held_ = session_.stats(all);
}

bool Prefixes::drop() {
  if (entries_.empty()) return false;
  const auto oldest = std::ranges::min_element(entries_, {}, &Entry::used);
  session_.finish(oldest->sequence);
  entries_.erase(oldest);
  ++counts_.dropped;
  take_stock();
  return true;
}

void Prefixes::clear() {
  for (const Entry& entry : entries_) session_.finish(entry.sequence);
  entries_.clear();
  take_stock();
}

PrefixStats Prefixes::stats() const {
  PrefixStats stats = counts_;
  stats.kept = entries_.size();
  stats.bytes = held_.bytes_used;
  return stats;
}

}  // namespace pith
