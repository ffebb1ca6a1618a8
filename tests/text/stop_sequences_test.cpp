// SPDX-License-Identifier: MIT
// Text flows, stops at the stop texts, and does so wherever it is cut into pieces.
#include "pith/stop_sequences.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pith/rng.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

struct Result {
  std::string text;
  std::optional<std::size_t> stopped;
  bool operator==(const Result&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Result& result) {
  return out << '"' << result.text << "\" " << (result.stopped ? static_cast<int>(*result.stopped) : -1);
}

Result in_pieces(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopSequences filter(stops);
  std::string text;
  for (const std::string& piece : pieces) text += filter.push(piece);
  text += filter.flush();
  return {text, filter.stopped()};
}

TEST(StopSequences, WithoutAnyTextFlows) {
  StopSequences filter;
  EXPECT_EQ(filter.push("all of it"), "all of it");
  EXPECT_EQ(filter.flush(), "");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopSequences, HoldBackOnlyWhatCouldBeTheirStart) {
  StopSequences filter({"\n\nUser:"});
  EXPECT_EQ(filter.push("one"), "one");
  EXPECT_EQ(filter.push("two\n"), "two");
  EXPECT_EQ(filter.push("three"), "\nthree");
  EXPECT_EQ(filter.push("\n\nUs"), "");
  EXPECT_EQ(filter.push("ually"), "\n\nUsually");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopSequences, StopAcrossPieces) {
  StopSequences filter({"STOP"});
  EXPECT_EQ(filter.push("go S"), "go ");
  EXPECT_EQ(filter.push("TO"), "");
  EXPECT_EQ(filter.push("P and on"), "");
  EXPECT_EQ(filter.stopped(), 0u);
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.flush(), "");
}

TEST(StopSequences, FlushGivesWhatWasHeldBack) {
  StopSequences filter({"STOP"});
  EXPECT_EQ(filter.push("no STO"), "no ");
  EXPECT_EQ(filter.flush(), "STO");
  EXPECT_EQ(filter.flush(), "");
}

TEST(StopSequences, OverlappingStartsAreNotLost) {
  EXPECT_EQ(in_pieces({"aab"}, {"a", "a", "a", "b", "c"}), (Result{"a", 0}));
  EXPECT_EQ(in_pieces({"abac"}, {"ab", "ab", "ac"}), (Result{"ab", 0}));
}

TEST(StopSequences, TheFirstToBeCompleteCounts) {
  EXPECT_EQ(in_pieces({"abcd", "bc"}, {"xabcd"}), (Result{"xa", 1}));
  EXPECT_EQ(in_pieces({"cd", "abcd"}, {"xabcd"}), (Result{"x", 1})) << "of two that end together, the longer";
  EXPECT_EQ(in_pieces({"zz", "b"}, {"abzz"}), (Result{"a", 1}));
}

TEST(StopSequences, MayBeMoreThanOneCharacterOfUtf8) { EXPECT_EQ(in_pieces({"終"}, {"始終", "x"}), (Result{"始", 0})); }

TEST(StopSequences, AnEmptyOneIsRefused) {
  test::expect_error(ErrorCode::argument, {"stop"}, [] { StopSequences filter({"x", ""}); });
}

TEST(StopSequences, ResultDoesNotDependOnThePieces) {
  Pcg32 rng(5);
  const auto below = [&](std::uint32_t n) { return rng.next() % n; };
  const auto word = [&](std::size_t longest) {
    std::string text(1 + below(static_cast<std::uint32_t>(longest)), ' ');
    for (char& c : text) c = static_cast<char>('a' + below(2));
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops(1 + below(3));
    for (std::string& stop : stops) stop = word(6);
    const std::string text = word(24);
    const Result whole = in_pieces(stops, {text});
    std::vector<std::string> letters, pieces;
    for (const char c : text) letters.emplace_back(1, c);
    for (std::size_t at = 0; at < text.size(); at += pieces.back().size())
      pieces.push_back(text.substr(at, 1 + below(5)));
    EXPECT_EQ(in_pieces(stops, letters), whole) << text;
    EXPECT_EQ(in_pieces(stops, pieces), whole) << text;
    if (whole.stopped) {
      ++stopped;
      EXPECT_TRUE(text.starts_with(whole.text + stops[*whole.stopped]));
    } else {
      EXPECT_EQ(whole.text, text);
    }
  }
  EXPECT_GT(stopped, 500);
}

}  // namespace
}  // namespace pith
