// SPDX-License-Identifier: MIT
// JSON text to values, and what is refused on the way.
#include "files/json.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/files.hpp"

namespace pith {
namespace {

using nlohmann::json;
using test::expect_error;

void expect_refused(std::string_view text, const std::vector<std::string>& parts) {
  expect_error(ErrorCode::format, parts, [&] { parse_json(text, "x.json"); });
}

std::string nested(int depth) {
  const auto n = static_cast<std::size_t>(depth);
  return std::string(n, '[') + std::string(n, ']');
}

TEST(Json, ReadsEveryKindOfValue) {
  const std::string text = R"({"a":[1,-2,0.5,true,null,"\u00e9",[],{}],"b":{"c":18446744073709551615,"d":{"e":"f"}}})";
  EXPECT_EQ(parse_json(text, "x.json"), json::parse(text));
  for (const char* scalar : {"1", "\"x\"", "null", "true", "[]", "{}", " [ 1 , 2 ] "})
    EXPECT_EQ(parse_json(scalar, "x.json"), json::parse(scalar));
}

TEST(Json, BoundsTheDepth) {
  EXPECT_NO_THROW(parse_json(nested(64), "x.json"));
  expect_refused(nested(65), {"x.json", "64"});
  expect_refused(std::string(10'000'000, '['), {"64"});
}

TEST(Json, RefusesKeysThatComeTwice) {
  expect_refused(R"({"a":1,"b":{"c":1,"c":2}})", {"x.json", "\"c\" twice"});
  EXPECT_NO_THROW(parse_json(R"([{"a":1},{"a":2}])", "x.json"));
}

TEST(Json, SaysWhereItStopped) {
  expect_refused("{\"a\": tru}", {"x.json", "line 1", "column"});
  expect_refused("", {"x.json"});
  for (const char* text : {"[1,]", "{\"a\"}", "[NaN]", "[Infinity]", "[1e999]", "01", "[1] 2", "'a'", "// c\n1"})
    expect_refused(text, {"x.json", "at byte"});
  expect_refused("\"\xff\"", {"x.json"});
  expect_refused(std::string_view("[1]\0[2]", 7), {"x.json", "zero byte at byte 3"});
}

TEST(Json, KeepsMessagesShort) {
  const std::string long_text = "[\"" + std::string(1'000'000, 'x') + "\" oops]";
  try {
    parse_json(long_text, "x.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::string(error.what()).size(), 500u);
  }
}

TEST(Json, ReadsFiles) {
  const test::TempFolder folder;
  EXPECT_EQ(read_json(folder.write("a.json", "[1]")), json::array({1}));
  expect_error(ErrorCode::format, {"b.json"}, [&] { read_json(folder.write("b.json", "[")); });
  expect_error(ErrorCode::format, {"c.json"}, [&] { read_json(folder.write("c.json", "")); });
  expect_error(ErrorCode::file, {"d.json"}, [&] { read_json(folder.path() / "d.json"); });
}

}  // namespace
}  // namespace pith
