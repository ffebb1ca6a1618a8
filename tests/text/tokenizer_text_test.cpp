// SPDX-License-Identifier: MIT
// The parts a tokenizer is made of, each alone: UTF-8, patterns, normalizers, pre-tokenizers, added tokens, merging.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/byte_level.hpp"
#include "text/normalizer.hpp"
#include "text/patterns.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/spm.hpp"
#include "text/unicode.hpp"

namespace pith::text {
namespace {

using Strings = std::vector<std::string>;

TEST(TokenizerUtf8, OneReplacementForEachMaximalIllFormedSubsequence) {
  const std::string bad = "\xef\xbf\xbd";
  // The example of the Unicode Standard, table 3-8, and its neighbours.
  EXPECT_EQ(repair("a\xf1\x80\x80\xe1\x80\xc2z"), "a" + bad + bad + bad + "z");
  EXPECT_EQ(repair("\xc0\x80"), bad + bad);
  EXPECT_EQ(repair("\xed\xa0\x80"), bad + bad + bad);            // a surrogate
  EXPECT_EQ(repair("\xf4\x90\x80\x80"), bad + bad + bad + bad);  // beyond U+10FFFF
  EXPECT_EQ(repair("\xe2\x82"), bad);
  EXPECT_EQ(repair("\xff\xfe"), bad + bad);
  EXPECT_EQ(repair("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_FALSE(is_utf8("ok so far \xe2\x82"));
  EXPECT_TRUE(is_utf8("ok so far \xe2\x82\xac, and longer than a word of eight"));
}

TEST(TokenizerUtf8, UnfinishedBytes) {
  EXPECT_EQ(unfinished_bytes(""), 0u);
  EXPECT_EQ(unfinished_bytes("a"), 0u);
  EXPECT_EQ(unfinished_bytes("a\xf0"), 1u);
  EXPECT_EQ(unfinished_bytes("a\xf0\x9f"), 2u);
  EXPECT_EQ(unfinished_bytes("a\xf0\x9f\xa6"), 3u);
  EXPECT_EQ(unfinished_bytes("a\xf0\x9f\xa6\x99"), 0u);
  EXPECT_EQ(unfinished_bytes("a\xf0\x80"), 0u);  // cannot become a character any more
  EXPECT_EQ(unfinished_bytes("a\x80\x80\x80\x80"), 0u);
}

TEST(TokenizerUtf8, EveryCodePointSurvives) {
  for (char32_t code = 1; code <= 0x10ffff; code += 7) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    std::string text;
    append(text, code);
    const Character c = first_character(text);
    ASSERT_EQ(c.code, code);
    ASSERT_EQ(c.bytes, text.size());
    ASSERT_TRUE(is_utf8(text));
  }
}

TEST(TokenizerByteLevel, EveryByteHasItsCharacter) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::string symbols = to_byte_symbols(all);
  EXPECT_TRUE(is_utf8(symbols));
  EXPECT_EQ(from_byte_symbols(symbols), all);
  EXPECT_EQ(to_byte_symbols(" a\n"),
            "\xc4\xa0"
            "a\xc4\x8a");
  EXPECT_EQ(from_byte_symbols("a b"), std::nullopt);  // a space is no symbol
  EXPECT_EQ(byte_token(0x0a), "<0x0A>");
  EXPECT_EQ(byte_of_token("<0x0a>"), '\n');
  EXPECT_EQ(byte_of_token("<0x0G>"), std::nullopt);
  EXPECT_EQ(byte_of_token("<0x0AA>"), std::nullopt);
}

std::string normalized(Normalizer::Step step, const std::string& text) {
  Normalizer normalizer;
  normalizer.add(std::move(step));
  return normalizer(text);
}

TEST(TokenizerNormalizer, Steps) {
  EXPECT_EQ(normalized(Form::nfc, "e\xcc\x81"), "\xc3\xa9");
  EXPECT_EQ(normalized(Form::nfd, "\xc3\xa9"), "e\xcc\x81");
  EXPECT_EQ(normalized(Form::nfkc, "\xef\xac\x81"), "fi");
  EXPECT_EQ(normalized(Form::nfc, "\xef\xac\x81"), "\xef\xac\x81");
  EXPECT_EQ(normalized(Form::nfkd, "\xc2\xbd"),
            "1\xe2\x81\x84"
            "2");
  EXPECT_EQ(normalized(Form::nfc, std::string("a\0\xc3\xa9", 4)), std::string("a\0\xc3\xa9", 4));
  EXPECT_EQ(normalized(Lowercase{},
                       "\xc3\x84 STRA\xe1\xba\x9e"
                       "E \xc4\xb0"),
            "\xc3\xa4 stra\xc3\x9f"
            "e i\xcc\x87");
  EXPECT_EQ(normalized(StripAccents{}, "e\xcc\x81"), "e");
  EXPECT_EQ(normalized(StripEnds{}, " \xe3\x80\x80 a b\n"), "a b");
  EXPECT_EQ(normalized(StripEnds{false, true}, " a "), " a");
  EXPECT_EQ(normalized(StripEnds{true, false}, " a "), "a ");
  EXPECT_EQ(normalized(StripEnds{}, " \t "), "");
  EXPECT_EQ(normalized(Replace{" ", "_"}, " a  b"), "_a__b");
  EXPECT_EQ(normalized(Replace{Regex(" +", "test"), "$1"}, "a   b"), "a$1b");
  EXPECT_EQ(normalized(Prepend{"_"}, "a"), "_a");
  EXPECT_EQ(normalized(Prepend{"_"}, ""), "");
  EXPECT_EQ(normalized(ToByteSymbols{}, " "), "\xc4\xa0");
}

Strings cut(const PreTokenizer& pre_tokenizer, const std::string& text, Place place = Place::start) {
  const Words words = pre_tokenizer(text, place);
  Strings out;
  for (const Range word : words.words) out.emplace_back(word.of(words.text));
  return out;
}

Strings split(Pattern pattern, Behavior behavior, const std::string& text, Matches matches = Matches::delimit) {
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(Split{std::move(pattern), behavior, matches});
  return cut(pre_tokenizer, text);
}

TEST(TokenizerPreTokenizer, BehaviorsOfSplit) {
  const std::string text = "the-final--countdown";
  const Pattern dash = std::string("-");
  EXPECT_EQ(split(dash, Behavior::removed, text), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(split(dash, Behavior::isolated, text), (Strings{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(dash, Behavior::merged_with_previous, text), (Strings{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(dash, Behavior::merged_with_next, text), (Strings{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(dash, Behavior::contiguous, text), (Strings{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(split(dash, Behavior::removed, text, Matches::are_words), (Strings{"-", "-", "-"}));
  EXPECT_EQ(split(dash, Behavior::merged_with_previous, "-a-"), (Strings{"-", "a-"}));
  EXPECT_EQ(split(dash, Behavior::merged_with_next, "-a-"), (Strings{"-a", "-"}));
  EXPECT_EQ(split(dash, Behavior::removed, "--"), Strings{});
  EXPECT_EQ(split(dash, Behavior::isolated, ""), Strings{});
}

TEST(TokenizerPreTokenizer, MatchesOfNoLengthCut) {
  EXPECT_EQ(split(Regex("(?=[A-Z])", "test"), Behavior::isolated, "aBcDE"), (Strings{"a", "Bc", "D", "E"}));
  EXPECT_EQ(split(Regex(R"((?=(\d{3})+(?!\d)))", "test"), Behavior::isolated, "1234567"), (Strings{"1", "234", "567"}));
  EXPECT_EQ(split(Regex("x*", "test"), Behavior::removed, "a\xc3\xa9xxb"), (Strings{"a", "\xc3\xa9", "b"}));
}

TEST(TokenizerPreTokenizer, WordsOfKnownModels) {
  const std::string text = "Hello world's  1234 \xe4\xbd\xa0\xe5\xa5\xbd!!\n\n x";
  const auto words = [&](std::string_view name) {
    Strings out;
    for (const auto& word : cut(known_model(name, "test").pre_tokenizer, text)) out.push_back(*from_byte_symbols(word));
    return out;
  };
  EXPECT_EQ(words("gpt-2"),
            (Strings{"Hello", " world", "'s", " ", " 1234", " \xe4\xbd\xa0\xe5\xa5\xbd", "!!", "\n\n", " x"}));
  EXPECT_EQ(words("llama-bpe"),
            (Strings{"Hello", " world", "'s", " ", " ", "123", "4", " \xe4\xbd\xa0\xe5\xa5\xbd", "!!\n\n", " x"}));
  EXPECT_EQ(words("qwen2"), (Strings{"Hello", " world", "'s", " ", " ", "1", "2", "3", "4", " \xe4\xbd\xa0\xe5\xa5\xbd",
                                     "!!\n\n", " x"}));
  EXPECT_EQ(words("smollm"), (Strings{"Hello", " world", "'s", "  ", "1", "2", "3", "4", " \xe4\xbd\xa0\xe5\xa5\xbd",
                                      "!!", "\n\n", " x"}));
  for (const auto name : {"default", "tekken", "gpt-4o", "deepseek-v3", "deepseek-coder", "falcon"}) {
    std::string joined;
    for (const auto& word : words(name)) joined += word;
    EXPECT_EQ(joined, text) << name;
  }
  test::expect_error(ErrorCode::unsupported, {"here", "\"chameleon\""}, [] { known_model("chameleon", "here"); });
}

TEST(TokenizerPreTokenizer, MarksSpaces) {
  const std::string mark = MarkSpaces{}.mark;
  for (const auto& [prefix, place, expected] :
       {std::tuple{MarkSpaces::Prefix::always, Place::inside, mark + "a" + mark + "b"},
        std::tuple{MarkSpaces::Prefix::first, Place::start, mark + "a" + mark + "b"},
        std::tuple{MarkSpaces::Prefix::first, Place::inside, "a" + mark + "b"},
        std::tuple{MarkSpaces::Prefix::never, Place::start, "a" + mark + "b"}}) {
    PreTokenizer pre_tokenizer;
    pre_tokenizer.add(MarkSpaces{mark, prefix});
    EXPECT_EQ(cut(pre_tokenizer, "a b", place), Strings{expected});
  }
  PreTokenizer always;
  always.add(MarkSpaces{});
  EXPECT_EQ(cut(always, " a"), Strings{mark + "a"});  // has one already
}

TEST(TokenizerPattern, RefusesWhatPcreRefuses) {
  for (const std::string expression : {"(", "[a", "a{2,1}", "\\C", "(?<=a+)b", "\xff", "*"})
    test::expect_error(ErrorCode::format, {"here", "regular expression"}, [&] { Regex(expression, "here"); });
  test::expect_error(ErrorCode::format, {"here"}, [&] { Regex(std::string(100'000, 'a'), "here"); });
}

TEST(TokenizerPattern, SaysWhenAMatchIsTooHard) {
  const Pattern pattern = Regex("(a|aa)+$", "test");
  Finder finder(pattern);
  test::expect_error(ErrorCode::argument, {"(a|aa)+$", "limit"}, [&] { finder.find_all(std::string(60, 'a') + "b"); });
  EXPECT_EQ(finder.find_all("aaa").size(), 1u);  // and is none the worse for it
}

TEST(TokenizerPattern, LongTextsNeedNoStack) {
  const Pattern pattern = Regex("(?:[ab]|(c))+", "test");
  Finder finder(pattern);
  const auto& found = finder.find_all(std::string(200'000, 'a'));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].size(), 200'000u);
}

AddedToken token(const std::string& content, Token id) {
  AddedToken out;
  out.content = content;
  out.id = id;
  return out;
}

/// Tokens as <id>, text as it is.
Strings parts(const TokenFinder& finder, const std::string& text) {
  Strings out;
  for (const Part& part : finder.split(text))
    out.push_back(part.token ? "<" + std::to_string(*part.token) + ">" : std::string(part.range.of(text)));
  return out;
}

TEST(TokenizerAddedTokens, LeftmostThenLongest) {
  TokenFinder finder;
  for (const auto& t : {token("ab", 1), token("abc", 2), token("bcdef", 3), token("c", 4)}) finder.add(t, t.content);
  EXPECT_EQ(parts(finder, "xabcdef"), (Strings{"x", "<2>", "def"}));
  EXPECT_EQ(parts(finder, "abab"), (Strings{"<1>", "<1>"}));
  EXPECT_EQ(parts(finder, "bcde"), (Strings{"b", "<4>", "de"}));
  EXPECT_EQ(parts(finder, ""), Strings{});
  EXPECT_EQ(parts(TokenFinder(), "abc"), Strings{"abc"});
}

TEST(TokenizerAddedTokens, StripsAndSingleWords) {
  AddedToken left = token("<L>", 1), right = token("<R>", 2), word = token("cat", 3), both = token("<B>", 4);
  left.lstrip = right.rstrip = word.single_word = true;
  both.lstrip = both.rstrip = true;
  TokenFinder finder;
  for (const auto& t : {left, right, word, both}) finder.add(t, t.content);
  EXPECT_EQ(parts(finder, "a \n<L> b"), (Strings{"a", "<1>", " b"}));
  EXPECT_EQ(parts(finder, "a <R> \xe3\x80\x80 b"), (Strings{"a ", "<2>", "b"}));
  EXPECT_EQ(parts(finder, "a <B> <B> b"), (Strings{"a", "<4>", "<4>", "b"}));
  EXPECT_EQ(parts(finder, "<R> <L>"), (Strings{"<2>", "<1>"}));
  EXPECT_EQ(parts(finder, "a cat, concat cats cat"), (Strings{"a ", "<3>", ", concat cats ", "<3>"}));
  EXPECT_EQ(parts(finder,
                  "\xc3\xa9"
                  "cat cat\xcc\x81"),
            Strings{"\xc3\xa9"
                    "cat cat\xcc\x81"});
}

TEST(TokenizerAddedTokens, NeverCutACharacter) {
  TokenFinder finder;
  finder.add(token("\xf0\x9f", 1), "\xf0\x9f");
  EXPECT_EQ(parts(finder, "\xf0\x9f\xa6\x99"), Strings{"\xf0\x9f\xa6\x99"});
}

/// Merging as the paper says it: of all neighbours the best, again and again.
template <class Find>
std::vector<Symbol> merge_slowly(std::vector<Symbol> symbols, const Find& find) {
  while (true) {
    std::optional<Merge> best;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const std::optional<Merge> merge = find(symbols[i], symbols[i + 1]);
      if (merge && (!best || merge->rank < best->rank)) {
        best = merge;
        at = i;
      }
    }
    if (!best) return symbols;
    symbols[at].id = best->id;
    symbols[at].bytes += symbols[at + 1].bytes;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(TokenizerMerge, FastEqualsSlow) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 300; ++round) {
    // A random grammar: some pairs of 24 tokens merge into a token, ranks may repeat.
    const int tokens = 24;
    std::vector<std::optional<Merge>> table(static_cast<std::size_t>(tokens * tokens));
    for (auto& merge : table)
      if (below(4) == 0) merge = Merge{static_cast<std::uint32_t>(below(40)), below(tokens)};
    const auto find = [&](const Symbol& left, const Symbol& right) {
      return table[static_cast<std::size_t>(left.id * tokens + right.id)];
    };

    Merger merger;
    const int n = below(60);
    for (int i = 0; i < n; ++i) merger.symbols.push_back({below(tokens), static_cast<std::uint32_t>(i), 1});
    const auto expected = merge_slowly(merger.symbols, find);
    merger.run(find);
    ASSERT_EQ(merger.symbols.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(merger.symbols[i].id, expected[i].id);
      EXPECT_EQ(merger.symbols[i].begin, expected[i].begin);
      EXPECT_EQ(merger.symbols[i].bytes, expected[i].bytes);
    }
  }
}

TEST(TokenizerSpm, MergesByScoreThroughPiecesOfNoToken) {
  Vocabulary vocabulary;
  // "b" and "c" are no tokens of their own: "bc" is made of them all the same.
  const Strings texts = {"<unk>", "a", "bc", "abc", "<0x64>"};
  for (std::size_t i = 0; i < texts.size(); ++i) vocabulary.add(texts[i], static_cast<std::int64_t>(i), "test");
  const Spm spm(vocabulary, {std::nullopt, -1.0, -2.0, -3.0, std::nullopt}, 0, "test");
  Merger merger;
  std::vector<Token> out;
  spm.encode(vocabulary, "abcbcde", merger, out);
  EXPECT_EQ(out, (std::vector<Token>{3, 2, 4, 0}));  // d by its byte, e unknown
}

TEST(TokenizerSpm, EqualScoresMergeLeftmostFirst) {
  Vocabulary vocabulary;
  const Strings texts = {"a", "b", "ab", "ba"};
  for (std::size_t i = 0; i < texts.size(); ++i) vocabulary.add(texts[i], static_cast<std::int64_t>(i), "test");
  const Spm spm(vocabulary, {-1.0, -1.0, -5.0, -5.0}, {}, "test");
  Merger merger;
  std::vector<Token> out;
  spm.encode(vocabulary, "bab", merger, out);
  EXPECT_EQ(out, (std::vector<Token>{3, 1}));
}

TEST(TokenizerBpe, UnknownCharactersAndBytes) {
  Vocabulary vocabulary;
  const Strings texts = {"<unk>", "a", "<0xC3>", "<0xA9>"};
  for (std::size_t i = 0; i < texts.size(); ++i) vocabulary.add(texts[i], static_cast<std::int64_t>(i), "test");
  const auto encode = [&](Bpe::Options options, const std::string& word) {
    Merger merger;
    std::vector<Token> out;
    Bpe(vocabulary, {}, std::move(options), "test").encode(vocabulary, word, merger, out);
    return out;
  };
  using Ids = std::vector<Token>;
  EXPECT_EQ(encode({}, "axya"), (Ids{1, 1}));
  EXPECT_EQ(encode({.unknown = 0}, "axya"), (Ids{1, 0, 0, 1}));
  EXPECT_EQ(encode({.unknown = 0, .fuse_unknown = true}, "axyaz"), (Ids{1, 0, 1, 0}));
  EXPECT_EQ(encode({.unknown = 0, .byte_fallback = true}, "a\xc3\xa9\xc3\xa8"), (Ids{1, 2, 3, 0}));
}

TEST(TokenizerBpe, AffixesSpellWhereInAWordACharacterStands) {
  Vocabulary vocabulary;
  const Strings texts = {"a", "##b", "##c</w>", "ab", "abc</w>", "a</w>"};
  for (std::size_t i = 0; i < texts.size(); ++i) vocabulary.add(texts[i], static_cast<std::int64_t>(i), "test");
  Bpe::Options options;
  options.word_part_prefix = "##";
  options.word_end_suffix = "</w>";
  const Bpe bpe(vocabulary, {{"a", "##b"}, {"ab", "##c</w>"}}, options, "test");
  Merger merger;
  std::vector<Token> out;
  for (const std::string word : {"abc", "a", "ab"}) bpe.encode(vocabulary, word, merger, out);
  EXPECT_EQ(out, (std::vector<Token>{4, 5, 0}));  // "##b</w>" is no token and vanishes
}

}  // namespace
}  // namespace pith::text
