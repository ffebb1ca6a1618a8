// SPDX-License-Identifier: MIT
// The pith command from outside: what it writes where, its JSON, its exit codes.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "support/golden.hpp"

extern char** environ;

namespace pith::test {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

inline std::string content(const fs::path& path) {
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
  TempFolder folder_;
  fs::path out_ = folder_.path() / "out", err_ = folder_.path() / "err";
  pid_t process_ = -1;
};

inline Finished pith(const Arguments& arguments, const std::string& input = "") {
  return Started(arguments, input).wait();
}

/// Runs it and expects success.
inline Finished done(const Arguments& arguments, const std::string& input = "") {
  Finished finished = pith(arguments, input);
  EXPECT_EQ(finished.exit, 0) << finished.err;
  return finished;
}

inline Json json_of(Arguments arguments, const std::string& input = "") {
  arguments.push_back("--json");
  const Finished finished = done(arguments, input);
  EXPECT_EQ(std::ranges::count(finished.out, '\n'), 1) << finished.out;
  return finished.json();
}

/// Runs it and expects this exit code, nothing on stdout, and an error of one line that says all of these.
inline void expect_failure(int exit, const std::vector<std::string>& parts, const Arguments& arguments,
                           const std::string& input = "") {
  const Finished finished = pith(arguments, input);
  EXPECT_EQ(finished.exit, exit) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_TRUE(finished.err.starts_with("pith: error: ")) << finished.err;
  for (const std::string& part : parts) EXPECT_NE(finished.err.find(part), std::string::npos) << finished.err;
}

/// A fixture with a tokenizer of bytes: id 0 ends (and begins) a text, id 1 + b is byte b in GPT-2's alphabet for the
/// printable ones, and the rest are words that no text contains.
class CommandTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { folder_ = new TempFolder; }
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
  static inline TempFolder* folder_ = nullptr;
};

inline constexpr const char* gated = "llama-gated";

}  // namespace pith::test
