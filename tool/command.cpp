// SPDX-License-Identifier: MIT
#include "command.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <tuple>

#include "files/model_files.hpp"
#include "files/output_file.hpp"
#include "flags.hpp"

namespace pith::tool {

namespace {

namespace fs = std::filesystem;

/// What tells a file from all others, by whatever name: device and inode, or for one that is not there yet those of its
/// directory and its name in it.
using Identity = std::tuple<dev_t, ino_t, std::string>;

std::optional<Identity> identity(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) return Identity(status.st_dev, status.st_ino, "");
  const fs::path target = through_links(path);
  const fs::path directory = target.has_parent_path() ? target.parent_path() : fs::path(".");
  if (stat(directory.c_str(), &status) != 0) return std::nullopt;
  return Identity(status.st_dev, status.st_ino, target.filename().string());
}

/// Of a stream that leads to a regular file.
std::optional<Identity> identity(int stream) {
  struct stat status {};
  if (fstat(stream, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return Identity(status.st_dev, status.st_ino, "");
}

/// Devices and pipes lose nothing when they are written to, and may be so under many flags.
bool is_special(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) && !fs::is_regular_file(path, ignored);
}

/// Whoever spells it so means it.
bool names_standard_output(const fs::path& path) {
  return path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1";
}

}  // namespace

void add_common_flags(CLI::App& app, Tool& tool) {
  app.add_flag("--json", tool.json, "One JSON object on stdout");
  app.add_option("--isa", tool.isa, "Force an instruction set: scalar, avx2, avx512, neon")->type_name("NAME");
  app.add_flag_callback(
      "-v,--verbose", [&tool] { tool.verbosity = Verbosity::verbose; }, "Say more on stderr");
  app.add_flag_callback(
      "-q,--quiet", [&tool] { tool.verbosity = Verbosity::quiet; }, "Only errors on stderr");
}

CLI::Option& CommandLine::seed(const std::string& flags, std::optional<std::uint64_t>& value, const std::string& what) {
  return words(flags, what, [flags, &value](const auto& words) {
    const std::string& word = words.front();
    value = pith::number<std::uint64_t>(word);
    if (!value && word != "-1") refuse(flags, "-1 or " + Range<std::uint64_t>().text(), word);
  });
}

std::vector<std::string> CommandLine::between_commas(const std::string& word) {
  std::vector<std::string> pieces(1);
  for (const char c : word)
    if (c == ',')
      pieces.emplace_back();
    else
      pieces.back() += c;
  return pieces;
}

void CommandLine::refuse(const std::string& flags, const std::string& expected, const std::string& word) {
  throw CLI::ValidationError(flag_text(flags), "expected " + expected + ", found '" + word + "'");
}

void CommandLine::check_files() const {
  struct Named {
    std::string what;  // "m.gguf, which --model/-m reads"
    std::optional<Identity> identity;
  };
  std::vector<Named> taken;
  const auto path_of = [](const File& file) { return fs::path(file.option->results().back()); };
  const auto flag_of = [](const File& file) { return flag_text(file.option->get_name(false, true)); };
  for (const File& file : files_) {
    if (file.option->count() == 0 || file.use == Use::written) continue;
    const fs::path path = path_of(file);
    const std::string read = ", which " + flag_of(file) + " reads";
    if (file.use == Use::read && path == "-")
      taken.push_back({"standard input" + read, identity(STDIN_FILENO)});
    else
      for (const fs::path& one : file.use == Use::model ? model_files(path) : std::vector{path})
        taken.push_back({one.string() + read, identity(one)});
  }
  const std::size_t inputs = taken.size();
  taken.push_back({"standard output", identity(STDOUT_FILENO)});
  const std::size_t standard_output = inputs;

  for (const File& file : files_) {
    if (file.option->count() == 0 || file.use != Use::written) continue;
    const fs::path path = path_of(file);
    if (is_special(path)) continue;
    const std::optional<Identity> own = identity(path);
    for (std::size_t i = 0; i < taken.size(); ++i)
      if (own && own == taken[i].identity && !(i == standard_output && names_standard_output(path)))
        fail(ErrorCode::argument, flag_of(file), "a file of its own to write", taken[i].what);
    for (const File& other : files_)
      if (other.use == Use::model && other.option->count() > 0 && belongs_to_model(path_of(other), path))
        fail(ErrorCode::argument, flag_of(file), "a file that " + flag_of(other) + " would not read",
             path.string() + " in its directory");
    taken.push_back({path.string() + ", which " + flag_of(file) + " writes", own});
  }
}

}  // namespace pith::tool
