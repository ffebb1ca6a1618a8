// SPDX-License-Identifier: MIT
// Files as they are written: whole or not at all.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>

namespace pith::inline files {

/// What is at `path` stays as it is until finish(): the bytes gather under a name of their own in the same directory,
/// which goes away with this object. A file that is replaced hands down its mode and, where the system lets it, its
/// owner; links lead to what they name, and all names of a file show the new one. What is no regular file (a device, a
/// pipe) is written as the bytes come.
/// Everything here throws Error (file), naming the path.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(std::string_view bytes);

  /// All of it is there.
  void finish();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  void open_temporary(bool exists);
  void open(int descriptor);

  std::filesystem::path path_;       // as asked for
  std::filesystem::path target_;     // where its links lead
  std::filesystem::path temporary_;  // until finish(); empty where bytes go straight to the path
  bool has_other_names_ = false;     // hard links to the target
  std::unique_ptr<std::FILE, Close> file_;
};

/// Where a path leads, through symbolic links of which the last may lead to nothing.
std::filesystem::path through_links(const std::filesystem::path& path);

}  // namespace pith::inline files
