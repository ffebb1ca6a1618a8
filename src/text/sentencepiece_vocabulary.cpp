// SPDX-License-Identifier: MIT
#include "text/sentencepiece_vocabulary.hpp"

#include "pith/error.hpp"

namespace pith::text {

PieceKind piece_kind(std::int64_t number, std::string_view where) {
  // Some converters write 0, "undefined", for rows that pad a vocabulary.
  if (number == 0) return PieceKind::unused;
  if (number < 0 || number > static_cast<std::int64_t>(PieceKind::byte))
    fail(ErrorCode::format, where, "a token type from 0 to 6", std::to_string(number));
  return static_cast<PieceKind>(number);
}

void add_pieces(const std::vector<Piece>& pieces, std::string_view where, Definition& out) {
  out.vocabulary.expect(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    out.vocabulary.add(pieces[i].text, static_cast<std::int64_t>(i), where);

  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto id = static_cast<Token>(i);
    const PieceKind kind = pieces[i].kind;
    const bool special = kind == PieceKind::control || kind == PieceKind::unknown;
    if (special) out.vocabulary.make_special(id);
    if (!special && kind != PieceKind::user_defined) continue;
    AddedToken token;
    token.content = pieces[i].text;
    token.id = id;
    token.special = special;
    out.added.push_back(std::move(token));
  }
}

Spm spm_model(const std::vector<Piece>& pieces, const Vocabulary& vocabulary, std::optional<Token> unknown,
              std::string_view where) {
  std::vector<std::optional<double>> scores;
  scores.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    const bool merged = piece.kind == PieceKind::normal || piece.kind == PieceKind::user_defined;
    scores.push_back(merged ? std::optional(piece.score) : std::nullopt);
  }
  return {vocabulary, scores, unknown, where};
}

}  // namespace pith::text
