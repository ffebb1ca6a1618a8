// SPDX-License-Identifier: MIT
#include "text/added_tokens.hpp"

#include "text/unicode.hpp"

namespace pith::text {

namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
  return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
}

bool starts_with_word(std::string_view text) { return !text.empty() && is_word(first_character(text).code); }

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  std::size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xc0u) == 0x80) --start;
  return is_word(first_character(text.substr(start)).code);
}

}  // namespace

void TokenFinder::add(const AddedToken& token, std::string_view spelling) {
  // Bytes that are not UTF-8 are in no text, and must not be taken for half a character of one.
  if (spelling.empty() || !is_utf8(spelling)) return;
  first_bytes_.set(static_cast<unsigned char>(spelling.front()));
  std::uint32_t node = 0;
  for (const char byte : spelling) {
    const auto next = static_cast<std::uint32_t>(ends_.size());
    const auto [at, added] = edges_.try_emplace(edge(node, byte), next);
    if (added) ends_.emplace_back();
    node = at->second;
  }
  if (!ends_[node]) ends_[node] = tokens_.size();
  tokens_.push_back(token);
}

std::optional<TokenFinder::Match> TokenFinder::match_at(std::string_view text, std::size_t at,
                                                        const Allows& allows) const {
  std::optional<Match> longest;
  std::uint32_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (ends_[node] && (!allows || allows(tokens_[*ends_[node]], {at, i + 1})))
      longest = Match{*ends_[node], i + 1 - at};
  }
  return longest;
}

std::vector<Part> TokenFinder::split(std::string_view text, const Allows& allows) const {
  std::vector<Part> parts;
  std::size_t done = 0;  // where the last part ends
  const auto add_text = [&](std::size_t end) {
    if (end > done) parts.push_back({{done, end}, {}});
  };

  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const auto match = match_at(text, at, allows);
    if (!match) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[match->token];
    std::size_t begin = at, end = at + match->bytes;
    at = end;
    if (token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;

    if (token.lstrip) begin -= trailing_whitespace(text.substr(done, begin - done));
    if (token.rstrip) end += leading_whitespace(text.substr(end));
    add_text(begin);
    parts.push_back({{begin, end}, token.id});
    at = done = end;
  }
  add_text(text.size());
  return parts;
}

}  // namespace pith::text
