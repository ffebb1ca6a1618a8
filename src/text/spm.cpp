// SPDX-License-Identifier: MIT
#include "text/spm.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "pith/error.hpp"
#include "printable.hpp"
#include "text/bpe.hpp"
#include "text/unicode.hpp"

namespace pith::text {

Spm::Spm(const Vocabulary& vocabulary, const std::vector<std::optional<double>>& scores, std::optional<Token> unknown,
         std::string_view where)
    : unknown_(unknown), bytes_(byte_tokens(vocabulary)) {
  std::vector<double> falling;
  for (std::size_t id = 0; id < scores.size(); ++id) {
    if (!scores[id]) continue;
    if (std::isnan(*scores[id]))
      fail(ErrorCode::format, std::string(where) + ": token " + in_quotes(vocabulary.text(static_cast<Token>(id))),
           "a score", "not a number");
    falling.push_back(*scores[id]);
  }
  std::sort(falling.begin(), falling.end(), std::greater<>());
  falling.erase(std::unique(falling.begin(), falling.end()), falling.end());

  for (const auto& score : scores) {
    if (!score) {
      ranks_.push_back(not_merged);
      continue;
    }
    const auto at = std::lower_bound(falling.begin(), falling.end(), *score, std::greater<>());
    ranks_.push_back(static_cast<std::uint32_t>(at - falling.begin()));
  }
}

std::optional<Merge> Spm::find(const Vocabulary& vocabulary, std::string_view spelling) const {
  const auto id = vocabulary.find(spelling);
  if (!id) return {};
  const std::uint32_t rank = ranks_[static_cast<std::size_t>(*id)];
  if (rank == not_merged) return {};
  return Merge{rank, *id};
}

void Spm::encode(const Vocabulary& vocabulary, std::string_view word, Merger& merger, std::vector<Token>& out) const {
  merger.symbols.clear();
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t bytes = first_character(word.substr(at)).bytes;
    const auto known = find(vocabulary, word.substr(at, bytes));
    merger.symbols.push_back(
        {known ? known->id : Token{-1}, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes)});
    at += bytes;
  }

  merger.run([&](const Symbol& left, const Symbol& right) {
    return find(vocabulary, word.substr(left.begin, left.bytes + right.bytes));
  });

  for (const Symbol& s : merger.symbols) {
    if (s.id >= 0) {
      out.push_back(s.id);
      continue;
    }
    const auto spelling = word.substr(s.begin, s.bytes);
    const auto token_of = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
    if (std::all_of(spelling.begin(), spelling.end(), [&](char byte) { return token_of(byte).has_value(); })) {
      for (const char byte : spelling) out.push_back(*token_of(byte));
    } else if (unknown_) {
      out.push_back(*unknown_);
    }
  }
}

}  // namespace pith::text
