// SPDX-License-Identifier: MIT
// What the command writes: never onto what it reads, whole or not at all, and into what was there.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

/// All files below a folder and their bytes.
std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = content(entry.path());
  return files;
}

mode_t mode(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

class OutputsTest : public CommandTest {
 protected:
  OutputsTest() {
    fs::copy(model(gated), here("model"));
    fs::copy(model(gated) + "/model.safetensors", here("model/gates.safetensors"));
    ids = folder_.write("ids.json", "[5,6,7]").string();
    prompt = folder_.write("prompt.txt", "Once").string();
    other =
        folder_.write("other.json", done({"trace", "-m", here("model"), "-p", "a", "-n", "0", "--json"}).out).string();
    gates = folder_.write("gates", content(here("model/gates.safetensors"))).string();
    gguf = here("m.gguf");
    done({"quantize", "-m", here("model"), "-o", gguf, "-q"});
  }

  std::string here(const std::string& name) const { return (folder_.path() / name).string(); }

  /// Refuses the last argument, a file that is read: exit 2, both flags named, and nothing touched.
  void expect_refused(const Arguments& arguments, const std::vector<std::string>& says) const {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    const auto before = snapshot(folder_.path());
    expect_failure(2, says, arguments);
    EXPECT_EQ(snapshot(folder_.path()), before);
  }

  TempFolder folder_;
  std::string ids, prompt, other, gates, gguf;
};

TEST_F(OutputsTest, AreNeverWhatIsRead) {
  const std::string dir = here("model");
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().extension() == ".f32") continue;  // no file of a model
    const std::string file = entry.path().string();
    expect_refused({"eval", "-m", dir, "--tokens", ids, "--logits", file}, {"--logits", "--model/-m", file});
    expect_refused({"quantize", "-m", dir, "-o", file}, {"--output/-o", "--model/-m", file});
    for (const char* flag : {"--svg", "--html", "--png", "--gif"})
      expect_refused({"trace", "-m", dir, "-p", "a", "-n", "0", flag, file}, {flag, "--model/-m", file});
    expect_refused({"trace", "-m", dir, "-p", "a", "--aggregate", "--csv", file}, {"--csv", "--model/-m", file});
  }
  expect_refused({"eval", "-m", gguf, "--tokens", ids, "--logits", gguf}, {"--logits", "--model/-m", gguf});
  expect_refused({"quantize", "-m", gguf, "-o", gguf}, {"--output/-o", "--model/-m", gguf});
  expect_refused({"quantize", "-m", dir, "--gates", gates, "-o", gates}, {"--output/-o", "--gates", gates});
  expect_refused({"eval", "-m", dir, "--tokens", ids, "--logits", ids}, {"--logits", "--tokens", ids});
  expect_refused({"eval", "-m", dir, "--gates", gates, "--tokens", ids, "--logits", gates}, {"--logits", "--gates"});
  expect_refused({"trace", "-m", dir, "-f", prompt, "--html", prompt}, {"--html", "--file/-f", prompt});
  expect_refused({"trace", "-m", dir, "-p", "a", "--compare", other, "--html", other}, {"--html", "--compare", other});
}

TEST_F(OutputsTest, AreKnownByAnyName) {
  const std::string dir = here("model"), weights = dir + "/model.safetensors";
  fs::create_symlink(weights, here("soft"));
  fs::create_hard_link(weights, here("hard"));
  fs::create_directory_symlink(dir, here("linked"));
  fs::create_symlink("soft", here("softer"));
  for (const std::string& name : {here("soft"), here("hard"), here("softer"), here("linked/model.safetensors"),
                                  here("model/../model/./model.safetensors"), "/proc/self/root" + weights}) {
    expect_refused({"quantize", "-m", dir, "-o", name}, {"--output/-o", "--model/-m", weights});
    expect_refused({"trace", "-m", here("linked"), "-p", "a", "--svg", name}, {"--svg", "--model/-m"});
  }
  // As a cache of downloads keeps a model: its files are links.
  fs::create_directory(here("links"));
  for (const auto& entry : fs::directory_iterator(dir))
    fs::create_symlink(entry.path(), fs::path(here("links")) / entry.path().filename());
  expect_refused({"quantize", "-m", here("links"), "-o", weights}, {"--output/-o", "--model/-m"});
}

TEST_F(OutputsTest, AreNoPartOfASplitModel) {
  const std::string one = here("s-00001-of-00002.gguf"), two = here("s-00002-of-00002.gguf");
  fs::copy(gguf, one);
  fs::copy(gguf, two);
  expect_refused({"eval", "-m", one, "--tokens", ids, "--logits", two}, {"--logits", "--model/-m", two});
}

TEST_F(OutputsTest, AreNotStandardInput) {
  const std::string command = std::string(PITH_TOOL) + " trace -m " + here("model") + " -f - --html " + prompt + " < " +
                              prompt + " 2> " + here("err");
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 2);
  EXPECT_NE(content(here("err")).find("standard input"), std::string::npos) << content(here("err"));
  EXPECT_EQ(content(prompt), "Once");
}

TEST_F(OutputsTest, AreNotEachOther) {
  const std::string dir = here("model");
  fs::create_symlink("new", here("link"));
  const Arguments trace = {"trace", "-m", dir, "-p", "a", "-n", "0"};
  for (const std::string& second : {here("new"), here("model/../new"), here("link")}) {
    Arguments arguments = trace;
    arguments.insert(arguments.end(), {"--svg", here("new"), "--html", second});
    expect_refused(arguments, {"--svg", "--html"});
  }
  Arguments arguments = trace;
  arguments.insert(arguments.end(), {"--svg", "/dev/null", "--html", "/dev/null"});
  done(arguments);

  const std::string command = std::string(PITH_TOOL) + " eval -m " + dir + " --tokens " + ids + " --logits ";
  const std::string out = here("out"), into = " > " + out + " 2> " + here("err");
  EXPECT_EQ(WEXITSTATUS(std::system((command + out + into).c_str())), 2);
  EXPECT_NE(content(here("err")).find("standard output"), std::string::npos) << content(here("err"));
  EXPECT_EQ(WEXITSTATUS(std::system((command + "/dev/stdout" + into).c_str())), 0) << content(here("err"));
  EXPECT_NE(content(out).find("nll"), std::string::npos) << "the logits, and the report after them";
}

TEST_F(OutputsTest, StayAsTheyWereWhereTheCommandFails) {
  const std::string out = folder_.write("out", "before").string();
  const std::string bad = folder_.write("bad.json", "[5,6,319,320]").string();
  expect_failure(2, {"320"}, {"eval", "-m", here("model"), "--tokens", bad, "--logits", out});
  EXPECT_EQ(content(out), "before");
  expect_failure(2, {"--policy"}, {"trace", "-m", here("model"), "-p", "a", "--svg", out, "--policy", "x"});
  EXPECT_EQ(content(out), "before");
  expect_failure(3, {"/dev/full"},
                 {"trace", "-m", here("model"), "-p", "a", "-n", "0", "--svg", "/dev/full", "--html", out});
  EXPECT_EQ(content(out), "before");
}

TEST_F(OutputsTest, StayAsTheyWereWhereTheCommandIsInterrupted) {
  const fs::path directory = here("outputs");
  fs::create_directory(directory);
  const std::string many = folder_.write("many.json", Json(std::vector<int>(200000, 7)).dump()).string();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const std::string out = (directory / "out").string();
    std::ofstream(out) << "before";
    const Started eval({"eval", "-m", here("model"), "--tokens", many, "-c", "200000", "--logits", out});
    const auto entries = [&] { return std::distance(fs::directory_iterator(directory), {}); };
    for (int i = 0; i < 1200 && entries() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(entries(), 2) << "a file to be";
    kill(eval.process(), signal);
    const Finished finished = eval.wait();
    EXPECT_EQ(finished.exit, 130) << signal << finished.err;
    EXPECT_EQ(entries(), 1);
    EXPECT_EQ(content(out), "before");
  }
}

TEST_F(OutputsTest, KeepTheirKindAndMode) {
  const std::string dir = here("model"), wanted = content(gguf);
  const std::string kept = folder_.write("kept.gguf", "before").string();
  folder_.write("kept.gguf.part", "another's");
  chmod(kept.c_str(), 0600);
  done({"quantize", "-m", dir, "-o", kept});
  EXPECT_EQ(content(kept), wanted);
  EXPECT_EQ(mode(kept), 0600u);
  EXPECT_EQ(content(here("kept.gguf.part")), "another's");

  fs::create_directory(here("elsewhere"));
  fs::create_symlink("elsewhere/new.gguf", here("link.gguf"));
  for (int i = 0; i < 2; ++i) {
    done({"quantize", "-m", dir, "-o", here("link.gguf")});
    EXPECT_TRUE(fs::is_symlink(here("link.gguf")));
    EXPECT_EQ(content(here("elsewhere/new.gguf")), wanted);
  }

  const std::string pipe = here("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const Started quantize({"quantize", "-m", dir, "-o", pipe});
  EXPECT_EQ(content(pipe), wanted);
  EXPECT_EQ(quantize.wait().exit, 0);
  EXPECT_TRUE(fs::is_fifo(pipe));

  done({"quantize", "-m", dir, "-o", "/dev/null"});
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(OutputsTest, MayLieBesideTheModel) {
  const std::string dir = here("model");
  for (int i = 0; i < 2; ++i) {
    done({"quantize", "-m", dir, "-o", dir + "/model-q8.gguf"});
    done({"eval", "-m", dir, "--tokens", ids, "--logits", dir + "/logits.f32"});
    done({"trace", "-m", dir, "-p", "a", "-n", "0", "--html", dir + "/report.html"});
  }
  EXPECT_EQ(content(dir + "/model-q8.gguf"), content(gguf));
}

}  // namespace
}  // namespace pith::test
