// SPDX-License-Identifier: MIT
// Every kernel, for the vocabulary at hand. Included inside a target region, after its words.
#pragma once

// In this order: each may use what is above it.
#include "kernels/vocabulary_check.hpp"
//
#include "kernels/vector_rows.hpp"
//
#include "kernels/elementwise.hpp"
//
#include "kernels/vector_math.hpp"
//
#include "kernels/vector_attention.hpp"
//
#include "kernels/block_parts.hpp"
//
#include "kernels/vector_blocks.hpp"
//
#include "kernels/vector_quants.hpp"
//
#include "kernels/vector_panels.hpp"
