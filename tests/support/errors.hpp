// SPDX-License-Identifier: MIT
// Which error a call ends in.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "pith/error.hpp"

namespace pith::testing {

/// The code of the Error that f() throws; a message that says nothing is a failure.
template <class F>
std::optional<ErrorCode> error_of(F&& f) {
  try {
    std::forward<F>(f)();
  } catch (const Error& error) {
    EXPECT_GT(std::string_view(error.what()).size(), 10u) << error.what();
    return error.code();
  }
  return std::nullopt;
}

}  // namespace pith::testing
