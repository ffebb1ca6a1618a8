// SPDX-License-Identifier: MIT
// A sequence as bytes: "pithsess", a version, the size of all; what it can be made again by (the model, the policy, the
// formats), the caller's note, what the sequence was given, its rows lane by lane; a checksum of all that is before.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "session/sequences.hpp"
#include "session/setup.hpp"

namespace pith {

/// `model`: its fingerprint.
std::string save(const Sequence& sequence, const Setup& setup, std::string_view model, std::string_view note);

struct SavedSequence {
  Sequence sequence;
  std::string note;
};

/// `whose`: what messages call the bytes. Throws as Session::restore.
SavedSequence restore(std::span<const std::byte> bytes, const std::string& whose, const Setup& setup,
                      std::string_view model, Sequences& sequences);

}  // namespace pith
