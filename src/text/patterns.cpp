// SPDX-License-Identifier: MIT
#include "text/patterns.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "pith/error.hpp"
#include "printable.hpp"
#include "text/unicode.hpp"

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

// DeepSeek LLM's cased letters, which are spelled out in its file.
constexpr std::string_view deepseek_letters =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1})"
    R"(\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5})"
    R"(\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a})"
    R"(\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b})"
    R"(\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc})"
    R"(\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107})"
    R"(\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134})"
    R"(\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4})"
    R"(\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787})"
    R"(\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a})"
    R"(\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2})"
    R"(\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+)";
constexpr std::string_view deepseek_signs =
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
constexpr std::string_view deepseek_cjk = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";

constexpr std::string_view three_digits = "[0-9][0-9][0-9]";

// Empty ones fill both lists up.
using Names = std::array<std::string_view, 13>;
using Expressions = std::array<std::string_view, 6>;  // applied one after the other

struct Family {
  Names names;
  Expressions expressions;
  bool ignore_merges = false;
  bool adds_bos = false;
  Expressions of_symbols = {};  // applied to the characters that stand for bytes
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
    Family{{"deepseek-coder"}, {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", deepseek_cjk, digit}},
    Family{{"deepseek-llm"}, {R"([\r\n])", deepseek_letters, deepseek_signs, R"(\s+$)", deepseek_cjk, digit}},
    Family{{"falcon"}, {signs, gpt2_words}, false, false, {digits, three_digits}},
    Family{{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", gpt2_words, digits, three_digits}},
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

std::string_view name_of_model(const std::vector<std::string>& expressions, const std::vector<std::string>& of_symbols,
                               bool ignore_merges) {
  const auto equal = [](const Expressions& known, const std::vector<std::string>& found) {
    return std::equal(known.begin(), std::find(known.begin(), known.end(), std::string_view()), found.begin(),
                      found.end());
  };
  const auto cuts_so = [&](const Family& family) {
    return family.ignore_merges == ignore_merges && equal(family.expressions, expressions) &&
           equal(family.of_symbols, of_symbols);
  };
  const auto family = std::find_if(families.begin(), families.end(), cuts_so);
  return family == families.end() ? std::string_view() : family->names.front();
}

std::string in_ascii(std::string_view expression) {
  std::string out;
  while (!expression.empty()) {
    const Character c = first_character(expression);
    if (c.code == '\r' || c.code == '\n') {
      out += c.code == '\r' ? "\\r" : "\\n";
    } else if (c.code >= ' ' && c.code < 0x7f) {
      out += static_cast<char>(c.code);
    } else {
      std::array<char, 16> hex{};
      std::snprintf(hex.data(), hex.size(), "\\x{%x}", static_cast<unsigned>(c.code));
      out += hex.data();
    }
    expression.remove_prefix(c.bytes);
  }
  return out;
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
  for (const auto expression : family->of_symbols)
    if (!expression.empty()) out.pre_tokenizer.add(isolate(expression, where));
  // These compose characters first, which GGUF has no key for.
  if (name == "qwen2" || name == "mpt" || name == "olmo") out.normalizer.add(Form::nfc);
  out.ignore_merges = family->ignore_merges;
  out.adds_bos = family->adds_bos;
  return out;
}

}  // namespace pith::text
