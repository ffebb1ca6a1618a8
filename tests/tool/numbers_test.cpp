// SPDX-License-Identifier: MIT
// Numbers on the command line: decimal, exact, refused with their flag and range, in every subcommand.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

class NumbersTest : public CommandTest {
 protected:
  static Arguments with(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static Arguments run(const Arguments& more) {
    return with({"run", "-m", model(gated), "-p", "a", "--ignore-eos"}, more);
  }
};

TEST_F(NumbersTest, AreDecimal) {
  const auto generated = [](const char* n) { return json_of(run({"-n", n})).at("tokens").size(); };
  EXPECT_EQ(generated("010"), 10u);
  EXPECT_EQ(generated("08"), 8u);
  EXPECT_EQ(generated("0"), 0u);
  for (const char* word : {"0x10", "1e1", "1.0", "+5", " 5", "5 ", "5a", "0b1", "1,000", "", "-", "--5", "\xd9\xa5"})
    expect_failure(2, {"--predict/-n", "a whole number from -1 to 2147483647", "'" + std::string(word) + "'"},
                   run({"-n", word}));
}

TEST_F(NumbersTest, BeyondTheirRangeAreRefused) {
  for (const char* word : {"2147483648", "-2147483649", "9223372036854775808", "99999999999999999999999", "-2"})
    expect_failure(2, {"--predict/-n", "from -1 to 2147483647", word}, run({"-n", word}));
  EXPECT_EQ(json_of(run({"-n", "1", "-c", "2147483647"})).at("tokens").size(), 1u);
}

TEST_F(NumbersTest, SeedsHaveAll64Bits) {
  for (const char* seed : {"0", "9223372036854775807", "9223372036854775808", "18446744073709551615"})
    EXPECT_EQ(json_of(run({"-n", "1", "--seed", seed})).at("seed").dump(), seed);
  for (const char* seed : {"18446744073709551616", "-2", "0x1", "1.5"})
    expect_failure(2, {"--seed/-s", "-1 or a whole number from 0 to 18446744073709551615", seed},
                   run({"-n", "1", "-s", seed}));
}

TEST_F(NumbersTest, WithFractionsAreDecimalAndFinite) {
  EXPECT_EQ(json_of(run({"-n", "9", "-s", "1", "--temp", "1e-1"})).at("tokens"),
            json_of(run({"-n", "9", "-s", "1", "--temp", "00.10"})).at("tokens"));
  for (const char* word : {"0x1p3", "nan", "-nan", "inf", "1e39", "1e999", "-0.1", "1,5", "1.5f", "+1", ""})
    expect_failure(2, {"--temp", "a number from 0 to 3.40282e+38", "'" + std::string(word) + "'"},
                   run({"--temp", word}));
  for (const char* word : {"0", "1.0001", "nan", "-1"})
    expect_failure(2, {"--top-p", "a number above 0, at most 1", word}, run({"--top-p", word}));
}

TEST_F(NumbersTest, TauMayBeInfinite) {
  EXPECT_EQ(json_of(run({"-n", "9", "--tau", "-inf"})).at("kept"), 1);
  EXPECT_LT(json_of(run({"-n", "9", "--tau", "inf"})).at("kept"), 0.5);
  for (const char* word : {"nan", "0x1p3", "1e999", "x"})
    expect_failure(2, {"--tau", "a number from -inf to inf", word}, run({"--tau", word}));
}

TEST_F(NumbersTest, AreReadAlikeEverywhere) {
  struct Case {
    std::string command;
    Arguments flags;  // each takes one number
  };
  const std::vector<Case> cases = {
      {"run",
       {"-n", "-c", "-t", "-b", "-s", "--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty", "--repeat-last-n",
        "--tau"}},
      {"eval", {"-c", "-t", "-b", "--tau", "--prompt-tokens"}},
      {"perplexity", {"-c", "-t", "-b", "--tau", "--stride", "--prompt-tokens"}},
      {"trace", {"-n", "-c", "-t", "-b", "-s", "--temp", "--top-k", "--layer", "--tau", "--prompt-tokens"}},
      {"bench", {"-p", "-n", "-d", "-r", "-t", "-b", "--sequences", "--keep", "--gate-dim"}},
      {"quantize", {"-t", "--gate-dim"}},
  };
  for (const auto& [command, flags] : cases)
    for (const std::string& flag : flags)
      for (const char* word : {"0x1", "x", "nan", "-5", "99999999999999999999999999999999999999999999"}) {
        if (flag == "--tau" && word == std::string("-5")) continue;
        SCOPED_TRACE(command + " " + flag + " " + word);
        expect_failure(2, {flag, "number", "'" + std::string(word) + "'"},
                       {command, "-m", model(gated), flag + (flag.starts_with("--") ? "=" : "") + word});
      }
}

TEST_F(NumbersTest, ListsAreReadOneByOne) {
  const std::string path = model(gated);
  expect_failure(2, {"--depth/-d", "'x'"}, {"bench", "-m", path, "-d", "0,x"});
  for (const char* list : {"0,,", "0,", ",", ",0"})
    expect_failure(2, {"--depth/-d", "''"}, {"bench", "-m", path, "-d", list});
  expect_failure(2, {"--keep", "'1.5'"}, {"bench", "-m", path, "--keep", "0.5,1.5"});
  const Json json = json_of({"bench", "-m", path, "-d", "010,08", "-p", "2", "-n", "0", "-r", "1"});
  EXPECT_EQ(json.at("rows").at(0).at("depth"), 10);
  EXPECT_EQ(json.at("rows").at(1).at("depth"), 8);
}

}  // namespace
}  // namespace pith::test
