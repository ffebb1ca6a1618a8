// SPDX-License-Identifier: MIT
// The tokenizer as a host sees it, on small ones made here: what each part of a file means, special tokens, pieces,
// streams, threads.
#include "pith/tokenizer.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/files.hpp"
#include "text/byte_level.hpp"
#include "text/unicode.hpp"

namespace pith {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<Token>;
using Show = Tokenizer::Show;
using test::TempFolder;

const std::string mark = "\xe2\x96\x81";

/// Byte-level BPE: ids 0 to 255 are the bytes, then "he" 256, "ll" 257, "hell" 258, "hello" 259, " hello" 260,
/// <|end|> 261, <|pad|> 262.
Json byte_level() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[text::to_byte_symbols(std::string(1, static_cast<char>(byte)))] = byte;
  Json merges = Json::array();
  int id = 256;
  const std::string space = text::to_byte_symbols(" ");
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {space, "hello"}}) {
    vocab[left + right] = id++;
    merges.push_back(left + " " + right);
  }
  const auto special = [&](const std::string& content) {
    return Json{{"id", id++},      {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  return {{"version", "1.0"},
          {"added_tokens", {special("<|end|>"), special("<|pad|>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", {{"type", "ByteLevel"}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

/// SentencePiece-style: specials 0 to 2, bytes 3 to 258, then a few pieces.
const std::vector<std::string> spm_pieces = {mark, "a", "b", "ab", mark + "a", mark + "ab", mark + mark};
constexpr Token spm_first = 259;

Json spm_like() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[text::byte_token(static_cast<unsigned char>(byte))] = 3 + byte;
  for (std::size_t i = 0; i < spm_pieces.size(); ++i) vocab[spm_pieces[i]] = spm_first + static_cast<Token>(i);
  Json added = Json::array();
  for (const auto& content : {"<unk>", "<s>", "</s>"})
    added.push_back({{"id", vocab[content]}, {"content", content}, {"normalized", false}, {"special", true}});
  return {{"added_tokens", added},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", mark}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}}}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", {"a b", mark + " ab", mark + " a", mark + " " + mark}}}}};
}

Tokenizer load(const Json& json) {
  const TempFolder folder;
  return Tokenizer::load(folder.write("tokenizer.json", json.dump()));
}

TEST(Tokenizer, ByteLevel) {
  const auto t = load(byte_level());
  EXPECT_EQ(t.vocab_size(), 263);
  EXPECT_EQ(t.encode("hello hello"), (Ids{259, 260}));
  EXPECT_EQ(t.encode("helhell"), (Ids{256, 'l', 258}));
  EXPECT_EQ(t.encode(""), Ids{});
  EXPECT_EQ(t.decode(Ids{259, 260}), "hello hello");
  EXPECT_EQ(t.id("hello"), 259);
  EXPECT_EQ(t.id("nothing"), std::nullopt);
  std::string every;
  for (int code = 1; code < 0x500; ++code) text::append(every, static_cast<char32_t>(code));
  EXPECT_EQ(t.decode(t.encode(every)), every);
  const std::string zero("a\0b", 3);
  EXPECT_EQ(t.decode(t.encode(zero)), zero);
}

TEST(Tokenizer, SentencePieceStyle) {
  const auto t = load(spm_like());
  EXPECT_EQ(t.encode("ab ab"), (Ids{1, 264, 264}));
  EXPECT_EQ(t.encode("ab", Specials::parse_only), Ids{264});
  EXPECT_EQ(t.encode(" a  b", Specials::plain), (Ids{259, 263, 265, 261}));
  EXPECT_EQ(t.encode("\xc3\xa9", Specials::plain), (Ids{259, 3 + 0xc3, 3 + 0xa9}));
  EXPECT_EQ(t.encode("", Specials::as_trained), Ids{1});
  for (const std::string text : {"ab ab", " a  b", "\xc3\xa9\n\xf0\x9f\xa6\x99", "   ", ""}) {
    EXPECT_EQ(t.decode(t.encode(text)), text);
    EXPECT_EQ(t.decode(t.encode(text, Specials::plain)), text);
  }
  EXPECT_EQ(t.bos(), 1);
  EXPECT_TRUE(t.is_end(2));
}

TEST(Tokenizer, SpecialsAreParsedOrLeftAlone) {
  const auto t = load(byte_level());
  EXPECT_EQ(t.encode("hello<|end|> hello", Specials::as_trained), (Ids{259, 261, 260}));
  EXPECT_EQ(t.encode("hello<|end|> hello", Specials::parse_only), (Ids{259, 261, 260}));
  const auto plain = t.encode("<|end|>", Specials::plain);
  EXPECT_EQ(plain, (Ids{'<', '|', 'e', 'n', 'd', '|', '>'}));
  EXPECT_EQ(t.decode(plain), "<|end|>");
  EXPECT_EQ(t.decode(Ids{259, 261}), "hello");
  EXPECT_EQ(t.decode(Ids{259, 261}, Show::with_specials), "hello<|end|>");
  EXPECT_TRUE(t.is_special(261));
  EXPECT_FALSE(t.is_special(259));
  EXPECT_FALSE(t.is_special(-1));
  EXPECT_FALSE(t.is_special(10'000));
  EXPECT_TRUE(t.is_end(261));
  EXPECT_FALSE(t.is_end(262));
  EXPECT_EQ(t.piece(261), "");
  EXPECT_EQ(t.piece(260), " hello");
}

TEST(Tokenizer, AddedTokensThatAreNotSpecialStayInPlainText) {
  auto json = byte_level();
  json["added_tokens"].push_back({{"id", 263}, {"content", "<tool>"}, {"special", false}, {"normalized", false}});
  const auto t = load(json);
  for (const auto specials : {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain})
    EXPECT_EQ(t.encode("hello<tool>", specials), (Ids{259, 263}));
  EXPECT_EQ(t.decode(Ids{259, 263}), "hello<tool>");
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundInTheNormalizedText) {
  auto json = byte_level();
  json["normalizer"] = {{"type", "Lowercase"}};
  json["added_tokens"].push_back({{"id", 263}, {"content", "NaN"}, {"special", false}, {"normalized", true}});
  json["added_tokens"].push_back({{"id", 264}, {"content", "RAW"}, {"special", false}, {"normalized", false}});
  const auto t = load(json);
  EXPECT_EQ(t.encode("nan"), Ids{263});
  EXPECT_EQ(t.encode("NAN"), Ids{263});
  EXPECT_EQ(t.encode("RAW"), Ids{264});
  EXPECT_EQ(t.encode("raw"), (Ids{'r', 'a', 'w'}));
  EXPECT_EQ(t.encode("HELLO"), Ids{259});
}

TEST(Tokenizer, IgnoreMergesTakesAWordThatIsAToken) {
  auto json = byte_level();
  json["model"]["vocab"]["xyz"] = 263;
  EXPECT_EQ(load(json).encode("xyz"), (Ids{'x', 'y', 'z'}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json).encode("xyz"), Ids{263});
  EXPECT_EQ(load(json).encode("hello"), Ids{259});
}

TEST(Tokenizer, MergesMayBePairs) {
  auto json = byte_level();
  for (auto& merge : json["model"]["merges"]) {
    const std::string both = merge;
    const auto space = both.find(' ');
    merge = {both.substr(0, space), both.substr(space + 1)};
  }
  EXPECT_EQ(load(json).encode("hello hello"), (Ids{259, 260}));
}

TEST(Tokenizer, TemplatesMayStandOnBothSides) {
  auto json = byte_level();
  json["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        {{"type", "TemplateProcessing"},
         {"single",
          {{{"SpecialToken", {{"id", "X"}}}}, {{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", "Y"}}}}}},
         {"special_tokens", {{"X", {{"ids", {262, 261}}}}, {"Y", {{"ids", {261}}}}}}}}}};
  EXPECT_EQ(load(json).encode("hello"), (Ids{262, 261, 259, 261}));
  EXPECT_EQ(load(json).encode("hello", Specials::parse_only), Ids{259});
  json["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"<|pad|>", 262}}, {"sep", {"<|end|>", 261}}};
  EXPECT_EQ(load(json).encode("hello"), (Ids{262, 259, 261}));
}

TEST(Tokenizer, PreTokenizersByName) {
  const auto words = [](const Json& pre_tokenizer, const std::string& text) {
    auto json = byte_level();
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {pre_tokenizer}}};
    // Words show as unknown tokens: each but the letters that are tokens vanishes, so mark every letter as merged.
    json["model"]["vocab"]["ab"] = 263;
    json["model"]["merges"].push_back("a b");
    return load(json).encode(text).size();
  };
  // "ab" is one token unless a boundary comes between; only what the pre-tokenizer removes is missing.
  EXPECT_EQ(words({{"type", "Whitespace"}}, "ab ab!"), 3u);
  EXPECT_EQ(words({{"type", "WhitespaceSplit"}}, "ab\tab\n"), 2u);
  EXPECT_EQ(words({{"type", "BertPreTokenizer"}}, "ab, ab"), 3u);
  EXPECT_EQ(words({{"type", "Punctuation"}}, "ab,ab"), 3u);
  EXPECT_EQ(words({{"type", "Digits"}, {"individual_digits", true}}, "ab12"), 3u);
  EXPECT_EQ(words({{"type", "CharDelimiterSplit"}, {"delimiter", "x"}}, "axbxab"), 3u);
  EXPECT_EQ(words({{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}}, "abab"), 4u);
  EXPECT_EQ(
      words({{"type", "Split"}, {"pattern", {{"String", "b"}}}, {"behavior", "Removed"}, {"invert", true}}, "abab"),
      2u);
}

TEST(Tokenizer, MetaspaceBothWays) {
  auto json = spm_like();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", mark}, {"prepend_scheme", "first"}, {"split", true}};
  json["decoder"] = json["pre_tokenizer"];
  const auto t = load(json);
  EXPECT_EQ(t.encode("ab ab", Specials::parse_only), (Ids{264, 264}));
  EXPECT_EQ(t.encode("<s>ab", Specials::parse_only), (Ids{1, 262}));  // not first: no mark
  EXPECT_EQ(t.decode(Ids{264, 264}), "ab ab");
  json["pre_tokenizer"]["prepend_scheme"] = "never";
  EXPECT_EQ(load(json).encode("ab ab", Specials::parse_only), (Ids{262, 264}));
}

TEST(Tokenizer, WithoutDecoderTokensAreWords) {
  auto json = byte_level();
  json["decoder"] = nullptr;
  EXPECT_EQ(load(json).decode(Ids{'a', 'b'}), "a b");
}

TEST(Tokenizer, EncodesWordsAloneAsItDoesTogether) {
  // A piece that reaches over a space forbids encoding word by word; a pair that never merges shows no difference.
  auto apart = spm_like();
  auto together = apart;
  together["model"]["vocab"]["a" + mark + "b"] = 266;
  const auto fast = load(apart), whole = load(together);
  for (const std::string text : {"ab ab  a b", "a   b", " ", "abab ab\nab", "bbb aaa"})
    EXPECT_EQ(fast.encode(text), whole.encode(text)) << text;
  together["model"]["merges"].insert(together["model"]["merges"].begin(), Json{"a", mark + "b"});
  together["model"]["vocab"][mark + "b"] = 267;
  together["model"]["merges"].insert(together["model"]["merges"].begin(), Json{mark, "b"});
  EXPECT_EQ(load(together).encode("a b", Specials::plain), (Ids{259, 266}));
}

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  const auto t = load(byte_level());
  EXPECT_EQ(t.encode("a\xff"
                     "b"),
            t.encode("a\xef\xbf\xbd"
                     "b"));
  EXPECT_EQ(t.decode(Ids{'a', 0xff, 'b'}),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(t.decode(Ids{0xe2, 0x82}), "\xef\xbf\xbd");
  EXPECT_EQ(t.piece(0xff), "\xff");
}

TEST(Tokenizer, NegativeIdsAreRefused) {
  const auto t = load(byte_level());
  TextStream stream(t);
  const Token id = -1;
  test::expect_error(ErrorCode::argument, {"at least 0", "-1"}, [&] { t.decode(std::span(&id, 1)); });
  test::expect_error(ErrorCode::argument, {"at least 0", "-1"}, [&] { t.piece(id); });
  test::expect_error(ErrorCode::argument, {"at least 0", "-1"}, [&] { stream.push(id); });
}

// Qwen's models have some hundred ids more than their tokenizer.
TEST(Tokenizer, IdsBeyondTheVocabularyStandForNoText) {
  const auto t = load(byte_level());
  TextStream stream(t);
  for (const Token id : {263, 500, 1 << 30}) {
    EXPECT_EQ(t.decode(Ids{259, id, 260}), "hello hello");
    EXPECT_EQ(t.decode(Ids{259, id, 260}, Tokenizer::Show::with_specials), "hello hello");
    EXPECT_EQ(t.piece(id), "");
    EXPECT_FALSE(t.is_end(id));
    EXPECT_FALSE(t.is_special(id));
    EXPECT_EQ(stream.push(0xe2), "");
    EXPECT_EQ(stream.push(id), "") << "in the middle of a character";
    EXPECT_EQ(stream.push(0x82), "");
    EXPECT_EQ(stream.push(0xac), "\xe2\x82\xac");
  }
}

// The default adds what the file adds, and takes the text as it is.
TEST(Tokenizer, TextOfUsersIsNoSpecialTokenUnlessAskedFor) {
  const auto t = load(spm_like());
  const std::string text = "ab</s>ab";
  EXPECT_EQ(t.encode(text), t.encode(text, Specials::add_only));
  const auto typed = t.encode(text), parsed = t.encode(text, Specials::as_trained);
  EXPECT_EQ(typed.front(), 1);
  EXPECT_EQ(parsed.front(), 1);
  EXPECT_EQ(std::ranges::count(typed, 2), 0);
  EXPECT_EQ(std::ranges::count(parsed, 2), 1);
  EXPECT_EQ(t.decode(typed), text);
  auto without_first = t.encode(text, Specials::plain);
  without_first.insert(without_first.begin(), 1);
  EXPECT_EQ(typed, without_first);
}

TEST(TextStream, NeverEmitsHalfACharacter) {
  const auto t = load(byte_level());
  TextStream stream(t);
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.push(0x9f), "");
  EXPECT_EQ(stream.push(0xa6), "");
  EXPECT_EQ(stream.push(0x99), "\xf0\x9f\xa6\x99");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push('x'), "\xef\xbf\xbdx");  // it did not grow into one
  EXPECT_EQ(stream.push(0xc3), "");
  EXPECT_EQ(stream.push(261), "");  // a special token contributes nothing
  EXPECT_EQ(stream.push(0xa9), "\xc3\xa9");
  EXPECT_EQ(stream.push(0xc3), "");
  EXPECT_EQ(stream.flush(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.flush(), "");
  EXPECT_EQ(stream.push('a'), "a");
}

TEST(TextStream, DropsTheFirstSpaceOnce) {
  const auto t = load(spm_like());
  TextStream stream(t);
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(stream.push(1), "");
    EXPECT_EQ(stream.push(264), "ab");
    EXPECT_EQ(stream.push(264), " ab");
    EXPECT_EQ(stream.flush(), "");
  }
  EXPECT_EQ(stream.push(259) + stream.push(264), " ab");  // the mark alone is what is dropped
}

TEST(TextStream, EqualsDecodeForAnyTokens) {
  std::uint32_t random = 1;
  for (const auto& json : {byte_level(), spm_like()}) {
    const auto t = load(json);
    for (int round = 0; round < 200; ++round) {
      Ids ids;
      for (int i = 0; i < 20; ++i) {
        random = random * 1664525 + 1013904223;
        ids.push_back(static_cast<Token>((random >> 8) % static_cast<std::uint32_t>(t.vocab_size())));
      }
      TextStream stream(t);
      std::string streamed;
      for (const Token id : ids) {
        const auto out = stream.push(id);
        EXPECT_TRUE(text::is_utf8(out));
        streamed += out;
      }
      EXPECT_EQ(streamed + stream.flush(), t.decode(ids));
    }
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto t = load(byte_level());
  const std::string text = "hello hello, it's 12 \xf0\x9f\xa6\x99  <|end|> hello";
  const auto expected = t.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (std::size_t i = 0; i < equal.size(); ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) equal[i] += t.encode(text) == expected && t.decode(expected) != "";
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 200));
}

TEST(Tokenizer, LongWordsTakeNoLongerThanTheirLength) {
  // Quadratic merging would take hours; the generous bound is for slow machines and sanitizers.
  const auto begin = std::chrono::steady_clock::now();
  const std::size_t n = 1 << 19;
  for (const auto& json : {byte_level(), spm_like()}) {
    const auto t = load(json);
    for (const std::string unit : {"hell", "a", " ", "\n", "1", "\xf0\x9f\xa6\x99", "<|", "ab"}) {
      std::string text;
      while (text.size() < n) text += unit;
      EXPECT_TRUE(t.decode(t.encode(text)) == text) << unit;
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(120));
}

// What the other files of a directory say.

TEST(TokenizerDirectory, EndsAndBeginsComeFromItsConfigs) {
  const TempFolder folder;
  folder.write("tokenizer.json", byte_level().dump());
  EXPECT_EQ(Tokenizer::load(folder.path()).bos(), std::nullopt);
  folder.write("config.json", R"({"bos_token_id": 262, "eos_token_id": 65, "vocab_size": 263})");
  auto t = Tokenizer::load(folder.path());
  EXPECT_EQ(t.bos(), 262);
  EXPECT_TRUE(t.is_end(65));
  folder.write("generation_config.json", R"({"eos_token_id": [66, 67, 999999]})");
  t = Tokenizer::load(folder.path());
  for (const Token end : {65, 66, 67, 261}) EXPECT_TRUE(t.is_end(end)) << end;
  folder.write("tokenizer_config.json", R"({"bos_token": null, "eos_token": {"content": "<|pad|>"}})");
  t = Tokenizer::load(folder.path());
  EXPECT_EQ(t.bos(), std::nullopt);
  EXPECT_TRUE(t.is_end(262));
}

TEST(TokenizerDirectory, IdsBeyondTheModelComeOutOfNoText) {
  auto json = byte_level();
  json["added_tokens"].push_back({{"id", 263}, {"content", "    "}, {"special", false}, {"normalized", false}});
  const TempFolder folder;
  folder.write("tokenizer.json", json.dump());
  EXPECT_EQ(Tokenizer::load(folder.path()).encode("    "), Ids{263});
  folder.write("config.json", R"({"vocab_size": 263})");
  const auto t = Tokenizer::load(folder.path());
  EXPECT_EQ(t.encode("    "), (Ids{' ', ' ', ' ', ' '}));
  EXPECT_EQ(t.decode(Ids{263}), "    ");
}

/// Writes vocab.json and merges.txt of the byte-level tokenizer above; ids 261 and 262 are not in them.
void write_pair(const TempFolder& folder) {
  const auto json = byte_level();
  folder.write("vocab.json", json["model"]["vocab"].dump());
  std::string merges = "#version: 0.2\n";
  for (const std::string merge : json["model"]["merges"]) merges += merge + "\n";
  folder.write("merges.txt", merges);
}

TEST(TokenizerDirectory, VocabAndMerges) {
  const TempFolder folder;
  write_pair(folder);
  for (const auto& path : {folder.path(), folder.path() / "vocab.json", folder.path() / "merges.txt"}) {
    const auto t = Tokenizer::load(path);
    EXPECT_EQ(t.vocab_size(), 261);
    EXPECT_EQ(t.encode("hello hello"), (Ids{259, 260}));
    EXPECT_EQ(t.decode(Ids{259, 260}), "hello hello");
    EXPECT_EQ(t.encode("12"), (Ids{'1', '2'}));
  }
}

TEST(TokenizerDirectory, TokenizerConfigCompletesThePair) {
  const TempFolder folder;
  write_pair(folder);
  folder.write("tokenizer_config.json", R"({
    "tokenizer_class": "Qwen2TokenizerFast", "add_bos_token": true, "add_eos_token": true,
    "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
    "added_tokens_decoder": {"261": {"content": "<|im_start|>", "special": true},
                             "262": {"content": "<|im_end|>", "special": true},
                             "263": {"content": "<tool>", "special": false}}})");
  folder.write("added_tokens.json", R"({"<|extra|>": 264, "<|im_end|>": 262})");
  const auto t = Tokenizer::load(folder.path());
  EXPECT_EQ(t.encode("hello<tool><|extra|>", Specials::as_trained), (Ids{261, 259, 263, 264, 262}));
  EXPECT_EQ(t.bos(), 261);
  EXPECT_TRUE(t.is_end(262));
  EXPECT_TRUE(t.is_special(262));
  EXPECT_FALSE(t.is_special(264));
  EXPECT_EQ(t.encode("e\xcc\x81", Specials::plain), (Ids{0xc3, 0xa9}));  // Qwen's composes
}

TEST(TokenizerDirectory, Gpt2EndsWithoutBeingToldSo) {
  const TempFolder folder;
  write_pair(folder);
  auto vocab = byte_level()["model"]["vocab"];
  vocab["<|endoftext|>"] = 261;
  folder.write("vocab.json", vocab.dump());
  for (const auto config : {"", R"({"model_max_length": 1024})"}) {
    if (*config != '\0') folder.write("tokenizer_config.json", config);
    const auto t = Tokenizer::load(folder.path());
    EXPECT_EQ(t.encode("hello<|endoftext|>", Specials::as_trained), (Ids{259, 261}));
    EXPECT_TRUE(t.is_end(261));
    EXPECT_EQ(t.bos(), 261);
  }
}

// Tokenizers inside GGUF and of SentencePiece itself.

std::string array(std::uint32_t kind, std::size_t n, const std::string& bytes) {
  return test::raw(kind) + test::raw(std::uint64_t{n}) + bytes;
}

struct Pieces {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> kinds;

  void add(const std::string& text, float score, std::int32_t kind) {
    texts.push_back(text);
    scores.push_back(score);
    kinds.push_back(kind);
  }
};

/// The pieces of spm_like(): scores in the order of its merges.
Pieces pieces() {
  Pieces out;
  out.add("<unk>", 0, 2);
  out.add("<s>", 0, 3);
  out.add("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) out.add(text::byte_token(static_cast<unsigned char>(byte)), 0, 6);
  const std::vector<float> scores = {-10, -11, -12, -1, -3, -2, -4};
  for (std::size_t i = 0; i < spm_pieces.size(); ++i) out.add(spm_pieces[i], scores[i], 1);
  return out;
}

test::GgufWriter spm_gguf(const Pieces& from) {
  test::GgufWriter out;
  out.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", from.texts);
  out.put("tokenizer.ggml.scores", 9, array(6, from.scores.size(), test::raw(from.scores)));
  out.put("tokenizer.ggml.token_type", 9, array(5, from.kinds.size(), test::raw(from.kinds)));
  out.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
  out.u32("tokenizer.ggml.unknown_token_id", 0);
  return out;
}

Tokenizer load_gguf(const test::GgufWriter& writer) {
  const TempFolder folder;
  return Tokenizer::load(folder.write("t.gguf", writer.bytes()));
}

const std::vector<std::string> sentencepiece_texts = {"ab ab", " a  b", "\xc3\xa9\n", "   ", "", "a<s>b", "abab</s>"};

TEST(TokenizerGguf, SentencePieceAgreesWithItsJson) {
  const auto gguf = load_gguf(spm_gguf(pieces())), json = load(spm_like());
  EXPECT_EQ(gguf.vocab_size(), json.vocab_size());
  for (const auto& text : sentencepiece_texts)
    for (const auto specials : {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain})
      EXPECT_EQ(gguf.encode(text, specials), json.encode(text, specials)) << text;
  EXPECT_EQ(gguf.bos(), 1);
  EXPECT_TRUE(gguf.is_end(2));
}

TEST(TokenizerGguf, ItsFlagsRule) {
  auto writer = spm_gguf(pieces());
  writer.flag("tokenizer.ggml.add_bos_token", false).flag("tokenizer.ggml.add_eos_token", true);
  writer.flag("tokenizer.ggml.add_space_prefix", false).u32("tokenizer.ggml.eot_token_id", 260);
  const auto t = load_gguf(writer);
  EXPECT_EQ(t.encode("ab ab"), (Ids{262, 264, 2}));
  EXPECT_EQ(t.decode(Ids{264}), " ab");
  EXPECT_TRUE(t.is_end(260));
}

TEST(TokenizerGguf, UserDefinedTokensAreFoundAsSpelled) {
  auto from = pieces();
  from.add("<tool>", 0, 4);
  const auto t = load_gguf(spm_gguf(from));
  EXPECT_EQ(t.encode("ab<tool>", Specials::plain), (Ids{264, 266}));
  EXPECT_EQ(t.decode(Ids{264, 266}), "ab<tool>");
}

test::GgufWriter bpe_gguf(const std::string& pre) {
  const auto json = byte_level();
  std::vector<std::string> texts(263);
  std::vector<std::int32_t> kinds(263, 1);
  for (const auto& [text, id] : json["model"]["vocab"].items()) texts[id] = text;
  texts[261] = "<|end|>";
  texts[262] = "<|begin|>";
  kinds[261] = kinds[262] = 3;
  test::GgufWriter out;
  out.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", texts);
  if (!pre.empty()) out.text("tokenizer.ggml.pre", pre);
  out.texts("tokenizer.ggml.merges", json["model"]["merges"].get<std::vector<std::string>>());
  out.put("tokenizer.ggml.token_type", 9, array(5, kinds.size(), test::raw(kinds)));
  out.u32("tokenizer.ggml.bos_token_id", 262).u32("tokenizer.ggml.eos_token_id", 261);
  return out;
}

TEST(TokenizerGguf, ByteLevel) {
  for (const std::string pre : {"", "default", "gpt-2", "qwen2", "llama-bpe", "smollm", "tekken"}) {
    const auto t = load_gguf(bpe_gguf(pre));
    EXPECT_EQ(t.encode("hello hello", Specials::plain), (Ids{259, 260})) << pre;
    EXPECT_EQ(t.encode("hello<|end|>", Specials::parse_only), (Ids{259, 261})) << pre;
    const bool adds_bos = pre == "llama-bpe" || pre == "tekken";
    EXPECT_EQ(t.encode("hello"), adds_bos ? (Ids{262, 259}) : (Ids{259})) << pre;
    EXPECT_TRUE(t.is_end(261));
  }
}

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(0x80 | (value & 0x7f));
  return out + static_cast<char>(value);
}
std::string number_field(std::uint64_t field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes_field(std::uint64_t field, const std::string& bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + bytes;
}

/// A ModelProto; `normalizer` and `trainer` are messages.
std::string sentencepiece(const Pieces& from, const std::string& trainer, const std::string& normalizer) {
  std::string out;
  for (std::size_t i = 0; i < from.texts.size(); ++i)
    out += bytes_field(1, bytes_field(1, from.texts[i]) + varint(2 << 3 | 5) + test::raw(from.scores[i]) +
                              number_field(3, static_cast<std::uint64_t>(from.kinds[i])));
  return out + bytes_field(2, trainer) + bytes_field(3, normalizer);
}

const std::string bpe_trainer = number_field(3, 2) + number_field(40, 0) + number_field(41, 1) + number_field(42, 2);

Tokenizer load_sentencepiece(const std::string& bytes) {
  const TempFolder folder;
  folder.write("tokenizer.model", bytes);
  return Tokenizer::load(folder.path());
}

TEST(TokenizerSentencePiece, AgreesWithItsJson) {
  const auto t = load_sentencepiece(sentencepiece(pieces(), bpe_trainer, number_field(4, 0)));
  const auto json = load(spm_like());
  for (const auto& text : sentencepiece_texts)
    for (const auto specials : {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain})
      EXPECT_EQ(t.encode(text, specials), json.encode(text, specials)) << text;
  EXPECT_EQ(t.bos(), 1);
  EXPECT_TRUE(t.is_end(2));
}

TEST(TokenizerSentencePiece, NormalizerSpec) {
  const auto extra_removed = load_sentencepiece(sentencepiece(pieces(), bpe_trainer, number_field(4, 1)));
  EXPECT_EQ(extra_removed.encode("  ab   ab "), (Ids{1, 264, 264}));
  const auto no_prefix =
      load_sentencepiece(sentencepiece(pieces(), bpe_trainer, number_field(3, 0) + number_field(4, 0)));
  EXPECT_EQ(no_prefix.encode("ab ab"), (Ids{1, 262, 264}));
  EXPECT_EQ(no_prefix.decode(Ids{264}), " ab");
}

TEST(TokenizerSentencePiece, WhatIsNotSupportedSaysSo) {
  test::expect_error(ErrorCode::unsupported, {"tokenizer.model", "Unigram"},
                     [] { load_sentencepiece(sentencepiece(pieces(), number_field(3, 1), "")); });
  test::expect_error(ErrorCode::unsupported, {"tokenizer.model", "nmt_nfkc"}, [] {
    load_sentencepiece(sentencepiece(pieces(), bpe_trainer, bytes_field(1, "nmt_nfkc") + bytes_field(2, "table")));
  });
}

TEST(TokenizerSentencePiece, MalformedFilesAreRefused) {
  const auto whole = sentencepiece(pieces(), bpe_trainer, number_field(4, 0));
  for (std::size_t n = 0; n < whole.size(); n += 13) {
    try {
      load_sentencepiece(whole.substr(0, n));
      // Cut between two fields it is a smaller model of the default type, Unigram, which is refused below.
      ADD_FAILURE() << "loaded " << n << " bytes";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("tokenizer.model"), std::string::npos) << error.what();
    }
  }
  test::expect_error(ErrorCode::format, {"wire type 7"}, [] { load_sentencepiece("\x0f"); });
  test::expect_error(ErrorCode::format, {"10 bytes"}, [] { load_sentencepiece(std::string(20, '\xff')); });
  test::expect_error(ErrorCode::format, {"piece 0", "token type", "9"},
                     [] { load_sentencepiece(bytes_field(1, number_field(3, 9))); });
  test::expect_error(ErrorCode::format, {"another kind"}, [] { load_sentencepiece(number_field(1, 9)); });
}

}  // namespace
}  // namespace pith
