// SPDX-License-Identifier: MIT
// pith heads: what it asks, counts and writes, and that --policy reads it.
#include <gtest/gtest.h>

#include "support/command.hpp"
#include "support/real_models.hpp"

namespace pith::test {
namespace {

class HeadsTest : public CommandTest {};

TEST_F(HeadsTest, AModelThatFindsNothingIsRefused) {
  expect_failure(4, {"finds a needle", "none of 6 trials"},
                 {"heads", "-m", model(gated), "--lengths", "10", "--depths", "2", "-n", "3", "-c", "2000", "-q"});
  expect_failure(2, {"--depths"}, {"heads", "-m", model(gated), "--depths", "0"});
  expect_failure(2, {"--lengths"}, {"heads", "-m", model(gated), "--lengths", "0"});
  expect_failure(2, {"heads", "at least one sentence"}, {"heads", "-m", model(gated), "-p", " \n"});
}

TEST_F(HeadsTest, WritesWhatAPolicyReads) {
  const fs::path path = real_model("smollm2-135m-instruct");
  if (path.empty()) GTEST_SKIP() << real_absent("smollm2-135m-instruct");
  const fs::path file = scratch("heads.json");
  const Json scores = json_of(
      {"heads", "-m", path.string(), "--lengths", "100", "--depths", "1", "-n", "25", "-q", "-o", file.string()});
  EXPECT_EQ(scores.size(), 90u);
  EXPECT_EQ(Json::parse(content(file)), scores);
  double best = 0;
  for (const auto& [key, score] : scores.items()) best = std::max(best, score.get<double>());
  EXPECT_GT(best, 0.1);
  EXPECT_LE(best, 2);
  const Json ran = json_of({"run", "-m", path.string(), "-p", "One two three", "-n", "8", "--temp", "0", "--policy",
                            "protect(file=" + file.string() + ",share=0.3,streaming(sinks=1,recent=2))"});
  EXPECT_LT(ran.at("kept"), 1);
  expect_failure(3, {file.string(), "30 layers of 3 kv-heads"},
                 {"run", "-m", model(gated), "-p", "One", "-n", "1", "--policy", "duo(file=" + file.string() + ")"});
}

}  // namespace
}  // namespace pith::test
