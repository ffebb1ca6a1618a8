// SPDX-License-Identifier: MIT
// What tells one model from another.
#pragma once

#include <string>

#include "pith/model.hpp"

namespace pith {

/// "llama of 30 layers, 0123456789abcdef": the number is of all that a model computes by (its config, its vectors) and,
/// of every matrix, its shape, its format and 512 bytes spread over it. So it takes a moment for a model of any size,
/// and models differ in it that were trained, quantised or gated otherwise; not those of which a few numbers were
/// changed by hand.
std::string fingerprint(const Model& model);

}  // namespace pith
