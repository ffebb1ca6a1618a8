// SPDX-License-Identifier: MIT
// The safetensors reader: what it reads, and that nothing malformed gets past it.
#include "files/safetensors.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/files.hpp"
#include "support/shared_data.hpp"

namespace pith {
namespace {

using test::expect_error;
using test::raw;
using test::SafetensorsWriter;
using test::TempFolder;

std::string sample() {
  return SafetensorsWriter()
      .f32("a", {2, 3}, 1.0f)
      .add("mask", "BOOL", {1, 1, 4}, std::string(4, '\1'))
      .add("empty", "F32", {0, 7}, "")
      .add("scalar", "BF16", {}, raw(std::uint16_t{0x3f80}))
      .metadata("format", "pt")
      .bytes();
}

/// Writes these bytes as a file and opens it.
safetensors::File open(const std::string& bytes) {
  const TempFolder folder;
  return safetensors::open(folder.write("t.safetensors", bytes));
}

void expect_refused(const std::string& bytes, const std::vector<std::string>& parts) {
  auto all = parts;
  all.push_back("t.safetensors");
  expect_error(ErrorCode::format, all, [&] { open(bytes); });
}

/// A file of one header and n bytes of zeros.
void expect_header_refused(const std::string& header, const std::vector<std::string>& parts, std::size_t n = 8) {
  expect_refused(test::safetensors_bytes(header, std::string(n, '\0')), parts);
}

TEST(Safetensors, ReadsNamesShapesBytesAndMetadata) {
  const auto file = open(sample());
  ASSERT_EQ(file.tensors.size(), 4u);
  const auto& a = file.tensors.at("a");
  EXPECT_EQ(a.dtype, "F32");
  EXPECT_EQ(a.shape, (std::vector<std::int64_t>{2, 3}));
  ASSERT_EQ(a.bytes.size(), 24u);
  const auto expected = raw(std::vector{1.f, 2.f, 3.f, 4.f, 5.f, 6.f});
  EXPECT_EQ(std::memcmp(a.bytes.data(), expected.data(), expected.size()), 0);
  EXPECT_EQ(file.tensors.at("mask").dtype, "BOOL");
  EXPECT_EQ(file.tensors.at("empty").bytes.size(), 0u);
  EXPECT_EQ(file.tensors.at("scalar").shape.size(), 0u);
  EXPECT_EQ(file.metadata.at("format"), "pt");
}

TEST(Safetensors, MapsInsteadOfCopying) {
  const auto file = open(sample());
  const auto all = file.file->bytes();
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_GE(tensor.bytes.data(), all.data()) << name;
    EXPECT_LE(tensor.bytes.data() + tensor.bytes.size(), all.data() + all.size()) << name;
  }
}

TEST(Safetensors, ReadsPaddedHeadersAndFilesWithoutTensors) {
  EXPECT_EQ(open(SafetensorsWriter().f32("a", {2}).bytes(5)).tensors.size(), 1u);
  EXPECT_TRUE(open(test::safetensors_bytes("{}", "")).tensors.empty());
}

TEST(Safetensors, TakesDtypesItDoesNotKnowAtTheirWord) {
  const auto file = open(SafetensorsWriter().add("a", "F128_NEW", {3}, std::string(7, 'x')).f32("b", {1}).bytes());
  EXPECT_EQ(file.tensors.at("a").dtype, "F128_NEW");
}

TEST(Safetensors, RefusesEveryTruncation) {
  const auto whole = sample();
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_THROW(open(whole.substr(0, n)), Error) << "the first " << n << " bytes";
}

TEST(Safetensors, RefusesTrailingBytes) { expect_refused(sample() + "x", {"bytes of data"}); }

TEST(Safetensors, SurvivesEveryBitFlip) {
  const TempFolder folder;
  const auto whole = sample();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      try {
        const auto file = safetensors::open(folder.write("t", bytes));
        for (const auto& [name, tensor] : file.tensors) {
          volatile int sum = 0;  // every byte is there to be read
          for (const std::byte b : tensor.bytes) sum = sum + std::to_integer<int>(b);
        }
      } catch (const Error&) {
      }
    }
  }
}

TEST(Safetensors, RefusesLyingHeaderLengths) {
  const std::string rest = sample().substr(8);
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{rest.size() + 1}, std::uint64_t{100'000'001},
                                     std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7})
    expect_refused(raw(length) + rest, {"header"});
}

TEST(Safetensors, RefusesHeadersThatAreNoObject) {
  for (const char* header : {"[]", "\"x\"", "1", "null", " {}", "", "x"})
    expect_header_refused(header, {"header", "object"});
  for (const char* header : {"{", "{]", "{}{}", "{\"a\":}", "{\"a\":NaN}", "{\"\xff\":1}", "{\"a\":1e999}"})
    expect_header_refused(header, {"header", "JSON"});
  expect_header_refused(std::string("{}\0", 3), {"zero byte"});
}

TEST(Safetensors, RefusesDeepNesting) {
  const std::string deep(1'000'000, '[');
  expect_header_refused("{\"a\":" + deep, {"nested"});
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += "{\"a\":";
  expect_header_refused(objects, {"nested"});
}

TEST(Safetensors, RefusesWrongTypesAndMissingKeys) {
  const auto tensor = [](const std::string& entry) { return "{\"t\":" + entry + "}"; };
  expect_header_refused(tensor("[]"), {"\"t\"", "object", "array"});
  expect_header_refused(tensor(R"({"shape":[2],"data_offsets":[0,8]})"), {"\"t\"", "dtype", "no such key"});
  expect_header_refused(tensor(R"({"dtype":"F32","data_offsets":[0,8]})"), {"\"t\"", "shape", "no such key"});
  expect_header_refused(tensor(R"({"dtype":"F32","shape":[2]})"), {"\"t\"", "data_offsets", "no such key"});
  expect_header_refused(tensor(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})"), {"\"t\"", "dtype", "number"});
  for (const char* bad : {"2", "[-2]", "[2.0]", "[\"2\"]", "[null]", "[18446744073709551615]", "{}", "[[2]]"}) {
    expect_header_refused(tensor(R"({"dtype":"F32","shape":)" + std::string(bad) + R"(,"data_offsets":[0,8]})"),
                          {"\"t\"", "shape"});
    expect_header_refused(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":)" + std::string(bad) + "}"),
                          {"\"t\"", "data_offsets"});
  }
  expect_header_refused(R"({"__metadata__":[]})", {"__metadata__", "array"}, 0);
  expect_header_refused(R"({"__metadata__":{"a":1}})", {"__metadata__", "\"a\"", "string"}, 0);
}

TEST(Safetensors, RefusesNamesThatComeTwice) {
  expect_header_refused(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        {"\"t\" twice"});
}

TEST(Safetensors, RefusesOffsetsThatDoNotTileTheData) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  expect_header_refused(two("[0,4]", "[2,6]"), {"\"b\"", "overlap"});
  expect_header_refused(two("[0,4]", "[0,4]"), {"overlap"});
  expect_header_refused(two("[0,4]", "[6,10]"), {"\"b\"", "hole"}, 10);
  expect_header_refused(two("[1,5]", "[5,9]"), {"\"a\"", "hole"}, 9);
  expect_header_refused(two("[0,4]", "[4,8]"), {"8 bytes", "found 9"}, 9);
  expect_header_refused(two("[0,4]", "[4,9]"), {"\"b\"", "within the file's 8 bytes"});
  expect_header_refused(two("[0,4]", "[8,4]"), {"\"b\"", "ascending"});
  expect_header_refused(two("[0,4]", "[9223372036854775803,9223372036854775807]"), {"\"b\"", "within"});
}

TEST(Safetensors, RefusesSizesThatAreNotShapeTimesDtype) {
  const auto one = [](const std::string& dtype, const std::string& shape) {
    return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[0,8]}})";
  };
  expect_header_refused(one("F32", "[3]"), {"\"t\"", "12 bytes", "found 8"});
  expect_header_refused(one("F64", "[2]"), {"\"t\"", "16 bytes"});
  expect_header_refused(one("F32", "[0]"), {"\"t\"", "0 bytes"});
  expect_header_refused(one("F4", "[15]"), {"\"t\""});
  // Products that wrap around to the right number of bytes.
  expect_header_refused(one("F32", "[4294967296,4294967296,2]"), {"\"t\"", "2^64"});
  expect_header_refused(one("U8", "[2305843009213693952,8]"), {"\"t\"", "2^64"});
}

TEST(Safetensors, NamesTheFileThatIsNone) {
  const TempFolder folder;
  expect_error(ErrorCode::file, {"missing.safetensors"},
               [&] { safetensors::open(folder.path() / "missing.safetensors"); });
  expect_error(ErrorCode::file, {"a directory"}, [&] { safetensors::open(folder.path()); });
  expect_error(ErrorCode::format, {"0 bytes"}, [&] { safetensors::open(folder.write("empty", "")); });
  expect_error(ErrorCode::file, {"device"}, [&] { safetensors::open("/dev/null"); });
}

TEST(Safetensors, ReadsTheSharedModels) {
  const auto path = test::shared_data("fixtures/qwen2-gated-bf16/model.safetensors");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("fixtures/qwen2-gated-bf16");
  const auto file = safetensors::open(path);
  EXPECT_EQ(file.tensors.size(), 32u);
  EXPECT_EQ(file.tensors.at("model.norm.weight").dtype, "BF16");
}

}  // namespace
}  // namespace pith
