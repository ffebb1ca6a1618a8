// SPDX-License-Identifier: MIT
// Broken tokenizer files: each is refused by an Error that names the file, what was expected and what was found.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "pith/tokenizer.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

using Json = nlohmann::json;
using test::expect_error;
using test::TempFolder;

Json small() {
  return Json::parse(R"({
    "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " "}, "behavior": "Isolated", "invert": false},
    "post_processor": {"type": "TemplateProcessing",
                       "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                       "special_tokens": {"<s>": {"ids": [3]}}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
                                                   {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

Tokenizer load_text(const std::string& text) {
  const TempFolder folder;
  return Tokenizer::load(folder.write("tokenizer.json", text));
}

struct Case {
  std::string what;
  std::function<void(Json&)> breaks;
  std::vector<std::string> says;
  ErrorCode code = ErrorCode::format;
};

Json::json_pointer operator"" _at(const char* text, std::size_t size) { return Json::json_pointer({text, size}); }

const std::vector<Case>& cases() {
  const auto unsupported = ErrorCode::unsupported;
  static const std::vector<Case> all = {
      {"no model", [](Json& j) { j.erase("model"); }, {"\"model\""}},
      {"model is text", [](Json& j) { j["model"] = "BPE"; }, {"\"model\""}},
      {"WordPiece", [](Json& j) { j["/model/type"_at] = "WordPiece"; }, {"WordPiece"}, unsupported},
      {"Unigram", [](Json& j) { j["/model/type"_at] = "Unigram"; }, {"Unigram"}, unsupported},
      {"an untyped list",
       [](Json& j) {
         j["model"] = {{"vocab", Json::array()}};
       },
       {"Unigram"},
       unsupported},
      {"an untyped map",
       [](Json& j) {
         j["model"] = {{"vocab", Json::object()}};
       },
       {"WordPiece"},
       unsupported},
      {"dropout", [](Json& j) { j["/model/dropout"_at] = 0.1; }, {"dropout"}, unsupported},
      {"type is a number", [](Json& j) { j["/model/type"_at] = 3; }, {"type", "a string", "3"}},
      {"no vocab", [](Json& j) { j["model"].erase("vocab"); }, {"\"vocab\""}},
      {"vocab is a list", [](Json& j) { j["/model/vocab"_at] = {"a"}; }, {"vocab", "an object", "an array of 1"}},
      {"id is text", [](Json& j) { j["/model/vocab/a"_at] = "0"; }, {"\"a\"", "an integer", "\"0\""}},
      {"id is a fraction", [](Json& j) { j["/model/vocab/a"_at] = 0.5; }, {"\"a\"", "an integer", "0.5"}},
      {"id is negative", [](Json& j) { j["/model/vocab/a"_at] = -1; }, {"\"a\"", "an id from 0", "-1"}},
      {"id is huge", [](Json& j) { j["/model/vocab/a"_at] = std::int64_t{1} << 40; }, {"\"a\"", "1099511627776"}},
      {"id is beyond 63 bits", [](Json& j) { j["/model/vocab/a"_at] = ~std::uint64_t{0}; }, {"2^63"}},
      {"id comes twice", [](Json& j) { j["/model/vocab/b"_at] = 0; }, {"\"b\"", "an id of its own", "\"a\""}},
      {"no merges", [](Json& j) { j["model"].erase("merges"); }, {"\"merges\""}},
      {"merges are a map", [](Json& j) { j["/model/merges"_at] = Json::object(); }, {"merges", "an array"}},
      {"merge is a number", [](Json& j) { j["/model/merges"_at] = {1}; }, {"merges[0]", "a string", "1"}},
      {"merge of one", [](Json& j) { j["/model/merges"_at] = {"ab"}; }, {"merges[0]", "two tokens", "\"ab\""}},
      {"merge of three", [](Json& j) { j["/model/merges"_at] = {"a b a"}; }, {"merges[0]", "two tokens"}},
      {"merge list of one", [](Json& j) { j["/model/merges"_at] = {{"a"}}; }, {"merges[0]", "two tokens"}},
      {"merge list of numbers",
       [](Json& j) {
         j["/model/merges"_at] = {{1, 2}};
       },
       {"merges[0]", "a string"}},
      {"merge of an unknown", [](Json& j) { j["/model/merges"_at] = {"a c"}; }, {"merge 0", "\"c\""}},
      {"merge into an unknown", [](Json& j) { j["/model/merges"_at] = {"b a"}; }, {"merge 0", "\"ba\""}},
      {"unknown token unknown", [](Json& j) { j["/model/unk_token"_at] = "z"; }, {"unk_token", "\"z\""}},
      {"flag is text", [](Json& j) { j["/model/byte_fallback"_at] = "yes"; }, {"byte_fallback", "true or false"}},
      {"added is a map", [](Json& j) { j["added_tokens"] = Json::object(); }, {"added_tokens", "an array"}},
      {"added is text", [](Json& j) { j["added_tokens"] = {"<s>"}; }, {"added_tokens[0]", "an object"}},
      {"added without id", [](Json& j) { j["/added_tokens/0"_at].erase("id"); }, {"added_tokens[0]", "\"id\""}},
      {"added id taken", [](Json& j) { j["/added_tokens/0/id"_at] = 1; }, {"\"<s>\"", "\"b\""}},
      {"added id differs", [](Json& j) { j["/added_tokens/0/content"_at] = "a"; }, {"\"a\"", "its id", "0", "3"}},
      {"added id is huge", [](Json& j) { j["/added_tokens/0/id"_at] = 2147483647; }, {"\"<s>\"", "2147483647"}},
      {"normalizer unknown",
       [](Json& j) { j["/normalizer/type"_at] = "Precompiled"; },
       {"normalizer", "Precompiled"},
       unsupported},
      {"normalizer is text", [](Json& j) { j["normalizer"] = "NFC"; }, {"normalizer", "an object"}},
      {"normalizer without type", [](Json& j) { j["normalizer"] = Json::object(); }, {"normalizer", "\"type\""}},
      {"pattern empty",
       [](Json& j) {
         j["/pre_tokenizer/pattern"_at] = {{"String", ""}};
       },
       {"String", "not empty"}},
      {"pattern of nothing", [](Json& j) { j["/pre_tokenizer/pattern"_at] = Json::object(); }, {"\"String\""}},
      {"regex bad",
       [](Json& j) { j["/pre_tokenizer/pattern/Regex"_at] = "(a"; },
       {"regular expression", "\"(a\"", "byte 2"}},
      {"behavior unknown",
       [](Json& j) { j["/pre_tokenizer/behavior"_at] = "Melted"; },
       {"behavior", "Isolated", "\"Melted\""}},
      {"pre-tokenizer unknown",
       [](Json& j) { j["/pre_tokenizer/type"_at] = "UnicodeScripts"; },
       {"pre-tokenizer", "UnicodeScripts"},
       unsupported},
      {"post-processor unknown",
       [](Json& j) { j["/post_processor/type"_at] = "Other"; },
       {"post-processor", "Other"},
       unsupported},
      {"template without text", [](Json& j) { j["/post_processor/single"_at].erase(1); }, {"single", "one sequence"}},
      {"template of two texts",
       [](Json& j) {
         j["/post_processor/single/0"_at] = {{"Sequence", {{"id", "B"}}}};
       },
       {"one sequence"}},
      {"template of no token", [](Json& j) { j["/post_processor/special_tokens"_at] = Json::object(); }, {"\"<s>\""}},
      {"template id unknown", [](Json& j) { j["/post_processor/special_tokens/<s>/ids/0"_at] = 9; }, {"ids[0]", "9"}},
      {"decoder unknown", [](Json& j) { j["/decoder/decoders/0/type"_at] = "CTC"; }, {"decoder", "CTC"}, unsupported},
      {"decoder WordPiece",
       [](Json& j) {
         j["decoder"] = {{"type", "WordPiece"}};
       },
       {"WordPiece"},
       unsupported},
      {"strip count negative", [](Json& j) { j["/decoder/decoders/1/start"_at] = -1; }, {"start", "-1"}},
      {"strip the end", [](Json& j) { j["/decoder/decoders/1/stop"_at] = 1; }, {"end"}, unsupported},
      {"root is a list", [](Json& j) { j = Json::array(); }, {"\"model\""}},
  };
  return all;
}

TEST(TokenizerMalformed, TheUnbrokenFileLoads) {
  EXPECT_EQ(load_text(small().dump()).encode("ab"), (std::vector<Token>{3, 2}));
}

TEST(TokenizerMalformed, TokenizerJson) {
  for (const auto& broken : cases()) {
    SCOPED_TRACE(broken.what);
    auto json = small();
    broken.breaks(json);
    auto says = broken.says;
    says.push_back("tokenizer.json");
    expect_error(broken.code, says, [&] { load_text(json.dump()); });
  }
}

TEST(TokenizerMalformed, TextThatIsNoJson) {
  const auto whole = small().dump();
  for (std::size_t n = 0; n < whole.size(); n += 7)
    expect_error(ErrorCode::format, {"tokenizer.json"}, [&] { load_text(whole.substr(0, n)); });
  expect_error(ErrorCode::format, {"tokenizer.json"}, [&] { load_text(std::string(100'000, '[')); });
  std::string deep = R"({"model": {"type": "BPE"}, "normalizer": )";
  for (int i = 0; i < 10'000; ++i) deep += R"({"type": "Sequence", "normalizers": [)";
  expect_error(ErrorCode::format, {"tokenizer.json"}, [&] { load_text(deep); });
  auto bad_text = whole;
  bad_text.replace(bad_text.find("\"b\""), 3, "\"\xff\"");
  expect_error(ErrorCode::format, {"tokenizer.json"}, [&] { load_text(bad_text); });
}

/// Whatever is made of a file, it loads or is refused, and what loads works.
void try_out(const std::function<Tokenizer()>& load) {
  try {
    const auto t = load();
    const auto ids = t.encode("a ab <s> \xf0\x9f\xa6\x99");
    t.decode(ids, Tokenizer::Show::with_specials);
    TextStream stream(t);
    for (const Token id : ids) stream.push(id);
    stream.flush();
  } catch (const Error& error) {
    EXPECT_STRNE(error.what(), "");
  }
}

TEST(TokenizerMalformed, FlippedBytesDoNoHarm) {
  std::mt19937 random(3);
  const std::string whole = small().dump();
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = whole;
    for (auto flips = 1 + random() % 3; flips > 0; --flips)
      bytes[random() % bytes.size()] = static_cast<char>(random() % 2 != 0 ? '0' + random() % 10 : random() % 256);
    try_out([&] { return load_text(bytes); });
  }
}

TEST(TokenizerMalformed, NoTokenizerAtAll) {
  const TempFolder folder;
  expect_error(ErrorCode::file, {folder.path().string(), "tokenizer.json", "merges.txt"},
               [&] { Tokenizer::load(folder.path()); });
  expect_error(ErrorCode::file, {"absent"}, [&] { Tokenizer::load(folder.path() / "absent"); });
  const auto text = folder.write("notes.txt", "hello");
  expect_error(ErrorCode::format, {"notes.txt", "JSON"}, [&] { Tokenizer::load(text); });
  expect_error(ErrorCode::format, {"other.json", "\"model\""},
               [&] { Tokenizer::load(folder.write("other.json", "{}")); });
  expect_error(ErrorCode::file, {"directory", "config.json"},
               [&] { Tokenizer::load(folder.write("config.json", "{}")); });
}

TEST(TokenizerMalformed, VocabAndMerges) {
  const auto load = [](const std::string& vocab, const std::string& merges, const std::string& config = "") {
    const TempFolder folder;
    folder.write("vocab.json", vocab);
    if (merges != "absent") folder.write("merges.txt", merges);
    if (!config.empty()) folder.write("tokenizer_config.json", config);
    return Tokenizer::load(folder.path());
  };
  const std::string vocab = R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})", merges = "#version: 0.2\r\na b\r\n";
  EXPECT_EQ(load(vocab, merges).encode("ab<|endoftext|>", Specials::as_trained), (std::vector<Token>{2, 3}));

  expect_error(ErrorCode::file, {"merges.txt"}, [&] { load(vocab, "absent"); });
  expect_error(ErrorCode::format, {"merges.txt", "line 2", "two tokens", "\"ab\""}, [&] { load(vocab, "a b\nab\n"); });
  expect_error(ErrorCode::format, {"merges.txt", "line 1"}, [&] { load(vocab, "a b a\n"); });
  expect_error(ErrorCode::format, {"merges.txt", "line 1"}, [&] { load(vocab, "a \n"); });
  expect_error(ErrorCode::format, {"merges.txt", "merge 0", "\"c\""}, [&] { load(vocab, "a c"); });
  expect_error(ErrorCode::format, {"vocab.json", "an object"}, [&] { load("[]", merges); });
  expect_error(ErrorCode::format, {"vocab.json", "\"a\"", "an integer"}, [&] { load(R"({"a": {}})", merges); });
  expect_error(ErrorCode::format, {"vocab.json", "\"b\"", "of its own"}, [&] { load(R"({"a": 0, "b": 0})", merges); });
  expect_error(ErrorCode::unsupported, {"tokenizer_config.json", "BertTokenizer"},
               [&] { load(vocab, merges, R"({"tokenizer_class": "BertTokenizerFast"})"); });
  expect_error(ErrorCode::format, {"tokenizer_config.json"}, [&] { load(vocab, merges, "{"); });
  expect_error(ErrorCode::format, {"tokenizer_config.json", "an object"}, [&] { load(vocab, merges, "[]"); });
  for (const auto key : {"x", "-1", "99999999999999999999", ""})
    expect_error(ErrorCode::format, {"added_tokens_decoder"}, [&] {
      load(vocab, merges, std::string(R"({"added_tokens_decoder": {")") + key + R"(": {"content": "<x>"}}})");
    });
  expect_error(ErrorCode::format, {"added_tokens_decoder", "\"<x>\"", "\"b\""},
               [&] { load(vocab, merges, R"({"added_tokens_decoder": {"1": {"content": "<x>"}}})"); });
  expect_error(ErrorCode::format, {"eos_token", "a string"}, [&] { load(vocab, merges, R"({"eos_token": 7})"); });
}

std::string array(std::uint32_t kind, std::size_t n, const std::string& bytes) {
  return test::raw(kind) + test::raw(std::uint64_t{n}) + bytes;
}

test::GgufWriter gguf(const std::string& model) {
  test::GgufWriter out;
  out.text("tokenizer.ggml.model", model);
  return out;
}

Tokenizer load_gguf(const test::GgufWriter& writer) {
  const TempFolder folder;
  return Tokenizer::load(folder.write("t.gguf", writer.bytes()));
}

TEST(TokenizerMalformed, Gguf) {
  const auto refused = [](ErrorCode code, std::vector<std::string> says, const test::GgufWriter& writer) {
    says.push_back("t.gguf");
    expect_error(code, says, [&] { load_gguf(writer); });
  };
  const std::vector<std::string> tokens = {"a", "b", "ab"};
  const std::string scores = array(6, 3, test::raw(std::vector<float>{-1, -2, -3}));
  const auto spm = [&] { return gguf("llama").texts("tokenizer.ggml.tokens", tokens); };
  const auto bpe = [&] {
    return gguf("gpt2").texts("tokenizer.ggml.tokens", tokens).text("tokenizer.ggml.pre", "gpt-2");
  };
  EXPECT_EQ(load_gguf(spm().put("tokenizer.ggml.scores", 9, scores)).encode("ab"), std::vector<Token>{2});
  EXPECT_EQ(load_gguf(bpe().texts("tokenizer.ggml.merges", {"a b"})).encode("ab"), std::vector<Token>{2});

  refused(ErrorCode::format, {"tokenizer.ggml.model"}, test::GgufWriter());
  for (const auto model : {"bert", "t5", "rwkv"})
    refused(ErrorCode::unsupported, {model}, gguf(model).texts("tokenizer.ggml.tokens", tokens));
  refused(ErrorCode::unsupported, {"WordPiece"}, gguf("bert").texts("tokenizer.ggml.tokens", tokens));
  refused(ErrorCode::format, {"tokenizer.ggml.tokens"}, gguf("llama"));
  refused(ErrorCode::format, {"tokenizer.ggml.tokens"}, gguf("llama").texts("tokenizer.ggml.tokens", {}));
  refused(ErrorCode::model, {"tokenizer.ggml.tokens"}, gguf("llama").u32("tokenizer.ggml.tokens", 3));
  refused(ErrorCode::format, {"tokenizer.ggml.scores"}, spm());
  refused(ErrorCode::format, {"tokenizer.ggml.scores", "3", "2"},
          spm().put("tokenizer.ggml.scores", 9, array(6, 2, test::raw(std::vector<float>{1, 2}))));
  refused(ErrorCode::format, {"\"b\"", "not a number"},
          spm().put("tokenizer.ggml.scores", 9,
                    array(6, 3, test::raw(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN(), 2}))));
  refused(ErrorCode::format, {"tokenizer.ggml.token_type", "77"},
          spm()
              .put("tokenizer.ggml.scores", 9, scores)
              .put("tokenizer.ggml.token_type", 9, array(5, 3, test::raw(std::vector<std::int32_t>{1, 77, 1}))));
  refused(ErrorCode::format, {"bos_token_id", "below 3", "3"},
          spm().put("tokenizer.ggml.scores", 9, scores).u32("tokenizer.ggml.bos_token_id", 3));
  refused(ErrorCode::model, {"eos_token_id"},
          spm().put("tokenizer.ggml.scores", 9, scores).text("tokenizer.ggml.eos_token_id", "2"));
  refused(ErrorCode::format, {"tokenizer.ggml.merges", "none"}, bpe());
  refused(ErrorCode::format, {"merges[1]", "\"ab\""}, bpe().texts("tokenizer.ggml.merges", {"a b", "ab"}));
  refused(ErrorCode::format, {"merge 0", "\"c\""}, bpe().texts("tokenizer.ggml.merges", {"a c"}));
  refused(ErrorCode::unsupported, {"chameleon"},
          gguf("gpt2").texts("tokenizer.ggml.tokens", tokens).text("tokenizer.ggml.pre", "chameleon"));
}

TEST(TokenizerMalformed, TokensThatAreNotUtf8DoNoHarm) {
  // Half a character as a special token must not be found inside a whole one.
  const auto writer =
      gguf("gpt2")
          .texts("tokenizer.ggml.tokens", {"\xf0\x9f", "a", "b", "ab", "", "\xff"})
          .put("tokenizer.ggml.token_type", 9, array(5, 6, test::raw(std::vector<std::int32_t>{3, 1, 1, 1, 3, 4})))
          .text("tokenizer.ggml.pre", "qwen2")
          .texts("tokenizer.ggml.merges", {"a b"});
  const auto t = load_gguf(writer);
  EXPECT_EQ(t.encode("ab\xf0\x9f\xa6\x99 ab\xff"), (std::vector<Token>{3, 3}));
  EXPECT_EQ(t.decode(std::vector<Token>{0, 3, 5}, Tokenizer::Show::with_specials),
            "\xef\xbf\xbd"
            "ab\xef\xbf\xbd");
}

}  // namespace
}  // namespace pith
