// SPDX-License-Identifier: MIT
// pith chat, from a script: what it writes where, its commands, and how it ends.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

class ChatCommandTest : public CommandTest {
 protected:
  static std::string bookworm() { return std::string(PITH_MODELS_DIR) + "/bookworm-1m"; }

  static std::string lines() {
    return file("lines.jinja",
                "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}"
                "assistant: {% endif %}");
  }

  static Arguments chat(const Arguments& more = {}) {
    Arguments arguments = {"chat", "-m", bookworm(), "--template", lines(), "-s", "3", "-t", "1"};
    if (std::ranges::count(more, "-n") == 0) arguments.insert(arguments.end(), {"-n", "12"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  static std::vector<Json> answers(const std::string& input, Arguments more = {}) {
    more.push_back("--json");
    const Finished finished = done(chat(more), input);
    std::vector<Json> all;
    std::istringstream out(finished.out);
    for (std::string line; std::getline(out, line);) all.push_back(Json::parse(line));
    return all;
  }
};

TEST_F(ChatCommandTest, GuessingAheadChangesNoAnswer) {
  const std::string input = "Say it again and again and again.\nAnd again?";
  const auto plain = answers(input, {"-n", "30"}), fast = answers(input, {"-n", "30", "--draft", "6"});
  ASSERT_EQ(plain.size(), 2u);
  ASSERT_EQ(fast.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(fast[i].at("tokens"), plain[i].at("tokens"));
    EXPECT_EQ(fast[i].at("kept"), plain[i].at("kept"));
    EXPECT_EQ(plain[i].at("drafted"), 0);
    EXPECT_LE(fast[i].at("accepted"), fast[i].at("drafted"));
  }
  EXPECT_GT(fast[1].at("drafted"), 0);
}

TEST_F(ChatCommandTest, AnswersEachLine) {
  const std::vector<Json> all = answers("Who are you?\n\n  \nAnd where?");
  ASSERT_EQ(all.size(), 2u) << "blank lines say nothing";
  std::string expected;
  for (const Json& one : all) {
    EXPECT_EQ(one.at("tokens").size(), 12u);
    EXPECT_EQ(one.at("stop"), "length");
    EXPECT_GT(one.at("prompt_tokens"), 0);
    EXPECT_GT(one.at("kept"), 0);
    EXPECT_LT(one.at("kept"), 1);
    EXPECT_LE(one.at("kv_bytes"), one.at("kv_bytes_dense"));
    EXPECT_GT(one.at("prefill_tokens_per_s"), 0);
    EXPECT_EQ(one.at("policy"), "gate(tau=0)");
    expected += one.at("text").get<std::string>() + "\n";
  }
  EXPECT_EQ(all[0].at("readings"), 1);
  EXPECT_EQ(all[1].at("readings"), 0) << "it goes on";
  const Finished plain = done(chat(), "Who are you?\nAnd where?\n");
  EXPECT_EQ(plain.out, expected);
  EXPECT_EQ(plain.err, "") << "no prompt, no status, no colours";
  EXPECT_EQ(done(chat(), "").out, "");
}

TEST_F(ChatCommandTest, TalksFor50TurnsWithin2MiB) {
  std::string input;
  for (int i = 0; i < 50; ++i) input += "What did they say of the great storm of " + std::to_string(1800 + i) + "?\n";
  for (const std::string policy : {"none", "gate", "gate,streaming(sinks=0,recent=256)", "h2o(rows=256,recent=64)"}) {
    SCOPED_TRACE(policy);
    const std::vector<Json> all =
        answers(input, {"--kv-budget", "2", "--policy", policy, "--system", "You keep a lighthouse.", "-n", "40"});
    ASSERT_EQ(all.size(), 50u);
    std::size_t tokens = 0, readings = 0;
    for (const Json& one : all) {
      EXPECT_LE(one.at("kv_bytes"), 2 << 20);
      EXPECT_EQ(one.at("stop") == "length" || one.at("stop") == "end", true) << one.at("stop");
      tokens += one.at("prompt_tokens").get<std::size_t>() + one.at("tokens").size();
      readings += one.at("readings").get<std::size_t>();
    }
    EXPECT_GT(tokens, 2000u) << "twice the model's context";
    EXPECT_GT(readings, 1u);
    EXPECT_GT(all.back().at("left_out"), 20);
  }
}

TEST_F(ChatCommandTest, ObeysCommands) {
  const std::string saved = scratch("saved.json").string();
  const Finished finished =
      done(chat(), "/system Be brief.\nHello\n//slash\n/tau 0.5\n/system\n/policy\n/stats\n/save " + saved +
                       "\n/policy streaming(sinks=2,recent=30)\nAnd now?\n/help\n/reset\n/stats\n/quit\nnot read\n");
  const Json messages = Json::parse(content(saved));
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0], (Json{{"role", "system"}, {"content", "Be brief."}}));
  EXPECT_EQ(messages[1].at("content"), "Hello");
  EXPECT_EQ(messages[3].at("content"), "/slash");
  EXPECT_EQ(messages[4].at("role"), "assistant");
  for (const char* part :
       {"Be brief.\n", "gate(tau=0)\n", "messages   5", "by layer", "/tau X", "Nothing has been read"})
    EXPECT_NE(finished.err.find(part), std::string::npos) << part << "\n" << finished.err;
  EXPECT_TRUE(finished.out.starts_with(messages[2].at("content").get<std::string>() + "\n"));
}

TEST_F(ChatCommandTest, GoesOnWithWhatWasSaved) {
  const std::string saved = scratch("go-on.json").string();
  const std::vector<Json> all = answers("One.\nTwo.\nThree.\n");
  const std::vector<Json> begun = answers("One.\nTwo.\n", {"--save", saved, "--system", "Be brief."});
  EXPECT_EQ(Json::parse(content(saved)).size(), 5u);
  const std::vector<Json> gone_on = answers("Three.\n", {"--load", saved});
  ASSERT_EQ(gone_on.size(), 1u);
  EXPECT_EQ(gone_on[0].at("readings"), 1);
  EXPECT_GT(gone_on[0].at("prompt_tokens"), all[2].at("prompt_tokens")) << "it was all read again";
  expect_failure(3, {"bad.json", "a JSON array of messages"}, chat({"--load", file("bad.json", "{")}));
  expect_failure(3, {"bad.json: message 0", "\"role\" and \"content\""}, chat({"--load", file("bad.json", "[{}]")}));
  expect_failure(2, {"message 0", "the role \"user\""},
                 chat({"--load", file("bad.json", R"([{"role": "assistant", "content": ""}])")}));
}

TEST_F(ChatCommandTest, GoesOnWithTheRowsThatWereSaved) {
  const std::string saved = scratch("rows").string(), messages = scratch("messages.json").string();
  const std::vector<Json> all = answers("One.\nTwo.\nThree.\nFour.\n", {"--temp", "0"});
  answers("One.\nTwo.\n", {"--temp", "0", "--save", saved});
  const std::vector<Json> gone_on =
      answers("Three.\n/save " + messages + "\nFour.\n", {"--temp", "0", "--load", saved});
  ASSERT_EQ(gone_on.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(gone_on[i].at("readings"), 0) << "nothing was read again";
    EXPECT_EQ(gone_on[i].at("prompt_tokens"), all[2 + i].at("prompt_tokens"));
    EXPECT_EQ(gone_on[i].at("tokens"), all[2 + i].at("tokens"));
    EXPECT_EQ(gone_on[i].at("kept"), all[2 + i].at("kept"));
  }
  EXPECT_EQ(Json::parse(content(messages)).size(), 6u);
  // What is to be read again is saved as messages.
  const std::string reset = scratch("reset").string();
  answers("One.\n/policy none\n", {"--save", reset});
  EXPECT_EQ(answers("Two.\n", {"--load", reset})[0].at("readings"), 1);
  expect_failure(4, {"policy", "none", "gate"}, chat({"--load", saved, "--policy", "none"}));
  expect_failure(3, {"half"}, chat({"--load", file("half", content(saved).substr(0, 1000))}));
}

TEST_F(ChatCommandTest, NamesWhatIsWrong) {
  expect_failure(3, {"bookworm-1m", "a chat template (or --template FILE, --template chatml)", "none"},
                 {"chat", "-m", bookworm()}, "Hello\n");
  expect_failure(2, {"--template", "a file, chatml", "'nothing'"}, {"chat", "-m", bookworm(), "--template", "nothing"},
                 "Hello\n");
  expect_failure(2, {"command", "/help", "/nonsense"}, chat(), "/nonsense\n");
  expect_failure(2, {"--policy"}, chat(), "/policy nonsense\n");
  expect_failure(2, {"/tau", "'high'"}, chat(), "/tau high\n");
  expect_failure(4, {"/tau", "learned gate"}, chat({"--policy", "none"}), "/tau 1\n");
  expect_failure(2, {"/save", "a file"}, chat(), "/save\n");
  expect_failure(3, {"broken.jinja:1:7"}, {"chat", "-m", bookworm(), "--template", file("broken.jinja", "{% if %}")},
                 "Hello\n");
  expect_failure(2, {"--kv-budget"}, chat({"--kv-budget", "0"}), "Hello\n");
  const Finished chatml = done({"chat", "-m", bookworm(), "--template", "chatml", "-n", "3"}, "Hello\n");
  EXPECT_NE(chatml.err.find("warning: --template chatml: the model has no tokens"), std::string::npos);
}

/// The command at a terminal of 40 columns, as a person would see it.
class Terminal {
 public:
  explicit Terminal(Arguments words) {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = 40;
    process_ = forkpty(&terminal_, nullptr, nullptr, &size);
    if (process_ != 0) return;
    words.insert(words.begin(), "pith");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    execv(PITH_TOOL, argv.data());
    _exit(99);
  }
  ~Terminal() { close(terminal_); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& text) const {
    EXPECT_EQ(write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  /// What is shown from the last wait on, up to and with a text.
  std::string until(const std::string& text) {
    for (int i = 0; i < 3000; ++i) {
      if (const auto at = seen_.find(text, waited_); at != std::string::npos) {
        const std::string shown = seen_.substr(waited_, at + text.size() - waited_);
        waited_ = at + text.size();
        return shown;
      }
      pollfd ready{terminal_, POLLIN, 0};
      char bytes[4096];
      if (poll(&ready, 1, 20) <= 0) continue;
      const ssize_t count = read(terminal_, bytes, sizeof bytes);
      if (count <= 0) break;
      seen_.append(bytes, static_cast<std::size_t>(count));
    }
    ADD_FAILURE() << "expected '" << text << "', found\n" << seen_.substr(waited_);
    return {};
  }

  int exit() {
    int status = 0;
    char bytes[4096];
    while (read(terminal_, bytes, sizeof bytes) > 0) {
    }
    waitpid(process_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  int terminal_ = -1;
  pid_t process_ = -1;
  std::string seen_;
  std::size_t waited_ = 0;
};

constexpr const char* control_c = "\x03";

TEST_F(ChatCommandTest, AtATerminal) {
  Terminal terminal(chat({"--policy", "streaming(sinks=4,recent=60)", "-c", "1000000", "-n", "60"}));
  EXPECT_NE(terminal.until("> ").find("/help lists commands"), std::string::npos);
  terminal.type("Tell me of the sea.\n");
  terminal.until("\x1b[0m");  // what was typed has its own colour
  std::string answer = terminal.until("\x1b[2m");
  answer = answer.substr(0, answer.size() - 4);
  EXPECT_GT(answer.size(), 80u);
  std::istringstream lines(answer);
  for (std::string line; std::getline(lines, line, '\r');) EXPECT_LE(line.size(), 41u) << line;
  EXPECT_NE(terminal.until("tokens/s").find("% forgotten; "), std::string::npos);
  terminal.until("> ");
  terminal.type("/nonsense\n");
  terminal.until("\x1b[31mcommand: expected one that /help lists");
  terminal.until("> ");
  terminal.type("/stats\n");
  terminal.until("by layer");
  terminal.until("> ");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.exit(), 0);
}

TEST_F(ChatCommandTest, AnInterruptEndsAnAnswerAndKeepsTheChat) {
  Terminal terminal(chat({"--policy", "streaming(sinks=4,recent=60)", "-c", "1000000", "-n", "900000"}));
  for (int i = 0; i < 2; ++i) {
    terminal.until("> ");
    terminal.type("Tell me everything.\n");
    terminal.until("\x1b[0m");
    terminal.until(" ");
    terminal.until("\n");
    terminal.type(control_c);
    terminal.until("stopped; ");
  }
  terminal.until("> ");
  terminal.type(control_c);
  terminal.until("Ctrl-C again leaves");
  terminal.until("> ");
  terminal.type("/tau\n");
  terminal.until("expected");
  terminal.until("> ");
  terminal.type(control_c);
  terminal.until("Ctrl-C again leaves");
  terminal.until("> ");
  terminal.type(control_c);
  EXPECT_EQ(terminal.exit(), 130);
}

TEST_F(ChatCommandTest, AnInterruptEndsAScript) {
  const Started started(chat({"--policy", "streaming(sinks=4,recent=60)", "-c", "1000000", "-n", "900000"}),
                        "Tell me everything.\nAnd more.\n");
  for (int i = 0; i < 1000 && started.out().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  kill(started.process(), SIGINT);
  const Finished finished = started.wait();
  EXPECT_EQ(finished.exit, 130);
  EXPECT_FALSE(finished.out.empty());
  EXPECT_EQ(finished.out.back(), '\n');
}

}  // namespace
}  // namespace pith::test
