// SPDX-License-Identifier: MIT
// pith inspect.
#include <gtest/gtest.h>

#include <string>

#include "support/command.hpp"

namespace pith::test {
namespace {

class InspectTest : public CommandTest {};

TEST_F(InspectTest, SaysWhatIsThere) {
  const Json json = json_of({"inspect", "-m", testing::golden(gated).path});
  EXPECT_EQ(json.at("architecture"), "llama");
  EXPECT_EQ(json.at("gate").at("dim"), 16);
  EXPECT_GT(json.at("parameters"), 100000);
  EXPECT_TRUE(json.at("kv_bytes_per_token").at("q8_0").is_null()) << "head_dim is 16";
  EXPECT_GT(json.at("kv_bytes_per_token").at("f32"), json.at("kv_bytes_per_token").at("f16"));
  std::uint64_t bytes = 0;
  for (const Json& tensor : json.at("tensors")) {
    EXPECT_FALSE(tensor.at("name").get<std::string>().empty());
    EXPECT_EQ(tensor.at("format"), "f32");
    bytes += tensor.at("bytes").get<std::uint64_t>();
  }
  EXPECT_EQ(json.at("formats").at("f32"), bytes);
  EXPECT_TRUE(json_of({"inspect", "-m", testing::golden("gpt2-dense").path}).at("gate").is_null());
  EXPECT_NE(done({"inspect", "-m", testing::golden(gated).path}).out.find("architecture"), std::string::npos);
}

TEST_F(InspectTest, CountsTheBytesThatASessionTakes) {
  const testing::Golden expected = testing::golden("gpt2-dense");
  const Json inspect = json_of({"inspect", "-m", expected.path});
  const Json eval = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens)});
  EXPECT_EQ(inspect.at("kv_bytes_per_token").at("f32").get<double>() * static_cast<double>(expected.tokens.size()),
            eval.at("kv_bytes").get<double>());
}

}  // namespace
}  // namespace pith::test
