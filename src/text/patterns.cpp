// SPDX-License-Identifier: MIT
#include "text/patterns.hpp"

#include <algorithm>
#include <array>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::text {

namespace {

// Each is the expression of the model's own tokenizer.json.
constexpr std::string_view llama3_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view tekken_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek3_words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view digit = R"(\p{N})", three_digits = "[0-9][0-9][0-9]";

// Empty ones fill both lists up.
using Names = std::array<std::string_view, 13>;
using Expressions = std::array<std::string_view, 5>;  // applied one after the other

struct Family {
  Names names;
  Expressions expressions;
  bool ignore_merges = false;
  bool adds_bos = false;
};

// The sets that a model converted without a name for its own falls back to, "default", are llama.cpp's.
constexpr std::array families = {
    Family{{"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "roberta-bpe", "exaone4",
            "jina-es", "jina-de", "jina-v2-code"},
           {gpt2_words}},
    Family{{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"}, {llama3_words}, true, true},
    Family{{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {llama3_words}},
    Family{{"qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"}, {qwen2_words}},
    Family{{"tekken"}, {tekken_words}, true, true},
    Family{{"gpt-4o", "llama4"}, {gpt4o_words}},
    Family{{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, {digit, gpt2_words}},
    Family{{"deepseek-v3", "hunyuan-dense"},
           {R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)", deepseek3_words}},
    Family{{"deepseek-coder"},
           {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)",
            digit}},
    Family{{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2_words, three_digits}},
    Family{{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", gpt2_words, R"(\p{N}+)", three_digits}},
};

auto family_of(std::string_view name) {
  return std::find_if(families.begin(), families.end(), [&](const Family& f) {
    return !name.empty() && std::find(f.names.begin(), f.names.end(), name) != f.names.end();
  });
}

}  // namespace

Split isolate(std::string_view expression, std::string_view where) {
  return {Regex(expression, where), Behavior::isolated, Matches::delimit};
}

std::string_view name_of_model(const std::vector<std::string>& expressions, bool ignore_merges) {
  const auto cuts_so = [&](const Family& family) {
    const auto end = std::find(family.expressions.begin(), family.expressions.end(), std::string_view());
    return family.ignore_merges == ignore_merges &&
           std::equal(family.expressions.begin(), end, expressions.begin(), expressions.end());
  };
  const auto family = std::find_if(families.begin(), families.end(), cuts_so);
  return family == families.end() ? std::string_view() : family->names.front();
}

bool cut_alike(std::string_view one, std::string_view other) {
  return one == other || (family_of(one) != families.end() && family_of(one) == family_of(other));
}

std::string names_of_models() {
  std::string all;
  for (const Family& family : families) all.append(all.empty() ? "" : ", ").append(family.names.front());
  return all;
}

KnownModel known_model(std::string_view name, std::string_view where, ErrorCode unknown) {
  const auto family = family_of(name);
  if (family == families.end())
    fail(unknown, where, "a pre-tokenizer that is known (" + names_of_models() + ")", in_quotes(name));

  KnownModel out;
  for (const auto expression : family->expressions)
    if (!expression.empty()) out.pre_tokenizer.add(isolate(expression, where));
  out.pre_tokenizer.add(ByteSymbols{});
  // Qwen's tokenizer composes characters first, which GGUF has no key for.
  if (name == "qwen2") out.normalizer.add(Form::nfc);
  out.ignore_merges = family->ignore_merges;
  out.adds_bos = family->adds_bos;
  return out;
}

}  // namespace pith::text
