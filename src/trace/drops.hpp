// SPDX-License-Identifier: MIT
// Who dropped what: arrows from tokens to tokens.
#pragma once

#include <cstddef>

#include "pith/trace.hpp"
#include "trace/text.hpp"

namespace pith::trace {

inline constexpr Colour arrow_colours[] = {{179, 38, 30}, {20, 120, 70}, {123, 63, 160},
                                           {170, 100, 0}, {0, 110, 130}, {160, 30, 100}};

/// Whether all that was dropped was so by the gate, that is by a token. A policy makes room, and the token that comes
/// then is only the first not to see what went.
bool tokens_decided(const Trace& trace);

/// Of the token at `from`: up to 60.
Drops drops_of(const Trace& trace, const Text& text, std::size_t from);

/// Of the tokens that dropped most, as many as can be told apart.
Drops greatest_drops(const Trace& trace, const Text& text);

/// Of all tokens, in turns of colour: an arrow to each run of neighbours in a line.
Drops every_drop(const Trace& trace, const Text& text);

}  // namespace pith::trace
