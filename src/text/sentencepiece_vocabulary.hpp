// SPDX-License-Identifier: MIT
// The kinds of SentencePiece's tokens, which its own files and GGUF number alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/definition.hpp"

namespace pith::text {

enum class PieceKind : std::int64_t { normal = 1, unknown, control, user_defined, unused, byte };

struct Piece {
  std::string text;
  double score = 0;
  PieceKind kind = PieceKind::normal;
};

/// Throws Error (format).
PieceKind piece_kind(std::int64_t number, std::string_view where);

/// Adds the pieces, their ids being their places; control and unknown pieces are special, user-defined ones are found
/// as they are spelled.
void add_pieces(const std::vector<Piece>& pieces, std::string_view where, Definition& out);

/// The model that merges them by score.
Spm spm_model(const std::vector<Piece>& pieces, const Vocabulary& vocabulary, std::optional<Token> unknown,
              std::string_view where);

}  // namespace pith::text
