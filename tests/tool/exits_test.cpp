// SPDX-License-Identifier: MIT
// How the command ends: its exit codes and what it says.
#include <gtest/gtest.h>

#include <string>

#include "support/command.hpp"

namespace pith::test {
namespace {

class ExitsTest : public CommandTest {};

TEST_F(ExitsTest, VersionNamesTheInstructionSet) {
  EXPECT_NE(done({"--version"}).out.find("instruction set: "), std::string::npos);
  const Json json = json_of({"--version"});
  EXPECT_EQ(json.at("isas").back(), "scalar");
  EXPECT_EQ(json_of({"--version", "--isa", "scalar"}).at("isa"), "scalar");
}

TEST_F(ExitsTest, HelpListsTheSubcommands) {
  const std::string help = done({"--help"}).out;
  for (const char* name : {"run", "eval", "perplexity", "tokenize", "detokenize", "inspect", "bench", "quantize"})
    EXPECT_NE(help.find(name), std::string::npos) << name;
  EXPECT_NE(done({"run", "--help"}).out.find("--policy"), std::string::npos);
}

TEST_F(ExitsTest, UsageErrorsExitWithTwo) {
  expect_failure(2, {"subcommand"}, {});
  expect_failure(2, {"nonsense"}, {"nonsense"});
  expect_failure(2, {"--model"}, {"run"});
  expect_failure(2, {"--nonsense"}, {"run", "-m", model(gated), "--nonsense"});
  expect_failure(2, {"--predict", "x"}, {"run", "-m", model(gated), "-n", "x"});
  expect_failure(2, {"--predict"}, {"run", "-m", model(gated), "-n", "-2"});
  for (const char* kv : {"q4_k", "k=f16", "k=f16,v=q4_k", "k=f16,k=f16"})
    expect_failure(2, {"--kv", "q4_0", "k=q8_0,v=q4_0", kv}, {"run", "-m", model(gated), "--kv", kv});
  expect_failure(2, {"--batch-size"}, {"run", "-m", model(gated), "-b", "0"});
  expect_failure(2, {"--temp", "-1"}, {"run", "-m", model(gated), "--temp", "-1"});
  expect_failure(2, {"--top-p", "1.5"}, {"run", "-m", model(gated), "--top-p", "1.5"});
  expect_failure(2, {"--stop"}, {"run", "-m", model(gated), "--stop", ""});
  expect_failure(2, {"--policy", "nonsense"}, {"run", "-m", model(gated), "--policy", "nonsense"});
  expect_failure(2, {"--policy", "rows"}, {"run", "-m", model(gated), "--policy", "h2o(rows=x)"});
  expect_failure(2, {"excludes"}, {"run", "-m", model(gated), "-p", "a", "-f", "b"});
  expect_failure(2, {"--prompt/-p", "at most", "256"}, {"run", "-m", model(gated), "-p", std::string(300, 'a')});
  expect_failure(2, {"--threads/-t", "1024", "100000"}, {"run", "-m", model(gated), "-t", "100000"});
  expect_failure(2, {"--prompt/-p", "--file/-f"}, {"perplexity", "-m", model(gated)});
  expect_failure(2, {"at least 2"}, {"perplexity", "-m", model(gated), "-p", "a"});
  expect_failure(2, {"--stride"}, {"perplexity", "-m", model(gated), "-p", "abc", "--stride", "0"});
  expect_failure(2, {"--stride"}, {"perplexity", "-m", model(gated), "-p", "abc", "--stride", "257"});
  expect_failure(2, {"0 to 319", "320"}, {"eval", "-m", model(gated), "--tokens", file_of_ids({1, 320})});
}

TEST_F(ExitsTest, FileErrorsExitWithThree) {
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

TEST_F(ExitsTest, AFileOfAModelIsNoModel) {
  const std::string directory = model(gated);
  for (const char* file : {"model.safetensors", "config.json"})
    for (const Arguments& command : {Arguments{"run", "-p", "a", "-n", "1"},
                                     {"inspect"},
                                     {"tokenize", "-p", "a"},
                                     {"quantize", "-o", scratch("never").string()},
                                     {"bench", "-r", "1"}}) {
      Arguments arguments = command;
      arguments.insert(arguments.end(), {"-m", directory + "/" + file});
      expect_failure(3, {"--model/-m", "'" + directory + "'", file}, arguments);
    }
  // A tokenizer stands for itself.
  EXPECT_EQ(done({"tokenize", "-m", directory + "/vocab.json", "-p", "a"}).out, "65\n");
}

TEST_F(ExitsTest, ALongerContextThanTheModelsIsWarnedOf) {
  const auto warned = [&](const char* context) {
    return done({"run", "-m", model(gated), "-p", "a", "-n", "1", "-c", context}).err.find("--ctx-size/-c: 257") !=
           std::string::npos;
  };
  EXPECT_TRUE(warned("257"));
  EXPECT_FALSE(warned("256"));
  const Finished refused = pith({"run", "-m", model("gpt2-dense"), "-p", "a", "-c", "65"});
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("error: --ctx-size/-c: expected at most the model's 64 positions"), std::string::npos)
      << refused.err;
}

TEST_F(ExitsTest, UnsupportedCombinationsExitWithFour) {
  expect_failure(4, {"gate"}, {"run", "-m", model("gpt2-dense"), "--policy", "gate", "-n", "1"});
  for (const char* kv : {"q8_0", "k=f16,v=q4_0"})
    expect_failure(4, {"--kv", kv, "head_dim"}, {"run", "-m", model(gated), "--kv", kv, "-n", "1"});
  expect_failure(4, {"--isa", "sse9"}, {"inspect", "-m", model(gated), "--isa", "sse9"});
}

TEST_F(ExitsTest, FullStandardOutputIsAnError) {
  const std::string command = std::string(PITH_TOOL) + " inspect -m " + model(gated) + " > /dev/full 2> /dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 3);
}

}  // namespace
}  // namespace pith::test
