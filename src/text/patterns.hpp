// SPDX-License-Identifier: MIT
// How well-known models cut a text into words: the regular expressions that they were trained with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pith/error.hpp"
#include "text/normalizer.hpp"
#include "text/pre_tokenizer.hpp"

namespace pith::text {

inline constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// A split that isolates the matches of a regular expression.
Split isolate(std::string_view expression, std::string_view where);

/// What GGUF's tokenizer.ggml.pre names, and what goes with it.
struct KnownModel {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;  // ends in byte symbols
  bool ignore_merges = false;
  bool adds_bos = false;  // where the file does not say
};

/// `name` as in tokenizer.ggml.pre. Throws Error (by default unsupported), naming it and those that are known.
KnownModel known_model(std::string_view name, std::string_view where, ErrorCode unknown = ErrorCode::unsupported);

/// Whether two such names stand for the same way to cut words.
bool cut_alike(std::string_view one, std::string_view other);

/// A name of each way, for people: "gpt-2, llama-bpe, …".
std::string names_of_models();

/// The first of GGUF's names for texts cut by these expressions, one after the other, and their byte symbols by those;
/// all as in_ascii() spells them. Empty where there is none.
std::string_view name_of_model(const std::vector<std::string>& expressions, const std::vector<std::string>& of_symbols,
                               bool ignore_merges);

/// An expression with escapes for what is not ASCII, and for ends of lines: "[\r\n]", "\x{4e00}".
std::string in_ascii(std::string_view expression);

// The steps of tokenizer.json that are no expressions, as expressions.
inline constexpr std::string_view signs = R"([\p{P}\$\+<=>\^~\|`]+)";  // Punctuation, contiguous
inline constexpr std::string_view digit = R"(\p{N})";                  // Digits, each apart
inline constexpr std::string_view digits = R"(\p{N}+)";                // Digits

}  // namespace pith::text
