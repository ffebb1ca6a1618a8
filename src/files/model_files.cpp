// SPDX-License-Identifier: MIT
#include "files/model_files.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include "pith/error.hpp"

namespace pith::inline files {

namespace {

namespace fs = std::filesystem;

bool is_of_a_directory(const fs::path& file) {
  constexpr std::array<std::string_view, 7> kinds = {".json",  ".safetensors", ".txt", ".model",
                                                     ".jinja", ".bin",         ".py"};
  return std::ranges::count(kinds, file.extension().string()) > 0;
}

/// The entries of a directory that `belongs` says yes to.
template <class F>
std::vector<fs::path> entries(const fs::path& directory, F&& belongs) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator i(directory, error), end; !error && i != end; i.increment(error))
    if (belongs(i->path())) out.push_back(i->path());
  return out;
}

}  // namespace

std::optional<SplitName> SplitName::of(const fs::path& file) {
  constexpr std::string_view shape = "-00000-of-00000";
  const std::string stem = file.stem().string();
  if (file.extension() != ".gguf" || stem.size() < shape.size()) return std::nullopt;
  const std::size_t begin = stem.size() - shape.size();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const char c = stem[begin + i];
    if (shape[i] == '0' ? c < '0' || c > '9' : c != shape[i]) return std::nullopt;
  }
  return SplitName{file.parent_path() / stem.substr(0, begin), std::stoi(stem.substr(stem.size() - 5))};
}

fs::path SplitName::part(int number) const {
  const auto digits = [](int n) {
    const std::string text = std::to_string(n);
    return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
  };
  return whole.string() + '-' + digits(number) + "-of-" + digits(parts) + ".gguf";
}

std::vector<fs::path> model_files(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return entries(path, is_of_a_directory);
  const auto split = SplitName::of(path);
  if (!split) return {path};
  std::vector<fs::path> parts;
  for (int number = 1; number <= split->parts; ++number)
    if (fs::exists(split->part(number), ignored)) parts.push_back(split->part(number));
  return parts;
}

bool belongs_to_model(const fs::path& path, const fs::path& file) {
  std::error_code ignored;
  const fs::path directory = file.has_parent_path() ? file.parent_path() : fs::path(".");
  return fs::is_directory(path, ignored) && is_of_a_directory(file) && fs::equivalent(path, directory, ignored);
}

void refuse_part_of_directory(const fs::path& path) {
  const bool weights = path.extension() == ".safetensors";
  const bool named = path.filename() == "config.json" || path.filename().string().ends_with(".safetensors.index.json");
  std::error_code ignored;
  if (!(weights || named) || !fs::is_regular_file(path, ignored)) return;
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  fail(ErrorCode::file, "model", "a Hugging Face directory (such as '" + directory.string() + "') or a .gguf file",
       "a file of a directory, '" + path.string() + "'");
}

}  // namespace pith::inline files
