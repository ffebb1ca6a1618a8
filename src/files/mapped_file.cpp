// SPDX-License-Identifier: MIT
// Mapping a file with POSIX mmap.
#include "files/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "pith/error.hpp"

namespace pith::inline files {

namespace {

/// Closes on every way out; a mapping outlives its descriptor.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

[[noreturn]] void fail_with_errno(const std::filesystem::path& path, std::string_view expected) {
  const int error = errno;
  fail(ErrorCode::file, path.string(), expected, std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must not wait for somebody to write into it. For regular files it means nothing.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) fail_with_errno(path, "a readable file");

  struct stat status {};
  if (::fstat(file.number, &status) != 0) fail_with_errno(path, "a readable file");
  if (S_ISDIR(status.st_mode)) fail(ErrorCode::file, path.string(), "a file", "a directory");
  if (!S_ISREG(status.st_mode)) fail(ErrorCode::file, path.string(), "a regular file", "a pipe, socket or device");

  const auto size = static_cast<std::size_t>(status.st_size);
  std::span<const std::byte> bytes;
  if (size > 0) {  // mmap refuses a length of zero
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (address == MAP_FAILED) fail_with_errno(path, "a file that can be mapped");
    bytes = {static_cast<const std::byte*>(address), size};
  }
  try {
    return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes));
  } catch (...) {
    if (size > 0) ::munmap(const_cast<std::byte*>(bytes.data()), size);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace pith::inline files
