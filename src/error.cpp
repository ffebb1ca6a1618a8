// SPDX-License-Identifier: MIT
#include "pith/error.hpp"

namespace pith {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::file:
      return "file";
    case ErrorCode::format:
      return "format";
    case ErrorCode::model:
      return "model";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::argument:
      return "argument";
    case ErrorCode::state:
      return "state";
    case ErrorCode::budget:
      return "budget";
    case ErrorCode::cancelled:
      return "cancelled";
  }
  return "unknown";
}

void fail(ErrorCode code, std::string_view where, std::string_view expected, std::string_view found) {
  std::string message;
  message.append(where).append(": expected ").append(expected).append(", found ").append(found);
  throw Error(code, message);
}

void fail(ErrorCode code, const std::string& message) { throw Error(code, message); }

}  // namespace pith
