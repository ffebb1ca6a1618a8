// SPDX-License-Identifier: MIT
// The GGUF reader: what it reads, and that nothing malformed gets past it.
#include "files/gguf.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "support/files.hpp"
#include "support/shared_data.hpp"

namespace pith {
namespace {

using test::expect_error;
using test::GgufWriter;
using test::raw;
using test::TempFolder;

constexpr std::uint32_t type_f32 = 0, type_q8_0 = 8, type_q4_k = 12;
constexpr std::uint32_t value_u8 = 0, value_u64 = 10, value_array = 9;

GgufWriter sample() {
  GgufWriter out;
  out.text("general.architecture", "llama").u32("n", 7).f32("x", 0.5f).flag("yes", true);
  out.texts("tokens", {"a", "", "\xc3\xa9"});
  out.put("big", value_u64, raw(std::numeric_limits<std::uint64_t>::max()));
  out.put("minus", 1, raw(std::int8_t{-3}));
  out.put("nested", value_array,
          raw(value_array) + raw(std::uint64_t{1}) + raw(value_u8) + raw(std::uint64_t{2}) + "\1\2");
  out.tensor_f32("matrix", {3, 2}).tensor("blocks", {32}, type_q8_0, std::string(34, '\1'));
  return out;
}

gguf::File open(const std::string& bytes) {
  const TempFolder folder;
  return gguf::open(folder.write("t.gguf", bytes));
}

void expect_refused(const std::string& bytes, const std::vector<std::string>& parts) {
  auto all = parts;
  all.push_back("t.gguf");
  expect_error(ErrorCode::format, all, [&] { open(bytes); });
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  for (const std::uint32_t version : {2u, 3u}) {
    const auto file = open(sample().bytes(version));
    EXPECT_EQ(file.version, version);
    EXPECT_EQ(file.get<std::string>("general.architecture"), "llama");
    EXPECT_EQ(file.get<std::int64_t>("n"), 7);
    EXPECT_EQ(file.get<std::int64_t>("minus"), -3);
    EXPECT_EQ(file.get<double>("x"), 0.5);
    EXPECT_EQ(file.get<double>("n"), 7.0);
    EXPECT_TRUE(file.get<bool>("yes"));
    EXPECT_EQ(file.array<std::string>("tokens"), (std::vector<std::string>{"a", "", "\xc3\xa9"}));
    EXPECT_EQ(std::get<std::uint64_t>(*file.find("big")), std::numeric_limits<std::uint64_t>::max());
    const auto& nested = std::get<gguf::Array>(*file.find("nested"));
    EXPECT_EQ(std::get<gguf::Array>(nested.at(0)).size(), 2u);
    EXPECT_EQ(file.get_or<std::int64_t>("absent", 5), 5);
    EXPECT_TRUE(file.array<double>("absent").empty());
  }
}

TEST(Gguf, ReadsTensors) {
  const auto file = open(sample().bytes());
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.tensors[0].bytes, 24u);
  EXPECT_EQ(file.tensors[0].offset % 32, 0u);
  EXPECT_EQ(file.tensors[1].bytes, 34u);
  EXPECT_EQ(file.tensors[1].offset, file.tensors[0].offset + 32);
  EXPECT_EQ(gguf::type_name(type_q4_k), "Q4_K");
  EXPECT_EQ(gguf::type_name(1000), "ggml type 1000");
}

TEST(Gguf, KeepsTensorsOfTypesItCannotSize) {
  const auto file = open(GgufWriter().tensor("new", {5}, 77, std::string(10, 'x')).bytes());
  EXPECT_EQ(file.tensors[0].bytes, 0u);
}

TEST(Gguf, NamesKeysOfAnotherType) {
  const auto file = open(sample().bytes());
  expect_error(ErrorCode::model, {"\"absent\"", "an integer", "no such key"},
               [&] { file.get<std::int64_t>("absent"); });
  expect_error(ErrorCode::model, {"\"tokens\"", "a string", "an array"}, [&] { file.get<std::string>("tokens"); });
  expect_error(ErrorCode::model, {"\"x\"", "an integer", "a float"}, [&] { file.get_or<std::int64_t>("x", 1); });
  expect_error(ErrorCode::model, {"\"big\"", "below 2^63"}, [&] { file.get<std::int64_t>("big"); });
  expect_error(ErrorCode::model, {"\"n\"", "an array"}, [&] { file.array<std::int64_t>("n"); });
  expect_error(ErrorCode::model, {"\"tokens\"", "an integer", "a string"}, [&] { file.array<std::int64_t>("tokens"); });
}

TEST(Gguf, RefusesEveryTruncation) {
  const auto whole = sample().bytes();
  const std::size_t unpadded = whole.size() - (64 - 34);  // what pads the last tensor need not be there
  for (std::size_t n = 0; n < unpadded; ++n)
    EXPECT_THROW(open(whole.substr(0, n)), Error) << "the first " << n << " bytes";
  EXPECT_NO_THROW(open(whole.substr(0, unpadded)));
}

TEST(Gguf, SurvivesEveryBitFlip) {
  const TempFolder folder;
  const auto whole = sample().bytes();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      try {
        const auto file = gguf::open(folder.write("t", bytes));
        for (const auto& tensor : file.tensors) EXPECT_LE(tensor.offset + tensor.bytes, whole.size());
      } catch (const Error&) {
      }
    }
  }
}

TEST(Gguf, RefusesWhatIsNoGguf) {
  expect_refused("", {"GGUF"});
  expect_refused("GGML....", {"GGUF", "GGML"});
  expect_refused("\xff\xfe", {"\\xff\\xfe"});
  const TempFolder folder;
  expect_error(ErrorCode::file, {"a directory"}, [&] { gguf::open(folder.path()); });
  expect_error(ErrorCode::file, {"none.gguf"}, [&] { gguf::open(folder.path() / "none.gguf"); });
}

TEST(Gguf, RefusesVersionsByName) {
  const auto whole = sample();
  expect_error(ErrorCode::unsupported, {"version 1"}, [&] { open(whole.bytes(1)); });
  expect_error(ErrorCode::unsupported, {"version 4"}, [&] { open(whole.bytes(4)); });
  expect_error(ErrorCode::unsupported, {"version 0"}, [&] { open(whole.bytes(0)); });
  expect_error(ErrorCode::unsupported, {"big-endian"}, [&] { open(whole.bytes(0x03000000)); });
}

TEST(Gguf, RefusesHugeCounts) {
  const auto start = "GGUF" + raw(std::uint32_t{3});
  const std::string rest(1000, '\0');
  for (const std::uint64_t huge : {std::uint64_t{1000}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    expect_refused(start + raw(huge) + raw(std::uint64_t{0}) + rest, {"number of tensors", std::to_string(huge)});
    expect_refused(start + raw(std::uint64_t{0}) + raw(huge) + rest, {"metadata keys", std::to_string(huge)});
  }
}

TEST(Gguf, RefusesHugeStringsAndArrays) {
  for (const std::uint64_t huge : {std::uint64_t{1000}, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
    expect_refused(GgufWriter().put("s", 8, raw(huge) + "abc").bytes(), {"\"s\"", std::to_string(huge)});
    for (std::uint32_t type = 0; type < 13; ++type)
      expect_refused(GgufWriter().put("a", value_array, raw(type) + raw(huge) + "abc").bytes(), {"\"a\""});
  }
  // As many elements as fit the file are still bounded.
  const std::uint64_t many = (1u << 22) + 1;
  expect_refused(GgufWriter().put("a", value_array, raw(value_u8) + raw(many) + std::string(many, '\0')).bytes(),
                 {"\"a\"", "4194304"});
}

TEST(Gguf, RefusesDeepArrays) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += raw(value_array) + raw(std::uint64_t{1});
  expect_refused(GgufWriter().put("a", value_array, deep).bytes(), {"\"a\"", "nested"});
}

TEST(Gguf, RefusesTypesAndBoolsOutOfRange) {
  expect_refused(GgufWriter().put("a", 13, "").bytes(), {"\"a\"", "13"});
  expect_refused(GgufWriter().put("a", value_array, raw(std::uint32_t{99}) + raw(std::uint64_t{0})).bytes(),
                 {"\"a\"", "99"});
  expect_refused(GgufWriter().put("a", 7, "\2").bytes(), {"\"a\"", "bool"});
}

TEST(Gguf, RefusesKeysAndTensorsThatComeTwice) {
  expect_refused(GgufWriter().u32("k", 1).u32("k", 2).bytes(), {"\"k\"", "twice"});
  expect_refused(GgufWriter().tensor_f32("t", {1}).tensor_f32("t", {1}).bytes(), {"\"t\"", "twice"});
}

TEST(Gguf, RefusesBadAlignment) {
  for (const std::uint32_t alignment : {0u, 3u, 48u, 0xffffffffu})
    expect_refused(GgufWriter().u32("general.alignment", alignment).tensor_f32("t", {1}).bytes(), {"alignment"});
  expect_error(ErrorCode::model, {"general.alignment", "a string"},
               [] { open(GgufWriter().text("general.alignment", "32").bytes()); });
  expect_refused(GgufWriter().tensor_at("t", {1}, type_f32, raw(1.0f), 4).bytes(), {"\"t\"", "multiple of 32"});
  EXPECT_NO_THROW(open(GgufWriter().u32("general.alignment", 16).tensor_f32("t", {1}).bytes()));
}

TEST(Gguf, RefusesTensorsThatDoNotFit) {
  const auto with = [](const std::vector<std::uint64_t>& sides, std::uint32_t type, std::uint64_t offset) {
    return GgufWriter().tensor_at("t", sides, type, std::string(64, '\0'), offset).bytes();
  };
  expect_refused(with({17}, type_f32, 0), {"\"t\"", "within", "68 bytes"});
  expect_refused(with({8}, type_f32, 64), {"\"t\"", "within"});
  expect_refused(with({1}, type_f32, ~std::uint64_t{31}), {"\"t\"", "within"});
  expect_refused(with({0}, type_f32, 0), {"\"t\"", "positive"});
  expect_refused(with({4, 0}, type_f32, 0), {"\"t\"", "positive"});
  expect_refused(with({1, 1, 1, 1, 1}, type_f32, 0), {"\"t\"", "4 dimensions"});
  expect_refused(with({33}, type_q8_0, 0), {"\"t\"", "multiple of 32"});
  expect_refused(with({~std::uint64_t{0}}, type_f32, 0), {"\"t\"", "positive"});
  expect_refused(with({1ull << 32, 1ull << 32}, type_f32, 0), {"\"t\"", "2^63"});
  expect_refused(with({1ull << 62}, type_f32, 0), {"\"t\""});
  expect_refused(with({1ull << 62, 4}, type_f32, 0), {"\"t\"", "2^63"});
}

TEST(Gguf, RefusesTensorsThatOverlap) {
  expect_refused(GgufWriter().tensor_f32("a", {16}).tensor_at("b", {8}, type_f32, std::string(32, '\0'), 32).bytes(),
                 {"\"b\"", "overlap", "\"a\""});
  expect_refused(GgufWriter().tensor_f32("a", {1}).tensor_at("b", {1}, type_f32, "", 0).bytes(), {"overlap"});
}

TEST(Gguf, ReadsTheSharedVocabularies) {
  const std::string folder = "tokenizers/ggml/";
  for (const auto& [name, tokens] : {std::pair{"ggml-vocab-gpt-2.gguf", 50257}, {"ggml-vocab-llama-spm.gguf", 32000}}) {
    const auto path = test::shared_data("data/" + folder + name);
    if (path.empty()) GTEST_SKIP() << test::shared_absent(folder + name);
    const auto file = gguf::open(path);
    EXPECT_TRUE(file.tensors.empty());
    EXPECT_EQ(file.array<std::string>("tokenizer.ggml.tokens").size(), static_cast<std::size_t>(tokens));
  }
}

}  // namespace
}  // namespace pith
