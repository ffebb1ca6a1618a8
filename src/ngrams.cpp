// SPDX-License-Identifier: MIT
#include "ngrams.hpp"

#include <algorithm>

namespace pith {

namespace {

std::uint64_t two(Token a, Token b) {
  return std::uint64_t{static_cast<std::uint32_t>(a)} << 32 | static_cast<std::uint32_t>(b);
}

}  // namespace

void NGrams::accept(std::span<const Token> tokens) {
  for (const Token token : tokens) {
    const std::size_t at = text_.size();
    text_.push_back(token);
    if (at < 2) continue;
    const std::uint64_t before = two(text_[at - 2], text_[at - 1]);
    places_[before].push_back(at);
    auto& followers = followers_[before];
    const auto known = std::ranges::find(followers, token, &Follower::token);
    if (known != followers.end()) {
      ++known->count;
      known->latest = at;
      continue;
    }
    if (followers.size() == most_followers)
      followers.erase(
          std::ranges::min_element(followers, {}, [](const Follower& f) { return std::pair(f.count, f.latest); }));
    followers.push_back({token, 1, at});
  }
}

std::span<const Token> NGrams::copy(std::size_t most) const {
  const std::size_t n = text_.size();
  const auto found = places_.find(two(text_[n - 2], text_[n - 1]));
  if (found == places_.end()) return {};
  const std::vector<std::size_t>& places = found->second;
  const auto same = std::find_if(places.rbegin(), places.rend(),
                                 [&](std::size_t at) { return n > 2 && at > 2 && text_[at - 3] == text_[n - 3]; });
  const std::size_t from = same != places.rend() ? *same : places.back();
  return std::span(text_).subspan(from, std::min(most, n - from));
}

std::vector<Token> NGrams::chain(std::size_t most) const {
  std::vector<Token> tokens;
  Token a = text_[text_.size() - 2], b = text_.back();
  while (tokens.size() < most) {
    const auto found = followers_.find(two(a, b));
    if (found == followers_.end()) break;
    const auto likeliest =
        std::ranges::max_element(found->second, {}, [](const Follower& f) { return std::pair(f.count, f.latest); });
    tokens.push_back(likeliest->token);
    a = b;
    b = likeliest->token;
  }
  return tokens;
}

std::vector<Token> NGrams::continuation(std::size_t most) const {
  if (text_.size() < 2 || most == 0) return {};
  const std::span<const Token> copied = copy(most);
  if (copied.size() == most) return {copied.begin(), copied.end()};
  std::vector<Token> chained = chain(most);
  if (chained.size() > copied.size()) return chained;
  return {copied.begin(), copied.end()};
}

}  // namespace pith
