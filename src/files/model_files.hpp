// SPDX-License-Identifier: MIT
// Which files make a model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pith::inline files {

/// The name of a model in several GGUF files, "m-00001-of-00003.gguf" for the first of three.
struct SplitName {
  std::filesystem::path whole;  // folder and name, without what tells the parts apart
  int parts = 0;

  /// Nothing where a file's name is not of that form.
  static std::optional<SplitName> of(const std::filesystem::path& file);

  std::filesystem::path part(int number) const;  // counted from 1

  bool operator==(const SplitName&) const = default;
};

/// Those that loading a model and its tokenizer from `path` may read: of a Hugging Face directory all that is of its
/// kinds (JSON, safetensors, text, …), of a split GGUF all parts, else the file alone.
std::vector<std::filesystem::path> model_files(const std::filesystem::path& path);

/// Would loading from `path`, a directory, read a file of this name?
bool belongs_to_model(const std::filesystem::path& path, const std::filesystem::path& file);

/// Throws Error (file) for the weights or config.json of a Hugging Face directory, given in the directory's place.
void refuse_part_of_directory(const std::filesystem::path& path);

}  // namespace pith::inline files
