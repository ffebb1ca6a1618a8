// SPDX-License-Identifier: MIT
// Reading and mapping with POSIX.
#include "files/input_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>

#include "pith/error.hpp"

namespace pith::inline files {

/// Where a file is mapped. A signal handler walks the list of all, in any thread and at any time, so that a range is
/// never freed: one that is done with waits for the next file.
class MappedRange {
 public:
  static MappedRange* take(std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex);
    MappedRange* range = first.load();
    while (range != nullptr && range->taken_) range = range->next_;
    if (range == nullptr) {
      range = new MappedRange;
      range->next_ = first.load();
      first.store(range);
    }
    range->taken_ = true;
    range->cut_.store(false);
    range->begin_.store(reinterpret_cast<std::uintptr_t>(bytes.data()));
    range->end_.store(range->begin_.load() + bytes.size());
    return range;
  }

  void give_back() {
    const std::lock_guard lock(mutex);
    end_.store(0);
    begin_.store(0);
    taken_ = false;
  }

  bool cut() const { return cut_.load(); }

  /// For the handler: zeros in the place of the page around an address of ours. False where it is nobody's.
  static bool replace_page(std::uintptr_t address, std::uintptr_t page_bytes) {
    for (MappedRange* range = first.load(); range != nullptr; range = range->next_) {
      const std::uintptr_t page = address - address % page_bytes;
      // The last page of a file is mapped whole.
      if (address < range->begin_.load() || page >= range->end_.load()) continue;
      range->cut_.store(true);
      return ::mmap(reinterpret_cast<void*>(page), page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                    0) != MAP_FAILED;
    }
    return false;
  }

 private:
  static inline std::mutex mutex;
  static inline std::atomic<MappedRange*> first = nullptr;

  std::atomic<std::uintptr_t> begin_ = 0, end_ = 0;
  std::atomic<bool> cut_ = false;
  bool taken_ = false;
  MappedRange* next_ = nullptr;  // set before the range is in the list, and never again

  static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free &&
                std::atomic<MappedRange*>::is_always_lock_free);
};

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

void read_all(int descriptor, const std::filesystem::path& path, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    // Linux reads at most 2^31 bytes in one call.
    const std::size_t most = std::min(into.size() - done, std::size_t{1} << 30);
    const ssize_t count = ::read(descriptor, into.data() + done, most);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(path, "a readable file");
    if (count == 0)
      fail(ErrorCode::file, path.string(), std::to_string(into.size()) + " bytes, as when it was opened",
           std::to_string(done) + " bytes");
    done += static_cast<std::size_t>(count);
  }
}

void release(std::span<const std::byte> bytes) { ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size()); }

struct sigaction before = {};
std::uintptr_t page_bytes = 0;

/// Only what may be called in a handler is: atomics without locks, mmap, sigaction.
void on_bus_error(int, siginfo_t* info, void*) {
  const int saved = errno;
  // A fault that is not ours comes again as soon as this returns, and finds who was there before.
  if (!MappedRange::replace_page(reinterpret_cast<std::uintptr_t>(info->si_addr), page_bytes))
    ::sigaction(SIGBUS, &before, nullptr);
  errno = saved;
}

}  // namespace

InputFile::InputFile(std::filesystem::path path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

std::shared_ptr<const InputFile> InputFile::open(const std::filesystem::path& path, Access access) {
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
    void* address = access == Access::mapped
                        ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0)
                        : ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
      fail_with_errno(path, access == Access::mapped ? "a file that can be mapped" : "a file that fits in memory");
    bytes = {static_cast<const std::byte*>(address), size};
  }
  try {
    if (access == Access::copied) read_all(file.number, path, {const_cast<std::byte*>(bytes.data()), bytes.size()});
    std::shared_ptr<InputFile> out(new InputFile(path, {}));
    if (access == Access::mapped && size > 0) out->range_ = MappedRange::take(bytes);
    out->bytes_ = bytes;
    return out;
  } catch (...) {
    if (size > 0) release(bytes);
    throw;
  }
}

InputFile::~InputFile() {
  if (range_ != nullptr) range_->give_back();
  if (!bytes_.empty()) release(bytes_);
}

void InputFile::check() const {
  if (range_ != nullptr && range_->cut())
    fail(ErrorCode::file, path_.string(), std::to_string(bytes_.size()) + " bytes, as when it was opened",
         "fewer: it was cut while in use");
}

void InputFile::guard() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    if (::sigaction(SIGBUS, &action, &before) != 0) {
      const int error = errno;
      fail(ErrorCode::state, "SIGBUS", "a signal that can be handled", std::generic_category().message(error));
    }
  });
}

}  // namespace pith::inline files
