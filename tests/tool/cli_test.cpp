// SPDX-License-Identifier: MIT
// The pith command from outside: what it writes where, its JSON, its exit codes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/shared_data.hpp"

extern char** environ;

namespace pith {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Finished {
  int exit = -1;  // 128 + signal where one killed it
  std::string out, err;

  Json json() const { return Json::parse(out); }
};

/// The command, started with these arguments; its streams are files.
class Started {
 public:
  explicit Started(const Arguments& arguments, const std::string& input = "") {
    const fs::path in = folder_.write("in", input);
    Arguments words = arguments;
    words.insert(words.begin(), "pith");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out_.c_str(), O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err_.c_str(), O_WRONLY | O_CREAT, 0600);
    const int failure = posix_spawn(&process_, PITH_TOOL, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) ADD_FAILURE() << PITH_TOOL << ": " << std::strerror(failure);
  }

  pid_t process() const { return process_; }
  std::string out() const { return content(out_); }

  Finished wait() const {
    int status = 0;
    waitpid(process_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out_), content(err_)};
  }

 private:
  test::TempFolder folder_;
  fs::path out_ = folder_.path() / "out", err_ = folder_.path() / "err";
  pid_t process_ = -1;
};

Finished pith(const Arguments& arguments, const std::string& input = "") { return Started(arguments, input).wait(); }

/// Runs it and expects success.
Finished done(const Arguments& arguments, const std::string& input = "") {
  Finished finished = pith(arguments, input);
  EXPECT_EQ(finished.exit, 0) << finished.err;
  return finished;
}

Json json_of(Arguments arguments, const std::string& input = "") {
  arguments.push_back("--json");
  const Finished finished = done(arguments, input);
  EXPECT_EQ(std::ranges::count(finished.out, '\n'), 1) << finished.out;
  return finished.json();
}

/// Runs it and expects this exit code, nothing on stdout, and an error of one line that says all of these.
void expect_failure(int exit, const std::vector<std::string>& parts, const Arguments& arguments,
                    const std::string& input = "") {
  const Finished finished = pith(arguments, input);
  EXPECT_EQ(finished.exit, exit) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_TRUE(finished.err.starts_with("pith: error: ")) << finished.err;
  for (const std::string& part : parts) EXPECT_NE(finished.err.find(part), std::string::npos) << finished.err;
}

/// A fixture with a tokenizer of bytes: id 0 ends (and begins) a text, id 1 + b is byte b in GPT-2's alphabet for the
/// printable ones, and the rest are words that no text contains.
class CliTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { folder_ = new test::TempFolder; }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static std::string model(const std::string& name) {
    const fs::path path = folder_->path() / name;
    if (!fs::exists(path)) {
      fs::copy(testing::golden(name).path, path);
      Json vocabulary;
      vocabulary["<|endoftext|>"] = 0;
      int next = 1;
      for (int code = 0x21; code < 0x7f; ++code) vocabulary[std::string(1, static_cast<char>(code))] = next++;
      vocabulary["Ġ"] = next++;  // blank
      vocabulary["Ċ"] = next++;  // newline
      vocabulary["Ã"] = next++;  // byte c3
      vocabulary["©"] = next++;  // byte a9
      while (next < 320) {
        vocabulary["word" + std::to_string(next)] = next;
        ++next;
      }
      std::ofstream(path / "vocab.json") << vocabulary;
      std::ofstream(path / "merges.txt") << "#version: 0.2\n";
    }
    return path.string();
  }

  static std::string file(const std::string& name, const std::string& bytes) {
    return folder_->write(name, bytes).string();
  }
  static std::string file_of_ids(const std::vector<Token>& tokens) { return file("ids.json", Json(tokens).dump()); }
  static fs::path scratch(const std::string& name) { return folder_->path() / name; }

 private:
  static inline test::TempFolder* folder_ = nullptr;
};

constexpr const char* gated = "llama-gated";

TEST_F(CliTest, VersionNamesTheInstructionSet) {
  EXPECT_NE(done({"--version"}).out.find("instruction set: "), std::string::npos);
  const Json json = json_of({"--version"});
  EXPECT_EQ(json.at("isas").back(), "scalar");
  EXPECT_EQ(json_of({"--version", "--isa", "scalar"}).at("isa"), "scalar");
}

TEST_F(CliTest, HelpListsTheSubcommands) {
  const std::string help = done({"--help"}).out;
  for (const char* name : {"run", "eval", "perplexity", "tokenize", "detokenize", "inspect", "bench", "quantize"})
    EXPECT_NE(help.find(name), std::string::npos) << name;
  EXPECT_NE(done({"run", "--help"}).out.find("--policy"), std::string::npos);
}

TEST_F(CliTest, UsageErrorsExitWithTwo) {
  expect_failure(2, {"subcommand"}, {});
  expect_failure(2, {"nonsense"}, {"nonsense"});
  expect_failure(2, {"--model"}, {"run"});
  expect_failure(2, {"--nonsense"}, {"run", "-m", model(gated), "--nonsense"});
  expect_failure(2, {"--predict", "x"}, {"run", "-m", model(gated), "-n", "x"});
  expect_failure(2, {"--predict"}, {"run", "-m", model(gated), "-n", "-2"});
  expect_failure(2, {"--kv", "bf16"}, {"run", "-m", model(gated), "--kv", "bf16"});
  expect_failure(2, {"--batch-size"}, {"run", "-m", model(gated), "-b", "0"});
  expect_failure(2, {"temperature", "-1"}, {"run", "-m", model(gated), "--temp", "-1"});
  expect_failure(2, {"top_p", "1.5"}, {"run", "-m", model(gated), "--top-p", "1.5"});
  expect_failure(2, {"stop"}, {"run", "-m", model(gated), "--stop", ""});
  expect_failure(2, {"policy", "nonsense"}, {"run", "-m", model(gated), "--policy", "nonsense"});
  expect_failure(2, {"policy", "rows"}, {"run", "-m", model(gated), "--policy", "h2o(rows=x)"});
  expect_failure(2, {"excludes"}, {"run", "-m", model(gated), "-p", "a", "-f", "b"});
  expect_failure(2, {"at most", "256"}, {"run", "-m", model(gated), "-p", std::string(300, 'a')});
  expect_failure(2, {"text"}, {"perplexity", "-m", model(gated)});
  expect_failure(2, {"at least 2"}, {"perplexity", "-m", model(gated), "-p", "a"});
  expect_failure(2, {"stride"}, {"perplexity", "-m", model(gated), "-p", "abc", "--stride", "0"});
  expect_failure(2, {"stride"}, {"perplexity", "-m", model(gated), "-p", "abc", "--stride", "257"});
  expect_failure(2, {"0 to 319", "320"}, {"eval", "-m", model(gated), "--tokens", file_of_ids({1, 320})});
}

TEST_F(CliTest, FileErrorsExitWithThree) {
  expect_failure(3, {"nowhere"}, {"run", "-m", scratch("nowhere")});
  expect_failure(3, {"nowhere"}, {"inspect", "-m", scratch("nowhere.gguf")});
  expect_failure(3, {"broken.gguf"}, {"inspect", "-m", file("broken.gguf", "GGUF\3")});
  expect_failure(3, {"nowhere"}, {"run", "-m", model(gated), "-f", scratch("nowhere")});
  expect_failure(3, {"directory"}, {"run", "-m", model(gated), "-f", scratch(".")});
  expect_failure(3, {"nowhere"}, {"run", "-m", model(gated), "--gates", scratch("nowhere")});
  expect_failure(3, {"nowhere"}, {"eval", "-m", model(gated), "--tokens", scratch("nowhere")});
  const std::string ids = file_of_ids({1, 2, 3});
  expect_failure(3, {"nowhere/x"}, {"eval", "-m", model(gated), "--tokens", ids, "--logits", scratch("nowhere/x")});
  expect_failure(3, {"/dev/full"}, {"eval", "-m", model(gated), "--tokens", ids, "--logits", "/dev/full"});
  for (const char* bad :
       {"", "[1, 2", "{}", "7 8 x", "[1, 2.5]", "[1, \"\xff\"]", "[-1]", "[99999999999]", "[]", "[[1]]"})
    expect_failure(3, {"bad.json"}, {"eval", "-m", model(gated), "--tokens", file("bad.json", bad)});
}

TEST_F(CliTest, UnsupportedCombinationsExitWithFour) {
  expect_failure(4, {"gate"}, {"run", "-m", model("gpt2-dense"), "--policy", "gate", "-n", "1"});
  expect_failure(4, {"q8_0", "head_dim"}, {"run", "-m", model(gated), "--kv", "q8_0", "-n", "1"});
  expect_failure(4, {"sse9"}, {"inspect", "-m", model(gated), "--isa", "sse9"});
}

TEST_F(CliTest, FullStandardOutputIsAnError) {
  const std::string command = std::string(PITH_TOOL) + " inspect -m " + model(gated) + " > /dev/full 2> /dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 3);
}

TEST_F(CliTest, RunReportsWhatItGenerated) {
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

TEST_F(CliTest, RunStreamsOnlyTheTextToStdout) {
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

TEST_F(CliTest, RunIsRepeatedByItsSeed) {
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

TEST_F(CliTest, RunTakesThePromptFromAnywhere) {
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

TEST_F(CliTest, RunWithoutAPromptBeginsAText) {
  for (const Arguments& prompt : {Arguments{}, Arguments{"-p", ""}}) {
    Arguments arguments = {"run", "-m", model(gated), "-n", "3", "--ignore-eos"};
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    const Json json = json_of(arguments);
    EXPECT_EQ(json.at("prompt_tokens"), 1);
    EXPECT_EQ(json.at("tokens").size(), 3u);
  }
}

TEST_F(CliTest, RunOfNoTokensFeedsThePrompt) {
  const Json json = json_of({"run", "-m", model(gated), "-p", "Once upon a time", "-n", "0"});
  EXPECT_EQ(json.at("tokens").size(), 0u);
  EXPECT_EQ(json.at("stop"), "length");
  EXPECT_EQ(json.at("text"), "");
  EXPECT_EQ(json.at("decode_tokens_per_s"), 0);
  EXPECT_GT(json.at("kv_bytes"), 0);
}

TEST_F(CliTest, RunStopsAtTheEndOfTheContext) {
  const Json json = json_of({"run", "-m", model(gated), "-p", "Once", "-c", "20", "--ignore-eos"});
  EXPECT_EQ(json.at("stop"), "context");
  EXPECT_EQ(json.at("prompt_tokens").get<int>() + static_cast<int>(json.at("tokens").size()), 20);
}

TEST_F(CliTest, RunStopsAtAStopText) {
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

TEST_F(CliTest, RunStopsAtTheEndOfTheText) {
  // Flat enough to meet the end token somewhere.
  const Json json = json_of({"run", "-m", model(gated), "-c", "100000", "--temp", "100", "--top-k", "0", "--top-p", "1",
                             "--min-p", "0", "-s", "1"});
  EXPECT_EQ(json.at("stop"), "end");
  EXPECT_EQ(json.at("tokens").back(), 0);
}

TEST_F(CliTest, RunShowsWhatWasForgotten) {
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

TEST_F(CliTest, TauForgetsMore) {
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

TEST_F(CliTest, AnInterruptStopsCleanly) {
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

TEST_F(CliTest, EvalReproducesTheFixtures) {
  for (const std::string& name : testing::golden_names()) {
    const testing::Golden expected = testing::golden(name);
    const std::string ids = file_of_ids(expected.tokens);
    for (const Arguments& how : {Arguments{}, Arguments{"-b", "7"}, Arguments{"--decode"}}) {
      SCOPED_TRACE(name + (how.empty() ? "" : " " + how[0]));
      const fs::path logits = scratch("logits.f32");
      Arguments arguments = {"eval", "-m", expected.path, "--tokens", ids, "--logits", logits};
      arguments.insert(arguments.end(), how.begin(), how.end());
      const Json json = json_of(arguments);
      EXPECT_EQ(json.at("tokens"), expected.tokens.size());
      EXPECT_EQ(json.at("drop_at"), expected.drop_at);

      const std::string bytes = content(logits);
      const std::size_t vocab = expected.logits[0].size();
      ASSERT_EQ(bytes.size(), expected.logits.size() * vocab * sizeof(float));
      double nll = 0;
      for (std::size_t t = 0; t < expected.logits.size(); ++t) {
        std::vector<float> row(vocab);
        std::memcpy(row.data(), bytes.data() + t * vocab * sizeof(float), vocab * sizeof(float));
        double largest = 0, worst = 0, sum = 0;
        for (std::size_t i = 0; i < vocab; ++i) {
          largest = std::max(largest, std::fabs(static_cast<double>(expected.logits[t][i])));
          worst = std::max(worst, std::fabs(static_cast<double>(row[i]) - expected.logits[t][i]));
          sum += std::exp(static_cast<double>(expected.logits[t][i]));
        }
        ASSERT_LE(worst, 2e-4 * largest) << "token " << t;
        if (t + 1 < expected.tokens.size())
          nll += std::log(sum) - expected.logits[t][static_cast<std::size_t>(expected.tokens[t + 1])];
      }
      EXPECT_NEAR(json.at("nll"), nll / static_cast<double>(expected.tokens.size() - 1), 1e-3);
    }
  }
}

TEST_F(CliTest, EvalCountsWhatIsVisible) {
  const testing::Golden expected = testing::golden(gated);
  const Json json = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens)});
  const auto n = static_cast<double>(expected.tokens.size());
  double sum = 0;
  for (const auto& layer : expected.drop_at) {
    double visible = 0;
    for (std::size_t j = 0; j < layer.size(); ++j) visible += (layer[j] < 0 ? n : layer[j]) - static_cast<double>(j);
    sum += visible / (n * (n + 1) / 2);
  }
  EXPECT_NEAR(json.at("kept"), sum / static_cast<double>(expected.drop_at.size()), 1e-9);
  EXPECT_LT(json.at("kv_bytes"), json.at("kv_bytes_dense"));
}

TEST_F(CliTest, EvalHasDropsPerHeadWhereHeadsForgetForThemselves) {
  const testing::Golden expected = testing::golden(gated);
  const Json json = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens), "--policy",
                             "h2o(rows=32,recent=8)", "-b", "16"});
  ASSERT_EQ(json.at("drop_at").size(), 3u);
  ASSERT_EQ(json.at("drop_at")[0].size(), 2u) << "kv-heads";
  EXPECT_EQ(json.at("drop_at")[0][0].size(), expected.tokens.size());
  EXPECT_LT(json.at("kept"), 1);
}

TEST_F(CliTest, EvalTakesIdsFromStdinAndFromOtherReports) {
  const std::string reference = testing::golden(gated).path;
  const Json wanted = json_of({"eval", "-m", reference, "--tokens", file_of_ids({5, 6, 7, 8})});
  EXPECT_EQ(json_of({"eval", "-m", reference, "--tokens", "-"}, "[5,6,7,8]").at("nll"), wanted.at("nll"));
  EXPECT_EQ(json_of({"eval", "-m", reference, "--tokens", "-"}, "{\"tokens\": [5,6,7,8]}").at("nll"), wanted.at("nll"));
}

TEST_F(CliTest, EvalOfOneTokenHasNoLikelihood) {
  const Json json = json_of({"eval", "-m", testing::golden(gated).path, "--tokens", file_of_ids({5})});
  EXPECT_TRUE(json.at("nll").is_null());
  EXPECT_EQ(json.at("drop_at"), Json::parse("[[-1],[-1],[-1]]"));
}

TEST_F(CliTest, PerplexityOfOneWindowIsThatOfEval) {
  const std::string text = "The old house stood at the end of the lane.";
  const Json tokens = json_of({"tokenize", "-m", model(gated), "-p", text}).at("tokens");
  const Json eval = json_of({"eval", "-m", model(gated), "--tokens", "-"}, tokens.dump());
  const Json json = json_of({"perplexity", "-m", model(gated), "-p", text});
  EXPECT_EQ(json.at("tokens"), tokens.size() - 1);
  EXPECT_EQ(json.at("windows"), 1);
  EXPECT_NEAR(json.at("nll"), eval.at("nll"), 1e-6);
  EXPECT_NEAR(json.at("perplexity"), std::exp(json.at("nll").get<double>()),
              1e-6 * json.at("perplexity").get<double>());
  EXPECT_EQ(json.at("kept"), eval.at("kept"));
  EXPECT_EQ(json.at("kept_per_layer").size(), 3u);
  EXPECT_LE(json.at("kv_bytes_peak"), json.at("kv_bytes_dense"));
  EXPECT_GT(json.at("seconds"), 0);
}

TEST_F(CliTest, PerplexityWindowsCoverTheTextOnce) {
  const std::string text = file("text.txt", std::string(101, 'a') + "b");
  const auto run = [&](const Arguments& more) {
    Arguments arguments = {"perplexity", "-m", model(gated), "-f", text, "-c", "20"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json_of(arguments);
  };
  const Json apart = run({});
  EXPECT_EQ(apart.at("tokens"), 102 - 6) << "the first token of each window is not scored";
  EXPECT_EQ(apart.at("windows"), 6);
  const Json overlapping = run({"--stride", "5"});
  EXPECT_EQ(overlapping.at("tokens"), 101);
  EXPECT_EQ(overlapping.at("windows"), 18);
  EXPECT_EQ(run({"--stride", "1"}).at("tokens"), 101);
}

TEST_F(CliTest, PerplexityOfOverlapIsThatOfItsWindows) {
  const Json tokens = json_of({"tokenize", "-m", model(gated), "-p", "abcdefghijkl"}).at("tokens");
  const Json json = json_of({"perplexity", "-m", model(gated), "-p", "abcdefghijkl", "-c", "8", "--stride", "4"});
  // The windows 0-7 and 4-11: of the second, 8-11 are new.
  const auto nll = [&](std::size_t first, std::size_t count) {
    const Json part(std::vector<Json>(tokens.begin() + static_cast<std::ptrdiff_t>(first),
                                      tokens.begin() + static_cast<std::ptrdiff_t>(first + count)));
    return json_of({"eval", "-m", model(gated), "--tokens", "-"}, part.dump()).at("nll").get<double>() *
           static_cast<double>(count - 1);
  };
  EXPECT_EQ(json.at("tokens"), 11);
  EXPECT_NEAR(json.at("nll"), (nll(0, 8) + nll(4, 8) - nll(4, 4)) / 11, 1e-5);
}

TEST_F(CliTest, TokenizeAndDetokenizeAreInverse) {
  const std::string text = "a text\nof two lines, é\n";
  const std::string ids = done({"tokenize", "-m", model(gated)}, text).out;
  EXPECT_EQ(std::ranges::count(ids, '\n'), 1);
  EXPECT_EQ(done({"detokenize", "-m", model(gated)}, ids).out, text);
  const Json json = json_of({"tokenize", "-m", model(gated), "-p", text});
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated)}, json.dump()).at("text"), text);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", json.at("tokens").dump()}).at("text"), text);
}

TEST_F(CliTest, LinesAreTextsOfTheirOwn) {
  const std::string ids = done({"tokenize", "-m", model(gated), "--lines"}, "one\n\ntwo").out;
  EXPECT_EQ(std::ranges::count(ids, '\n'), 3);
  EXPECT_EQ(done({"detokenize", "-m", model(gated), "--lines"}, ids).out, "one\n\ntwo\n");
  EXPECT_EQ(json_of({"tokenize", "-m", model(gated), "--lines"}, "a\nb\n").at("tokens").size(), 2u);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "--lines"}, "65 65\n65").at("text"), Json({"aa", "a"}));
}

TEST_F(CliTest, HalfACharacterIsStillJson) {
  const Json ids = json_of({"tokenize", "-m", model(gated), "-p", "é"}).at("tokens");
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", Json({ids[0]}).dump()}).at("text"), "\xef\xbf\xbd");
  EXPECT_TRUE(json_of({"tokenize", "-m", model(gated)}, "\xff\xfe").at("tokens").is_array());
}

TEST_F(CliTest, SpecialTokensInAText) {
  const auto ids = [&](const char* mode) {
    return json_of({"tokenize", "-m", model(gated), "--specials", mode, "-p", "a<|endoftext|>"}).at("tokens");
  };
  EXPECT_EQ(ids("parse_only").back(), 0);
  EXPECT_EQ(ids("plain").size(), 14u);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", "65 0"}).at("text"), "a");
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", "65 0", "--with-specials"}).at("text"), "a<|endoftext|>");
  const Finished beyond = done({"detokenize", "-m", model(gated), "-p", "65 320 65"});
  EXPECT_EQ(beyond.out, "aa");
  EXPECT_NE(beyond.err.find("320"), std::string::npos) << "a model may have more ids than its tokenizer; a typo, too";
  expect_failure(3, {"ids", "x"}, {"detokenize", "-m", model(gated), "-p", "1 x"});
}

TEST_F(CliTest, InspectSaysWhatIsThere) {
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

TEST_F(CliTest, InspectCountsTheBytesThatASessionTakes) {
  const testing::Golden expected = testing::golden("gpt2-dense");
  const Json inspect = json_of({"inspect", "-m", expected.path});
  const Json eval = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens)});
  EXPECT_EQ(inspect.at("kv_bytes_per_token").at("f32").get<double>() * static_cast<double>(expected.tokens.size()),
            eval.at("kv_bytes").get<double>());
}

TEST_F(CliTest, BenchMeasuresEveryDepth) {
  const std::string path = testing::golden(gated).path.string();
  const Json json =
      json_of({"bench", "-m", path, "-d", "0,40", "-p", "12", "-n", "4", "-r", "3", "-t", "1", "--kv", "f32"});
  std::vector<std::pair<std::string, int>> tests;
  for (const Json& row : json.at("rows")) {
    tests.emplace_back(row.at("test"), row.at("depth").get<int>());
    for (const char* field : {"n", "live_rows", "tokens_per_s", "ms_per_token", "kv_bytes", "rss_peak"})
      EXPECT_GT(row.at(field), 0) << field;
    EXPECT_LE(row.at("tokens_per_s_min"), row.at("tokens_per_s"));
    EXPECT_GE(row.at("tokens_per_s_max"), row.at("tokens_per_s"));
    EXPECT_NEAR(row.at("tokens_per_s").get<double>() * row.at("ms_per_token").get<double>(), 1000, 1e-6);
  }
  EXPECT_EQ(tests, (decltype(tests){{"prefill", 0}, {"prefill", 40}, {"decode", 0}, {"decode", 40}}));
  EXPECT_EQ(json.at("rows")[1].at("live_rows"), 40 + 12);
  // After a step to warm up, four that each see themselves: 42 to 45 rows, and the two before the first.
  EXPECT_EQ(json.at("rows")[3].at("live_rows"), 44);
  EXPECT_GT(json.at("system").at("read_bytes_per_s"), 0);
  EXPECT_EQ(json.at("rows")[0].at("keep"), 1);
}

TEST_F(CliTest, BenchThinsTheContextAndGoesOnJudgingIt) {
  const std::string path = testing::golden(gated).path.string();
  const Json json = json_of({"bench", "-m", path, "-d", "100", "-p", "0", "-n", "2", "-r", "1", "-t", "1", "--keep",
                             "1,0.2", "--sequences", "3"});
  ASSERT_EQ(json.at("rows").size(), 2u);
  EXPECT_EQ(json.at("rows").at(0).at("live_rows"), 103);
  EXPECT_FALSE(json.at("rows").at(0).contains("gate_share"));
  const Json& row = json.at("rows").at(1);
  EXPECT_EQ(row.at("live_rows"), 23) << "20 of 100, and what was decoded since: nothing more is dropped";
  EXPECT_TRUE(row.contains("gate_share"));
  EXPECT_GT(row.at("bytes_per_step"), 0);
  const std::string text = done({"bench", "-m", path, "-d", "0", "-p", "4", "-n", "1", "-r", "1"}).out;
  EXPECT_NE(text.find("of bound"), std::string::npos) << text;
}

TEST_F(CliTest, BenchHoldsPrefillAgainstThePeakOfDotProducts) {
  const std::string blocks = scratch("blocks.gguf").string();
  done({"quantize", "-m", model("gpt2-gated"), "-o", blocks, "--format", "q8_0"});
  const auto bench = [&](const std::string& path) {
    return json_of({"bench", "-m", path, "-d", "0", "-p", "12", "-n", "0", "-r", "3", "-t", "1"});
  };
  const Json json = bench(blocks), row = json.at("rows").at(0);
  EXPECT_GT(row.at("of_peak"), 0);
  EXPECT_LT(row.at("of_peak"), 1);
  EXPECT_GT(json.at("system").at("multiply_adds_per_s"), 0);
  const Json floats = bench(model("gpt2-gated"));
  EXPECT_FALSE(floats.at("rows").at(0).contains("of_peak")) << "weights in floats";
  EXPECT_FALSE(floats.at("system").contains("multiply_adds_per_s")) << "nothing to hold against it";
}

TEST_F(CliTest, BenchRefusesWhatItCannotMeasure) {
  const std::string path = testing::golden(gated).path.string();
  expect_failure(2, {"--model", "--synthetic"}, {"bench"});
  expect_failure(4, {"one of", "gpt2-124m", "gpt5"}, {"bench", "--synthetic", "gpt5"});
  expect_failure(2, {"--keep", "--policy"}, {"bench", "-m", path, "--keep", "0.5", "--policy", "streaming"});
  expect_failure(2, {}, {"bench", "-m", path, "-p", "0", "-n", "0"});
  expect_failure(2, {"--keep", "1.5"}, {"bench", "-m", path, "--keep", "0.5,1.5"});
  expect_failure(2, {"--depth", "-3"}, {"bench", "-m", path, "-d", "0,-3"});
  expect_failure(
      4, {"gate"},
      {"bench", "-m", testing::golden("gpt2-dense").path.string(), "-d", "9", "-p", "4", "-n", "2", "--keep", "0.5"});
}

TEST(CliStoriesTest, GreedyRunIsTheExpectedOne) {
  const fs::path path = test::shared_data("data/models/stories260K");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/models/stories260K");
  std::ifstream file(path / "expected_greedy.json");
  auto wanted = Json::parse(file).at("greedy_tokens").get<std::vector<int>>();
  wanted.erase(wanted.begin());
  for (const char* container : {"", "stories260K-f32.gguf", "stories260K-f16.gguf"}) {
    const Json json = json_of({"run", "-m", path / container, "--temp", "0", "-n", "199"});
    EXPECT_EQ(json.at("tokens"), wanted) << container;
    EXPECT_EQ(json.at("prompt_tokens"), 1);
  }
}

TEST(CliStoriesTest, TextGoesOnWhereThePromptEnds) {
  const fs::path path = test::shared_data("data/models/stories260K");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/models/stories260K");
  const Json whole = json_of({"run", "-m", path, "--temp", "0", "-n", "40"});
  const std::string prompt = "Once upon a time,";
  ASSERT_TRUE(whole.at("text").get<std::string>().starts_with(prompt));
  const Json rest = json_of({"run", "-m", path, "--temp", "0", "-n", "10", "-p", prompt});
  EXPECT_TRUE(whole.at("text").get<std::string>().starts_with(prompt + rest.at("text").get<std::string>()));
}

TEST_F(CliTest, QuantizeWritesAGgufThatAllElseReads) {
  const testing::Golden expected = testing::golden(gated);
  const std::string out = scratch("quantized.gguf").string();
  const Json json = json_of({"quantize", "-m", model(gated), "-o", out, "--format", "f32"});
  EXPECT_EQ(json.at("file"), out);
  EXPECT_EQ(json.at("format"), "f32");
  EXPECT_EQ(json.at("bytes").get<std::uintmax_t>(), fs::file_size(out));
  const Json inspect = json_of({"inspect", "-m", out});
  EXPECT_EQ(inspect.at("gate"), json_of({"inspect", "-m", model(gated)}).at("gate"));
  EXPECT_EQ(inspect.at("tensors").size(), json.at("tensors").size());
  const std::string ids = file_of_ids(expected.tokens);
  EXPECT_EQ(json_of({"eval", "-m", out, "--tokens", ids}).at("drop_at"),
            json_of({"eval", "-m", model(gated), "--tokens", ids}).at("drop_at"));
  EXPECT_EQ(json_of({"tokenize", "-m", out, "-p", "A \xc3\xa9!"}).at("tokens"),
            json_of({"tokenize", "-m", model(gated), "-p", "A \xc3\xa9!"}).at("tokens"));

  const Finished again = done({"quantize", "-m", out, "-o", scratch("q8.gguf").string(), "-t", "2"});
  EXPECT_NE(again.out.find("q8.gguf: "), std::string::npos) << again.out;
  EXPECT_LT(fs::file_size(scratch("q8.gguf")), fs::file_size(out));
  EXPECT_FALSE(fs::exists(out + ".part"));
}

TEST_F(CliTest, QuantizeRefusesWhatMakesNoSense) {
  const std::string out = scratch("never.gguf").string();
  expect_failure(2, {"--output"}, {"quantize", "-m", model(gated)});
  expect_failure(2, {"--model", "--synthetic"}, {"quantize", "-o", out});
  expect_failure(2, {"--model", "--synthetic"}, {"quantize", "-m", "x", "--synthetic", "gpt2-124m", "-o", out});
  expect_failure(2, {"--format", "q3_k"}, {"quantize", "-m", model(gated), "-o", out, "--format", "q3_k"});
  expect_failure(2, {"--gates"}, {"quantize", "--synthetic", "gpt2-124m", "--gates", "x", "-o", out});
  expect_failure(2, {"--gate-dim"}, {"quantize", "-m", model(gated), "--gate-dim", "4", "-o", out});
  expect_failure(3, {"nowhere"}, {"quantize", "-m", scratch("nowhere").string(), "-o", out});
  expect_failure(3, {"a directory"}, {"quantize", "-m", model(gated), "-o", scratch("").string()});
  expect_failure(3, {"bad"}, {"quantize", "-m", model(gated), "--gates", file("bad", "x"), "-o", out});
  expect_failure(4, {"one of", "gpt5"}, {"quantize", "--synthetic", "gpt5", "-o", out});
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace pith
