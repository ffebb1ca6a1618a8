// SPDX-License-Identifier: MIT
// Files as they are read, and what becomes of those that are cut while they are in use.
#include "files/input_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <string_view>

#include "pith/model.hpp"
#include "pith/quantize.hpp"
#include "pith/session.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

constexpr std::size_t page = 4096;
const std::string text(10 * page + 100, 'x');

TEST(InputFile, IsTheSameCopiedAndMapped) {
  const TempFolder folder;
  const auto path = folder.write("file", text), empty = folder.write("empty", "");
  for (const Access access : {Access::copied, Access::mapped}) {
    EXPECT_EQ(InputFile::open(path, access)->text(), text);
    EXPECT_EQ(InputFile::open(empty, access)->bytes().size(), 0u);
    expect_error(ErrorCode::file, {"nowhere"}, [&] { InputFile::open(folder.path() / "nowhere", access); });
  }
}

TEST(InputFile, KeepsItsBytesWhereTheyWereCopied) {
  const TempFolder folder;
  const auto file = InputFile::open(folder.write("file", text));
  fs::resize_file(file->path(), 10);
  EXPECT_EQ(file->text(), text);
  file->check();
}

TEST(InputFile, SaysThatItWasCutWhileItWasMapped) {
  InputFile::guard();
  InputFile::guard();  // once is as good as twice
  const TempFolder folder;
  const auto cut = InputFile::open(folder.write("cut", text), Access::mapped);
  const auto whole = InputFile::open(folder.write("whole", text), Access::mapped);
  fs::resize_file(cut->path(), 2 * page + 10);
  const std::string expected = std::string(2 * page + 10, 'x') + std::string(text.size() - 2 * page - 10, '\0');
  EXPECT_EQ(cut->text(), expected);
  expect_error(ErrorCode::file, {cut->path().string(), std::to_string(text.size()), "cut"}, [&] { cut->check(); });
  EXPECT_EQ(whole->text(), text);
  whole->check();
}

TEST(InputFile, ForgetsTheRangesOfFilesThatAreClosed) {
  InputFile::guard();
  const TempFolder folder;
  for (int i = 0; i < 3; ++i) {
    const auto file = InputFile::open(folder.write("file", text), Access::mapped);
    file->check();
    fs::resize_file(file->path(), 0);
    EXPECT_EQ(file->text(), std::string(text.size(), '\0'));
    expect_error(ErrorCode::file, {"cut"}, [&] { file->check(); });
  }
}

TEST(InputFileDeathTest, LeavesOtherFaultsToWhoeverHandledThem) {
  const TempFolder folder;
  const auto path = folder.write("file", text);
  const auto touch = [&] {
    signal(
        SIGBUS, +[](int) {
          constexpr std::string_view message = "the host's own handler";
          [[maybe_unused]] const auto written = write(STDERR_FILENO, message.data(), message.size());
          _exit(3);
        });
    InputFile::guard();
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const auto* bytes =
        static_cast<const volatile char*>(mmap(nullptr, text.size(), PROT_READ, MAP_PRIVATE, descriptor, 0));
    fs::resize_file(path, 0);
    [[maybe_unused]] const char byte = bytes[5 * page];
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(touch(), testing::ExitedWithCode(3), "the host's own handler");
}

/// The shipped model, in a folder where its files may be harmed.
class CutModel : public testing::Test {
 protected:
  CutModel() { fs::copy(fs::path(PITH_MODELS_DIR) / "bookworm-1m", model_, fs::copy_options::recursive); }

  void cut() const { fs::resize_file(weights_, page); }

  static std::vector<float> logits(const Model& model) {
    Session session(model);
    session.add(std::vector<Token>{3, 1, 4, 1, 5});
    const auto outputs = session.step();
    return {outputs[0].logits.begin(), outputs[0].logits.end()};
  }

  TempFolder folder_;
  fs::path model_ = folder_.path() / "model", weights_ = model_ / "model.safetensors";
};

TEST_F(CutModel, EndsAStepWithAnErrorThatNamesTheFile) {
  guard_mappings();
  const Model model = Model::load(model_);
  Session session(model);
  const auto id = session.add(std::vector<Token>{3, 1, 4, 1, 5});
  session.step();
  session.push(id, 9);
  cut();
  for (int i = 0; i < 2; ++i) expect_error(ErrorCode::file, {weights_.string(), "cut"}, [&] { session.step(); });
  session.finish(id);
  EXPECT_EQ(session.stats().bytes_used, 0u);
  expect_error(ErrorCode::file, {weights_.string()}, [&] { model.check_files(); });
}

TEST_F(CutModel, IsNoMatterWhereTheWeightsWereReadIntoMemory) {
  const std::vector<float> before = logits(Model::load(model_));
  const Model model = Model::load(model_, {.map = false});
  cut();
  EXPECT_EQ(logits(model), before);
}

}  // namespace
}  // namespace pith
