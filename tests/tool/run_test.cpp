// SPDX-License-Identifier: MIT
// pith run.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/command.hpp"
#include "support/shared_data.hpp"

namespace pith::test {
namespace {

class RunTest : public CommandTest {};

TEST_F(RunTest, ReportsWhatItGenerated) {
  const Json json =
      json_of({"run", "-m", model(gated), "-p", "Once upon a time", "-n", "40", "--temp", "0", "--ignore-eos"});
  EXPECT_EQ(json.at("prompt_tokens"), 16);
  EXPECT_EQ(json.at("tokens").size(), 40u);
  EXPECT_TRUE(json.at("text").is_string());
  EXPECT_EQ(json.at("stop"), "length");
  EXPECT_GT(json.at("kept"), 0);
  EXPECT_LT(json.at("kept"), 1);
  EXPECT_LE(json.at("kv_bytes"), json.at("kv_bytes_dense"));
  EXPECT_GT(json.at("prefill_tokens_per_s"), 0);
  EXPECT_GT(json.at("decode_tokens_per_s"), 0);
  EXPECT_EQ(json.at("policy"), "gate(tau=0)");
}

TEST_F(RunTest, KeepsTheAnchorsOfDemonstrations) {
  const auto run = [&](const std::string& demonstrations, const std::string& prompt) {
    Arguments arguments = {"run", "-m", model(gated), "--policy", "none", "-p", prompt, "-n", "6", "--temp", "0"};
    arguments.push_back("--ignore-eos");
    if (!demonstrations.empty()) arguments.insert(arguments.end(), {"--anchors", file("demos.txt", demonstrations)});
    return json_of(arguments);
  };
  const Json some = run("Good: [[yes]]\nBad: [[no]]\n", "Fine:");
  EXPECT_EQ(some.at("prompt_tokens"), 23);
  // 18 tokens of demonstrations, of which 5 stay, are no more seen by the 5 of the prompt and the 5 that are fed of
  // what follows.
  const double pairs = (23 + 5) * (23 + 5 + 1) / 2.0;
  EXPECT_NEAR(some.at("kept").get<double>(), 1 - 13 * 10 / pairs, 1e-6);
  const Json all = run("[[Good: yes\nBad: no\n]]", "Fine:"), plain = run("", "Good: yes\nBad: no\nFine:");
  EXPECT_EQ(all.at("kept"), 1);
  EXPECT_EQ(all.at("tokens"), plain.at("tokens"));
  const auto refused = [&](const std::string& text, const std::vector<std::string>& parts) {
    expect_failure(3, parts, {"run", "-m", model(gated), "-p", "x", "-n", "1", "--anchors", file("demos.txt", text)});
  };
  refused("a]]", {"demos.txt: byte 1", "[["});
  refused("[[a[[b]]", {"demos.txt: byte 3", "]]"});
  refused("[[a", {"demos.txt", "the end"});
}

TEST_F(RunTest, GoesOnBehindWhatWasSaved) {
  const std::string saved = scratch("saved").string(), again = scratch("again").string();
  const auto run = [&](const std::string& prompt, Arguments more) {
    Arguments arguments = {"run", "-m", model(gated), "-p", prompt, "-n", "10", "--temp", "0", "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const Json first = json_of(run("Once upon a time", {"--save", saved}));
  EXPECT_EQ(first.at("loaded_tokens"), 0);
  EXPECT_EQ(first.at("tokens"), json_of(run("Once upon a time", {})).at("tokens")) << "saving changes nothing";
  const Json second = json_of(run("there", {"--load", saved, "--save", again}));
  EXPECT_EQ(second.at("loaded_tokens"), 26);
  EXPECT_EQ(second.at("prompt_tokens"), 5);
  EXPECT_EQ(second.at("tokens"), json_of(run("there", {"--load", saved})).at("tokens")) << "it can be loaded again";
  EXPECT_EQ(json_of(run("x", {"--load", again})).at("loaded_tokens"), 41);

  expect_failure(2, {"--load", "a prompt"}, run("", {"--load", saved}));
  expect_failure(4, {"policy", "h2o", "gate"}, run("x", {"--load", saved, "--policy", "h2o"}));
  expect_failure(4, {"cache format", "f16", "f32"}, run("x", {"--load", saved, "--kv", "f16"}));
  std::string bytes = content(saved);
  bytes[bytes.size() / 2] ^= 1;
  expect_failure(3, {"damaged", "checksum"}, run("x", {"--load", file("damaged", bytes)}));
  expect_failure(3, {"short", "bytes"}, run("x", {"--load", file("short", bytes.substr(0, bytes.size() / 2))}));
  expect_failure(3, {"text", "a saved sequence"}, run("x", {"--load", file("text", "Once upon a time, there was")}));
}

TEST_F(RunTest, KeepsOfAPrefixWhatIsLookedAtAsItIsWrittenAgain) {
  const std::string prefix = file("prefix.txt", "The cat sat on the mat, and the dog on the cat. ");
  const auto run = [&](const Arguments& more) {
    Arguments arguments = {"run", "-m", model(gated), "--policy", "none", "-p", "Who sat?",
                           "-n",  "6",  "--temp",     "0",        "-s",   "1",  "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json_of(arguments);
  };
  const double prompt = run({}).at("prompt_tokens").get<double>();
  const Json plain = run({"--prefix", prefix}), all = run({"--prefix", prefix, "--kvzip", "1"}),
             half = run({"--prefix", prefix, "--kvzip", "0.5"});
  EXPECT_EQ(plain.at("kept"), 1);
  EXPECT_EQ(all.at("kept"), 1);
  EXPECT_EQ(all.at("tokens"), plain.at("tokens"));
  EXPECT_EQ(half.at("prompt_tokens"), plain.at("prompt_tokens"));
  // Half of the prefix is not seen by the prompt's tokens and the five that are fed of what follows.
  const double before = plain.at("prompt_tokens").get<double>() - prompt, fed = before + prompt + 5;
  EXPECT_NEAR(half.at("kept").get<double>(), 1 - before / 2 * (prompt + 5) / (fed * (fed + 1) / 2), 0.01);
  expect_failure(2, {"--kvzip", "--prefix"}, {"run", "-m", model(gated), "-p", "x", "--kvzip", "0.5"});
  expect_failure(2, {"--kvzip", "from 0 to 1"},
                 {"run", "-m", model(gated), "-p", "x", "--prefix", prefix, "--kvzip", "1.5"});
}

TEST_F(RunTest, StreamsOnlyTheTextToStdout) {
  const Arguments arguments = {"run", "-m", model(gated), "-p", "Once", "-n", "30", "--seed", "4", "--ignore-eos"};
  const Json json = json_of(arguments);
  const Finished plain = done(arguments);
  EXPECT_EQ(plain.out, json.at("text").get<std::string>() + "\n");
  EXPECT_NE(plain.err.find("kept"), std::string::npos);
  EXPECT_EQ(plain.err.find('\r'), std::string::npos) << "progress is for terminals";
  Arguments quiet = arguments;
  quiet.push_back("-q");
  EXPECT_EQ(done(quiet).err, "");
}

TEST_F(RunTest, IsRepeatedByItsSeed) {
  const auto tokens = [&](const std::string& seed) {
    return json_of({"run", "-m", model(gated), "-p", "Once", "-n", "20", "-s", seed, "--ignore-eos"});
  };
  const Json first = tokens("7");
  EXPECT_EQ(first.at("seed"), 7);
  EXPECT_EQ(tokens("7").at("tokens"), first.at("tokens"));
  EXPECT_NE(tokens("8").at("tokens"), first.at("tokens"));
  const Json drawn = tokens("-1");
  EXPECT_EQ(tokens(drawn.at("seed").dump()).at("tokens"), drawn.at("tokens"));
}

TEST_F(RunTest, GuessingAheadChangesNothing) {
  const std::string prompt = "The cat sat on the mat. The cat sat on the mat. The cat sat on";
  for (const char* temperature : {"0", "0.7"}) {
    const auto run = [&](Arguments more) {
      Arguments arguments = {"run", "-m", model(gated), "-p",           prompt,   "-n",
                             "40",  "-s", "3",          "--ignore-eos", "--temp", temperature};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return json_of(arguments);
    };
    const Json plain = run({});
    EXPECT_EQ(plain.at("drafted"), 0);
    for (const Arguments& guessing : {Arguments{"--draft", "8"}, Arguments{"--draft", "3", "--draft-layers", "1"}}) {
      const Json fast = run(guessing);
      EXPECT_EQ(fast.at("text"), plain.at("text"));
      EXPECT_EQ(fast.at("kept"), plain.at("kept"));
      if (temperature == std::string("0")) {
        EXPECT_GT(fast.at("drafted"), 0);
      }
      EXPECT_LE(fast.at("accepted"), fast.at("drafted"));
    }
  }
  expect_failure(2, {"--draft", "from 0 to 8"}, {"run", "-m", model(gated), "--draft", "9"});
  expect_failure(2, {"--draft-layers", "fewer than the model's"},
                 {"run", "-m", model(gated), "--draft", "1", "--draft-layers", "99"});
}

TEST_F(RunTest, TakesThePromptFromAnywhere) {
  const auto run = [&](const Arguments& prompt, const std::string& input = "") {
    Arguments arguments = {"run", "-m", model(gated), "-n", "10", "--temp", "0"};
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    return json_of(arguments, input).at("tokens");
  };
  const Json wanted = run({"-p", "-v [a,b] \"c\""});
  EXPECT_EQ(run({"-f", file("prompt.txt", "-v [a,b] \"c\"")}), wanted);
  EXPECT_EQ(run({"-f", file("prompt.txt", "-v [a,b] \"c\"\n")}), wanted) << "one newline ends the file";
  EXPECT_EQ(run({"-f", "-"}, "-v [a,b] \"c\""), wanted);
  EXPECT_NE(run({"-p", "other"}), wanted);
}

TEST_F(RunTest, WithoutAPromptBeginsAText) {
  for (const Arguments& prompt : {Arguments{}, Arguments{"-p", ""}}) {
    Arguments arguments = {"run", "-m", model(gated), "-n", "3", "--ignore-eos"};
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    const Json json = json_of(arguments);
    EXPECT_EQ(json.at("prompt_tokens"), 1);
    EXPECT_EQ(json.at("tokens").size(), 3u);
  }
}

TEST_F(RunTest, OfNoTokensFeedsThePrompt) {
  const Json json = json_of({"run", "-m", model(gated), "-p", "Once upon a time", "-n", "0"});
  EXPECT_EQ(json.at("tokens").size(), 0u);
  EXPECT_EQ(json.at("stop"), "length");
  EXPECT_EQ(json.at("text"), "");
  EXPECT_EQ(json.at("decode_tokens_per_s"), 0);
  EXPECT_GT(json.at("kv_bytes"), 0);
}

TEST_F(RunTest, StopsAtTheEndOfTheContext) {
  const Json json = json_of({"run", "-m", model(gated), "-p", "Once", "-c", "20", "--ignore-eos"});
  EXPECT_EQ(json.at("stop"), "context");
  EXPECT_EQ(json.at("prompt_tokens").get<int>() + static_cast<int>(json.at("tokens").size()), 20);
}

TEST_F(RunTest, StopsAtAStopText) {
  const Arguments arguments = {"run", "-m", model("gpt2-gated"), "-p", "Once", "-n", "60", "-s", "2", "--ignore-eos"};
  const std::string whole = json_of(arguments).at("text");
  ASSERT_GT(whole.size(), 12u);
  const std::string stop = whole.substr(6, 4);
  Arguments with_stops = arguments;
  with_stops.insert(with_stops.end(), {"--stop", "never in this text", "--stop", stop});
  const Json json = json_of(with_stops);
  EXPECT_EQ(json.at("stop"), "stop_string");
  EXPECT_EQ(json.at("text"), whole.substr(0, whole.find(stop)));
}

TEST_F(RunTest, StopsAtTheEndOfTheText) {
  // Flat enough to meet the end token somewhere.
  const Json json = json_of({"run", "-m", model(gated), "-c", "100000", "--temp", "100", "--top-k", "0", "--top-p", "1",
                             "--min-p", "0", "-s", "1"});
  EXPECT_EQ(json.at("stop"), "end");
  EXPECT_EQ(json.at("tokens").back(), 0);
}

TEST_F(RunTest, ShowsWhatWasForgotten) {
  const Arguments arguments = {"run",         "-m", model(gated), "-p", "Once upon a time there was a house",
                               "-n",          "30", "-s",         "1",  "--show",
                               "--ignore-eos"};
  const std::string out = done(arguments).out;
  EXPECT_EQ(out.find('\x1b'), std::string::npos) << "no colour into a file";
  EXPECT_NE(out.find("~forgotten~ by all"), std::string::npos) << out;
  EXPECT_GT(std::ranges::count(out, '~'), 2) << out;
  EXPECT_NE(out.find("kept "), std::string::npos);
  const Finished with_json = [&] {
    Arguments also = arguments;
    also.push_back("--json");
    return done(also);
  }();
  EXPECT_TRUE(with_json.json().is_object());
  EXPECT_NE(with_json.err.find("~forgotten~"), std::string::npos);
}

TEST_F(RunTest, TauForgetsMore) {
  double before = 1.1;
  for (const char* tau : {"-1000", "0", "1000"}) {
    const Json json = json_of(
        {"run", "-m", model(gated), "-p", "Once upon a time", "-n", "20", "--temp", "0", "--tau", tau, "--ignore-eos"});
    EXPECT_LT(json.at("kept"), before) << tau;
    before = json.at("kept");
  }
  EXPECT_NE(
      done({"run", "-m", model("gpt2-dense"), "-p", "a", "-n", "1", "--tau", "1"}).err.find("--tau has no effect"),
      std::string::npos);
}

TEST_F(RunTest, AnInterruptStopsCleanly) {
  const Started run({"run", "-m", model(gated), "-p", "Once", "-c", "100000000", "--ignore-eos"});
  // Its first words say that it listens.
  for (int i = 0; i < 600 && run.out().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill(run.process(), SIGINT);
  const Finished finished = run.wait();
  EXPECT_EQ(finished.exit, 130) << finished.err;
  EXPECT_NE(finished.err.find("stop: interrupted"), std::string::npos) << finished.err;
  EXPECT_NE(finished.err.find("kept "), std::string::npos);
  EXPECT_TRUE(finished.out.ends_with('\n'));
}

TEST(StoriesTest, GreedyRunIsTheExpectedOne) {
  const fs::path path = shared_data("data/models/stories260K");
  if (path.empty()) GTEST_SKIP() << shared_absent("data/models/stories260K");
  std::ifstream file(path / "expected_greedy.json");
  auto wanted = Json::parse(file).at("greedy_tokens").get<std::vector<int>>();
  wanted.erase(wanted.begin());
  for (const char* container : {"", "stories260K-f32.gguf", "stories260K-f16.gguf"}) {
    const Json json = json_of({"run", "-m", path / container, "--temp", "0", "-n", "199"});
    EXPECT_EQ(json.at("tokens"), wanted) << container;
    EXPECT_EQ(json.at("prompt_tokens"), 1);
  }
}

TEST(StoriesTest, TextGoesOnWhereThePromptEnds) {
  const fs::path path = shared_data("data/models/stories260K");
  if (path.empty()) GTEST_SKIP() << shared_absent("data/models/stories260K");
  const Json whole = json_of({"run", "-m", path, "--temp", "0", "-n", "40"});
  const std::string prompt = "Once upon a time,";
  ASSERT_TRUE(whole.at("text").get<std::string>().starts_with(prompt));
  const Json rest = json_of({"run", "-m", path, "--temp", "0", "-n", "10", "-p", prompt});
  EXPECT_TRUE(whole.at("text").get<std::string>().starts_with(prompt + rest.at("text").get<std::string>()));
}

}  // namespace
}  // namespace pith::test
