// SPDX-License-Identifier: MIT
// From what a model's files say of it to a Config.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "files/gguf.hpp"
#include "files/gguf_writer.hpp"
#include "files/json.hpp"
#include "pith/nn/config.hpp"

namespace pith::inline nn {

/// Where the config.json of a model of text and more has what is said of the text; that alone is read.
inline constexpr const char* text_config = "text_config";

/// config.json; `where` names it in errors. Its drop_gate is left to read_drop_gate.
/// Throws Error (model) naming the key, or (unsupported) naming what this library does not do.
Config read_config(const nlohmann::json& config, std::string_view where);

/// generation_config.json: adds the end tokens it names, and bos where config.json has none.
void read_generation_config(const nlohmann::json& generation, std::string_view where, Config& config);

/// A GGUF's metadata and the names and shapes of its tensors. The frequency divisors of a tensor rope_freqs.weight are
/// left to who can read tensors.
Config read_config(const gguf::File& file);

/// What read_config(gguf::File) reads, but for special tokens, which are the tokenizer's to write, and the frequency
/// divisors. Throws Error (unsupported), `where` naming the model, for what a GGUF of its architecture cannot say.
void write_config(const Config& config, gguf::Writer& writer, std::string_view where);

/// The object "drop_gate" of a checkpoint; `dim` is 0 where it does not say.
DropGateConfig read_drop_gate(const nlohmann::json& gate, std::string_view where);

}  // namespace pith::inline nn
