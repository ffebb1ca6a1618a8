// SPDX-License-Identifier: MIT
// Texts as numbers, and rounding, as Python does it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pith::text::jinja {

/// int(text) and float(text); nothing where Python raises a ValueError, or for an integer beyond 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_real(std::string_view text);

/// round(value, digits): to the nearest, exact halves to even.
double round_to(double value, int digits);

}  // namespace pith::text::jinja
