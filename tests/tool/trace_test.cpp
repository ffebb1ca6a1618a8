// SPDX-License-Identifier: MIT
// pith trace: which flags go together, and what it warns of.
#include <gtest/gtest.h>

#include <string>

#include "support/command.hpp"

namespace pith::test {
namespace {

class TraceTest : public CommandTest {
 protected:
  static Arguments trace(const Arguments& more) {
    Arguments arguments = {"trace", "-m", model(gated), "-p",
                           "The old house stood at the end of the lane, and nobody went there."};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(TraceTest, GeneratesNothingWhereATextIsGiven) {
  for (const char* flag : {"--eval", "--aggregate"})
    for (const char* count : {"3", "0", "-1", "120"}) {
      expect_failure(2, {"--predict", flag}, trace({flag, "-n", count}));
      expect_failure(2, {"--predict", flag}, trace({"--predict", count, flag}));
    }
}

TEST_F(TraceTest, SaysWhereAPolicyActsTooLateToBeSeen) {
  const auto warned = [](const Arguments& more, const char* what) {
    const std::string err = done(trace(more)).err;
    if (err.find("warning: --policy") == std::string::npos) return false;
    EXPECT_NE(err.find(what), std::string::npos) << err;
    return true;
  };
  for (const char* policy : {"snapkv(rows=12,window=4)", "h2o(rows=12,recent=4)", "gate,snapkv(rows=6,window=2)"}) {
    SCOPED_TRACE(policy);
    EXPECT_TRUE(warned({"--eval", "--policy", policy}, "--eval"));
    EXPECT_TRUE(warned({"-n", "0", "--policy", policy}, "-n"));
    EXPECT_FALSE(warned({"-n", "3", "--policy", policy}, "")) << "tokens follow";
    EXPECT_TRUE(warned({"--aggregate", "--policy", policy}, "--prompt-tokens"));
  }
  EXPECT_TRUE(warned({"--eval", "--policy", "h2o(rows=900)"}, "dense"));
  EXPECT_TRUE(warned({"--eval", "-b", "8", "--policy", "h2o(rows=12,recent=4)"}, "judges once a pass"));
  EXPECT_FALSE(warned({"--eval", "-b", "1", "--policy", "h2o(rows=12,recent=4)"}, "")) << "as decoding does";
  EXPECT_FALSE(warned({"--eval", "--policy", "gate"}, ""));
  EXPECT_FALSE(warned({"--eval", "--policy", "none"}, ""));
}

}  // namespace
}  // namespace pith::test
