// SPDX-License-Identifier: MIT
#include "text/bpe.hpp"

#include <algorithm>

#include "pith/error.hpp"
#include "printable.hpp"
#include "text/byte_level.hpp"
#include "text/unicode.hpp"

namespace pith::text {

std::array<std::optional<Token>, 256> byte_tokens(const Vocabulary& vocabulary) {
  std::array<std::optional<Token>, 256> out;
  for (unsigned byte = 0; byte < out.size(); ++byte)
    out[byte] = vocabulary.find(byte_token(static_cast<unsigned char>(byte)));
  return out;
}

Bpe::Bpe(const Vocabulary& vocabulary, const std::vector<Pair>& merges, Options options, std::string_view where)
    : options_(std::move(options)), bytes_(byte_tokens(vocabulary)) {
  const auto& prefix = options_.word_part_prefix;
  merges_.reserve(merges.size());
  std::uint32_t rank = 0;
  for (const Pair& merge : merges) {
    const std::string &left = merge.first, &right = merge.second;
    const auto token = [&](const std::string& text) {
      const auto id = vocabulary.find(text);
      if (!id)
        fail(ErrorCode::format,
             std::string(where) + ": merge " + std::to_string(rank) + " of " + in_quotes(left) + " and " +
                 in_quotes(right),
             "tokens of the vocabulary", in_quotes(text));
      return *id;
    };
    const auto pair = key(token(left), token(right));
    const auto tail = right.starts_with(prefix) ? right.substr(prefix.size()) : right;
    merges_.insert_or_assign(pair, Merge{rank, token(left + tail)});
    ++rank;
  }
}

std::vector<Bpe::Ranked> Bpe::merges() const {
  std::vector<std::pair<std::uint32_t, Ranked>> ranked;
  for (const auto& [pair, merge] : merges_)
    ranked.push_back({merge.rank, {static_cast<Token>(pair >> 32), static_cast<Token>(pair & 0xffffffffu), merge.id}});
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Ranked> out;
  for (const auto& [rank, merge] : ranked) out.push_back(merge);
  return out;
}

void Bpe::add_character(const Vocabulary& vocabulary, std::string_view spelling, std::uint32_t begin,
                        std::uint32_t bytes, std::vector<Symbol>& out) const {
  if (const auto id = vocabulary.find(spelling)) {
    out.push_back({*id, begin, bytes});
    return;
  }
  const auto token_of = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
  if (options_.byte_fallback &&
      std::all_of(spelling.begin(), spelling.end(), [&](char byte) { return token_of(byte).has_value(); })) {
    // Affixes are bytes of the spelling, not of the word; what a symbol covers only has to be more than nothing.
    for (const char byte : spelling) out.push_back({*token_of(byte), begin, 1});
    return;
  }
  if (!options_.unknown) return;
  if (options_.fuse_unknown && !out.empty() && out.back().id == *options_.unknown) {
    out.back().bytes += bytes;
  } else {
    out.push_back({*options_.unknown, begin, bytes});
  }
}

void Bpe::encode(const Vocabulary& vocabulary, std::string_view word, Merger& merger, std::vector<Token>& out) const {
  if (options_.ignore_merges) {
    // A special token that is text here is none: it would have been found before.
    if (const auto id = vocabulary.find(word); id && !vocabulary.is_special(*id)) {
      out.push_back(*id);
      return;
    }
  }

  const bool affixes = !options_.word_part_prefix.empty() || !options_.word_end_suffix.empty();
  std::string spelled;
  merger.symbols.clear();
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t bytes = first_character(word.substr(at)).bytes;
    std::string_view spelling = word.substr(at, bytes);
    if (affixes) {
      spelled.clear();
      if (at > 0) spelled += options_.word_part_prefix;
      spelled += spelling;
      if (at + bytes == word.size()) spelled += options_.word_end_suffix;
      spelling = spelled;
    }
    add_character(vocabulary, spelling, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes),
                  merger.symbols);
    at += bytes;
  }

  merger.run([&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
    const auto found = merges_.find(key(left.id, right.id));
    if (found == merges_.end()) return {};
    return found->second;
  });
  for (const Symbol& s : merger.symbols) out.push_back(s.id);
}

}  // namespace pith::text
