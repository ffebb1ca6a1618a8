// SPDX-License-Identifier: MIT
// What pith bench tells: speeds beside what the machine allows, as JSON or as a table.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "pith/model.hpp"
#include "stand.hpp"

namespace pith::tool {

/// What the machine can do, measured between the repetitions.
struct Yardsticks {
  Samples bytes_read;     // per second
  Samples multiply_adds;  // per second, of 8-bit numbers; empty where that bounds nothing
};

/// Does prefill multiply 8-bit numbers, as it does where all blocks' weights are in blocks?
bool multiplies_bytes(const Model& model);

/// Rows of prefill, then of decoding, as measured.
nlohmann::ordered_json report_rows(const Model& model, const BenchOptions& options, const Yardsticks& machine,
                                   const std::vector<std::unique_ptr<Stand>>& stands);

/// report: {"rows", "config", "system"}
void print_table(const BenchOptions& options, const nlohmann::ordered_json& report);

}  // namespace pith::tool
