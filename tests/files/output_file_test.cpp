// SPDX-License-Identifier: MIT
// Files are written whole or not at all, and stay what they were: their mode, their names, what they are.
#include "files/output_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "files/model_files.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write(const fs::path& path, std::string_view bytes) {
  OutputFile file(path);
  file.write(bytes);
  file.finish();
}

auto entries(const TempFolder& folder) { return std::distance(fs::directory_iterator(folder.path()), {}); }

mode_t mode(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

TEST(OutputFile, IsThereOnceItIsFinished) {
  const TempFolder folder;
  const fs::path path = folder.path() / "out";
  {
    OutputFile file(path);
    file.write("one, ");
    file.write("two");
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(entries(folder), 1);
    file.finish();
  }
  EXPECT_EQ(content(path), "one, two");
  EXPECT_EQ(entries(folder), 1);
}

TEST(OutputFile, LeavesNothingWhereItIsNotFinished) {
  const TempFolder folder;
  const fs::path path = folder.write("out", "before");
  { OutputFile(path).write("after"); }
  { OutputFile(folder.path() / "new").write("after"); }
  EXPECT_EQ(content(path), "before");
  EXPECT_EQ(entries(folder), 1);
}

TEST(OutputFile, HasTheModeThatANewFileHas) {
  const TempFolder folder;
  const mode_t before = umask(027);
  write(folder.path() / "out", "bytes");
  umask(before);
  EXPECT_EQ(mode(folder.path() / "out"), 0640u);
}

TEST(OutputFile, KeepsTheModeOfWhatItReplaces) {
  const TempFolder folder;
  for (const mode_t kept : {0600u, 0644u, 0666u, 0755u}) {
    const fs::path path = folder.write("out", "before");
    chmod(path.c_str(), kept);
    OutputFile file(path);
    file.write("after");
    for (const auto& entry : fs::directory_iterator(folder.path())) EXPECT_EQ(mode(entry.path()) & ~kept, 0u) << kept;
    file.finish();
    EXPECT_EQ(mode(path), kept);
    EXPECT_EQ(content(path), "after");
  }
}

TEST(OutputFile, LeavesNeighboursAlone) {
  const TempFolder folder;
  for (const char* name : {"out.part", "out.tmp", "out~", ".out.part", ".out.swp"}) folder.write(name, "another's");
  write(folder.path() / "out", "bytes");
  for (const char* name : {"out.part", "out.tmp", "out~", ".out.part", ".out.swp"})
    EXPECT_EQ(content(folder.path() / name), "another's") << name;
}

TEST(OutputFile, WritesWhereALinkLeads) {
  const TempFolder folder;
  const fs::path file = folder.write("file", "before"), elsewhere = folder.path() / "elsewhere";
  fs::create_directory(elsewhere);
  fs::create_symlink("../file", elsewhere / "link");
  fs::create_symlink("elsewhere/link", folder.path() / "link");
  write(folder.path() / "link", "after");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_TRUE(fs::is_symlink(elsewhere / "link"));
  EXPECT_EQ(content(file), "after");

  fs::create_symlink("elsewhere/new", folder.path() / "dangling");
  write(folder.path() / "dangling", "new");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "dangling"));
  EXPECT_EQ(content(elsewhere / "new"), "new");

  fs::create_symlink("loop", folder.path() / "loop");
  expect_error(ErrorCode::file, {"loop"}, [&] { OutputFile(folder.path() / "loop"); });
}

TEST(OutputFile, ShowsUnderAllNamesOfAFile) {
  const TempFolder folder;
  const fs::path one = folder.write("one", "before, and longer"), two = folder.path() / "two";
  fs::create_hard_link(one, two);
  {
    OutputFile file(one);
    file.write("after");
    EXPECT_EQ(content(two), "before, and longer");
    file.finish();
  }
  EXPECT_TRUE(fs::equivalent(one, two));
  EXPECT_EQ(content(two), "after");
  EXPECT_EQ(entries(folder), 2);
}

TEST(OutputFile, WritesThroughPipesAndDevices) {
  const TempFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = content(pipe); });
  write(pipe, "through it");
  reader.join();
  EXPECT_EQ(read, "through it");
  EXPECT_TRUE(fs::is_fifo(pipe));

  write("/dev/null", "bytes");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  if (fs::exists("/dev/full")) expect_error(ErrorCode::file, {"/dev/full"}, [] { write("/dev/full", "bytes"); });
}

TEST(OutputFile, WritesAfterWhatStandardOutputHolds) {
  const TempFolder folder;
  const fs::path path = folder.write("out", "before, ");
  const int kept = dup(STDOUT_FILENO), file = open(path.c_str(), O_WRONLY | O_APPEND);
  dup2(file, STDOUT_FILENO);
  write(path, "after");
  dup2(kept, STDOUT_FILENO);
  close(kept);
  close(file);
  EXPECT_EQ(content(path), "before, after");
}

TEST(OutputFile, WritesAFileThatHasLostItsName) {
  const TempFolder folder;
  const fs::path path = folder.write("out", "before");
  const int file = open(path.c_str(), O_RDWR);
  fs::remove(path);
  const fs::path by_number = "/proc/self/fd/" + std::to_string(file);
  if (!fs::exists(by_number)) GTEST_SKIP() << "needs /proc";
  write(by_number, "after");
  EXPECT_EQ(content(by_number), "after");
  close(file);
  EXPECT_EQ(entries(folder), 0);
}

TEST(OutputFile, SaysWhereItCannotWrite) {
  const TempFolder folder;
  expect_error(ErrorCode::file, {folder.path().string(), "a directory"}, [&] { OutputFile(folder.path()); });
  expect_error(ErrorCode::file, {"nowhere/out", "No such"}, [&] { OutputFile(folder.path() / "nowhere" / "out"); });
  expect_error(ErrorCode::file, {"file/out", "Not a directory"}, [&] { OutputFile(folder.write("file", "") / "out"); });
  expect_error(ErrorCode::file, {"''"}, [&] { OutputFile(""); });
}

TEST(OutputFile, HeedsAGuardAgainstWriting) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write everything";
  const TempFolder folder;
  const fs::path guarded = folder.write("guarded", "before");
  chmod(guarded.c_str(), 0444);
  expect_error(ErrorCode::file, {"guarded", "denied"}, [&] { OutputFile{guarded}; });
}

TEST(ModelFiles, AreThoseThatAreRead) {
  const TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors", "merges.txt", "tokenizer.model", "m.gguf", "notes.md"})
    folder.write(name, "");
  const auto names = [](std::vector<fs::path> files) {
    std::vector<std::string> out;
    for (const fs::path& file : files) out.push_back(file.filename().string());
    std::sort(out.begin(), out.end());
    return out;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(model_files(folder.path())),
            (Names{"config.json", "merges.txt", "model.safetensors", "tokenizer.model"}));
  EXPECT_EQ(names(model_files(folder.path() / "m.gguf")), Names{"m.gguf"});

  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "n-00001-of-00002.gguf", "m-1-of-2.gguf"})
    folder.write(name, "");
  EXPECT_EQ(names(model_files(folder.path() / "m-00001-of-00002.gguf")),
            (Names{"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}));
}

}  // namespace
}  // namespace pith
