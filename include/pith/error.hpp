// SPDX-License-Identifier: MIT
// What can go wrong at the library's doors, as one exception type.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "pith/api.hpp"

namespace pith {

enum class ErrorCode {
  file,         // cannot be opened, read, mapped or written
  format,       // the bytes of a file break its format: truncated, overlapping, malformed
  model,        // well-formed files that do not make a model: a tensor missing or of the wrong shape
  unsupported,  // valid, but beyond what this library does
  argument,     // a call with a value out of range
  state,        // a call at the wrong time: on a finished sequence, or on one in the middle of a step
  budget,       // the byte budget of a key-value cache is exhausted
  cancelled,    // a std::stop_token asked to stop
};

PITH_API std::string_view name(ErrorCode code);

/// The one exception this library throws on purpose. The message names what is concerned (file, tensor),
/// what was expected and what was found.
class PITH_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// Builds the usual message: "<where>: expected <expected>, found <found>".
PITH_API [[noreturn]] void fail(ErrorCode code, std::string_view where, std::string_view expected,
                                std::string_view found);
PITH_API [[noreturn]] void fail(ErrorCode code, const std::string& message);

inline void require(bool holds, ErrorCode code, std::string_view message) {
  if (!holds) fail(code, std::string(message));
}

}  // namespace pith
