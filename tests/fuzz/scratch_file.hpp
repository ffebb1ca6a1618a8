// SPDX-License-Identifier: MIT
// A fuzz input as a file: the readers map files, and so the mapping is part of what is tried.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace pith::test {

/// In memory where there is such a place: a search writes millions of inputs.
inline std::filesystem::path scratch_folder() {
  const std::filesystem::path memory = "/dev/shm";
  return std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
}

class ScratchFile {
 public:
  /// Several searches may run side by side.
  explicit ScratchFile(const std::string& extension)
      : path_(scratch_folder() / ("pith-fuzz-" + std::to_string(::getpid()) + extension)) {}
  ~ScratchFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& holding(const std::uint8_t* data, std::size_t size) const {
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    return path_;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pith::test
