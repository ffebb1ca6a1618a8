// SPDX-License-Identifier: MIT
// A tokenizer as some file defines it: what every loader returns.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/decoder.hpp"
#include "text/normalizer.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/spm.hpp"
#include "text/vocabulary.hpp"

namespace pith::text {

enum class SpacePrefix { no, yes };

/// What a GGUF says in words of the steps below.
struct GgufNames {
  std::string pre;  // how a text is cut into words, as in tokenizer.ggml.pre; empty = it has no name
  SpacePrefix prefix = SpacePrefix::no;
  bool squeezes_spaces = false;  // tokenizer.ggml.remove_extra_whitespaces
};

struct Definition {
  Vocabulary vocabulary;
  std::vector<AddedToken> added;  // all in the vocabulary too
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::variant<std::monostate, Bpe, Spm> model;
  Decoder decoder;
  std::vector<Token> prefix, suffix;  // what the post-processor puts around a text
  std::optional<Token> bos;
  std::set<Token> ends;
  GgufNames gguf;
  std::vector<std::string> notes;  // what the file left open, and what was made of it
};

/// Adds the token to the vocabulary where it is new there. Throws Error (format) where it has another id there.
void add_token(Definition& definition, AddedToken token, std::int64_t id, std::string_view where);

/// Takes those added tokens for ends of a text or a turn whose names are in common use for it.
void add_usual_ends(Definition& definition);

/// SentencePiece's remove_extra_whitespaces: one space for many, and none at the ends.
void squeeze_spaces(Definition& definition, std::string_view where);

/// SentencePiece's way with spaces, as both its converted forms spell it: a mark before the text and for every space,
/// and all that undone.
void use_space_marks(Definition& definition, SpacePrefix prefix);

}  // namespace pith::text
