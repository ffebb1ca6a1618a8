// SPDX-License-Identifier: MIT
// Files as they are read: whole, into memory or mapped.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace pith::inline files {

enum class Access {
  copied,  // read at once
  mapped,  // pages come in as they are used; who cuts the file meanwhile takes them away
};

class MappedRange;

class InputFile {
 public:
  /// Throws Error (file), also where the file is cut while it is read.
  static std::shared_ptr<const InputFile> open(const std::filesystem::path& path, Access access = Access::copied);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  const std::filesystem::path& path() const { return path_; }

  /// From here on, in the whole process, bytes of mapped files that are gone are zeros to who reads them, and no signal
  /// (SIGBUS). Faults elsewhere find the handler that was there before. Throws Error (state).
  static void guard();

  /// Throws Error (file) where the guard had to put zeros in the place of bytes.
  void check() const;

 private:
  InputFile(std::filesystem::path path, std::span<const std::byte> bytes);
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  MappedRange* range_ = nullptr;  // of a mapped file, for the guard
};

}  // namespace pith::inline files
