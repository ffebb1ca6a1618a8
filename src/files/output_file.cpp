// SPDX-License-Identifier: MIT
#include "files/output_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <string>
#include <system_error>
#include <utility>

#include "pith/error.hpp"

namespace pith::inline files {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with(int error, const fs::path& path, std::string_view expected) {
  fail(ErrorCode::file, path.string(), expected, std::generic_category().message(error));
}

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

/// Our own stream that leads to this file, -1 for none: a stream of its own would begin at the file's start again.
int stream_to(const struct stat& file) {
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat status {};
    if (fstat(stream, &status) == 0 && same_file(status, file)) return stream;
  }
  return -1;
}

/// Opens what cannot be replaced by a file of the same name: no regular file, our own stream, or a file without a name.
/// -1 for all else.
int straight_to(const fs::path& path, const struct stat& status) {
  int flags = O_WRONLY | O_CLOEXEC;
  if (S_ISREG(status.st_mode)) {
    if (const int stream = stream_to(status); stream >= 0) return fcntl(stream, F_DUPFD_CLOEXEC, 0);
    struct stat named {};
    if (stat(through_links(path).c_str(), &named) == 0 && same_file(named, status)) return -1;
    flags |= O_TRUNC;
  }
  const int descriptor = ::open(path.c_str(), flags);
  if (descriptor < 0) fail_with(errno, path, "a file that can be written");
  return descriptor;
}

/// A name in the same directory that nobody else can guess.
fs::path temporary_beside(const fs::path& target) {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::string name = ".pith-";
  for (int i = 0; i < 12; ++i) name += letters[random() % letters.size()];
  return target.parent_path() / name;
}

}  // namespace

fs::path through_links(const fs::path& path) {
  constexpr int most = 40;  // as many as the kernel follows
  fs::path at = path;
  for (int i = 0; i < most; ++i) {
    std::error_code no_link;
    const fs::path next = fs::read_symlink(at, no_link);
    if (no_link) return at;
    at = next.is_absolute() ? next : at.parent_path() / next;
  }
  fail_with(ELOOP, path, "a file that can be written");
}

OutputFile::OutputFile(fs::path path) : path_(std::move(path)), target_(path_) {
  struct stat status {};
  const bool exists = stat(path_.c_str(), &status) == 0;
  if (path_.empty() || (!exists && errno != ENOENT))
    fail_with(errno, path_.empty() ? "''" : path_, "a file that can be written");
  if (exists && S_ISDIR(status.st_mode))
    fail(ErrorCode::file, path_.string(), "the name of a file to write", "a directory");
  if (const int descriptor = exists ? straight_to(path_, status) : -1; descriptor >= 0) {
    open(descriptor);
  } else {
    target_ = through_links(path_);
    open_temporary(exists);
  }
}

OutputFile::~OutputFile() {
  file_.reset();
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void OutputFile::open_temporary(bool exists) {
  if (exists && access(target_.c_str(), W_OK) != 0) fail_with(errno, path_, "a file that can be written");
  constexpr mode_t for_all = 0666, for_us = 0600;  // the former less the umask
  int descriptor = -1;
  do {
    temporary_ = temporary_beside(target_);
    descriptor = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, exists ? for_us : for_all);
  } while (descriptor < 0 && errno == EEXIST);
  if (descriptor < 0) temporary_.clear();
  open(descriptor);
  if (!exists) return;
  struct stat status {};
  if (stat(target_.c_str(), &status) != 0) fail_with(errno, path_, "a file that can be replaced");
  has_other_names_ = status.st_nlink > 1;
  mode_t mode = status.st_mode & 0777;
  // Of another group, its members are not those that were meant.
  if (fchown(descriptor, status.st_uid, status.st_gid) != 0 &&
      fchown(descriptor, static_cast<uid_t>(-1), status.st_gid) != 0)
    mode &= ~mode_t{070};
  if (fchmod(descriptor, mode) != 0) fail_with(errno, path_, "a file whose mode can be kept");
}

void OutputFile::open(int descriptor) {
  if (descriptor < 0) fail_with(errno, path_, "a file that can be written");
  file_.reset(fdopen(descriptor, "wb"));
  if (file_) return;
  const int error = errno;
  close(descriptor);
  fail_with(error, path_, "a file that can be written");
}

void OutputFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size())
    fail_with(errno, path_, "room to write it");
}

void OutputFile::finish() {
  if (std::fclose(file_.release()) != 0) fail_with(errno, path_, "all of it to be written");
  if (temporary_.empty()) return;
  std::error_code error;
  if (!has_other_names_) fs::rename(temporary_, target_, error);
  // Some files keep their place: one with other names, or one that is mounted there.
  if (has_other_names_ || error) fs::copy_file(temporary_, target_, fs::copy_options::overwrite_existing, error);
  if (error) fail_with(error.value(), path_, "a file that can be replaced");
  fs::remove(temporary_, error);
  temporary_.clear();
}

}  // namespace pith::inline files
