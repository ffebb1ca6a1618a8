// SPDX-License-Identifier: MIT
// The way into every function of pith/pith.h and out of it: what was given is checked, and nothing that is thrown
// leaves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "pith/error.hpp"
#include "pith/pith.h"

namespace pith::c {

struct Failure {
  pith_status status = PITH_OK;
  std::string message = {};
  pith_sequence sequence = PITH_NO_SEQUENCE;
};

/// What an exception is to a caller in C.
Failure failure_of(const std::exception_ptr& error);

/// Remembers what is being thrown as this thread's latest failure.
pith_status failed() noexcept;

/// What a function was given, by the names that pith.h has for it. Its members throw Error (argument).
class Given {
 public:
  explicit Given(const char* function) : function_(function) {}

  template <class T>
  T& operator()(T* pointer, const std::string& name) const {
    if (pointer == nullptr) refuse(name + " is NULL");
    return *pointer;
  }

  /// An array, which may be NULL where it has nothing.
  template <class T>
  std::span<T> operator()(T* first, std::size_t count, const std::string& name) const {
    if (first == nullptr && count > 0) refuse(name + " is NULL, with a length of " + std::to_string(count));
    return {first, count};
  }

  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorCode::argument, std::string(function_) + ": " + why);
  }

 private:
  const char* function_;
};

/// `body`: given what checks the arguments.
template <class F>
pith_status call(const char* function, F&& body) noexcept try {
  body(Given(function));
  return PITH_OK;
} catch (...) {
  return failed();
}

/// Of `T` when it was first published: once a struct has grown, a number. A caller's may not be smaller.
template <class T>
inline constexpr std::size_t first_size = sizeof(T);

template <class T>
T defaults();

/// What X_init() does: a caller who knows more fields than this library finds zeros in them.
template <class T>
pith_status init(const char* function, T* out, std::size_t size) noexcept {
  return call(function, [&](const Given& given) {
    given(out, "the struct");
    if (size < first_size<T>)
      given.refuse("size is " + std::to_string(size) + ", expected sizeof of the struct, at least " +
                   std::to_string(first_size<T>));
    T value = defaults<T>();
    value.size = size;
    std::memset(out, 0, size);
    std::memcpy(out, &value, std::min(size, sizeof(T)));
  });
}

/// A caller's struct as this library knows it: fields that he does not know have their defaults. NULL: all have.
template <class T>
T received(const Given& given, const T* from, const std::string& name) {
  T value = defaults<T>();
  if (from == nullptr) return value;
  const std::size_t size = from->size;
  if (size < first_size<T>)
    given.refuse(name + ": its size is " + std::to_string(size) + ", expected at least " +
                 std::to_string(first_size<T>) + ": its _init() sets it");
  std::memcpy(&value, from, std::min(size, sizeof(T)));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(from);
  if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size, [](unsigned char byte) { return byte != 0; }))
    given.refuse(name + ": it sets a field that this library (" + pith_version() + ") does not know yet");
  return value;
}

/// Memory that pith_free() frees.
template <class T>
T* copied(std::span<const T> values, std::size_t room_behind = 0) {
  void* const memory = std::malloc((values.size() + room_behind) * sizeof(T) + 1);
  if (memory == nullptr) throw std::bad_alloc();
  if (!values.empty()) std::memcpy(memory, values.data(), values.size_bytes());
  return static_cast<T*>(memory);
}

/// With a NUL behind it.
inline char* copied(std::string_view text) {
  char* const memory = copied(std::span(text), 1);
  memory[text.size()] = '\0';
  return memory;
}

}  // namespace pith::c
