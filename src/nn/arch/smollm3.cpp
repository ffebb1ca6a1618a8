// SPDX-License-Identifier: MIT
// SmolLM 3: Llama's layers, of which every fourth turns neither queries nor keys.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

constexpr int usual_interval = 4;

void leave_out_rope(int interval, Config& c) {
  for (int i = 0; i < c.n_layers(); ++i) c.layers[static_cast<std::size_t>(i)].rope = (i + 1) % interval == 0 ? -1 : 0;
}

void read(const Keys& keys, Config& c) {
  read_sizes(keys, {.context = 32768, .n_kv_heads = 4, .tied_head = true}, read_llama_plan(keys), c);
  read_rope(keys, c, Rotary::whole, 2e6);
  // A list says of each layer whether it has RoPE: the key is named for what a 0 means.
  const auto with_rope = keys.tokens("no_rope_layers");
  leave_out_rope(keys.count_or("no_rope_layer_interval", most_layers, usual_interval), c);
  if (keys.find("no_rope_layers") != nullptr && with_rope.size() != c.layers.size())
    keys.refuse("no_rope_layers", "a list of " + std::to_string(c.layers.size()) + " numbers, one for each layer");
  for (std::size_t i = 0; i < with_rope.size(); ++i) c.layers[i].rope = with_rope[i] != 0 ? 0 : -1;

  const int window = keys.flag("use_sliding_window", false) ? keys.count_or("sliding_window", most_positions, 0) : 0;
  for (LayerPlan& layer : c.layers) layer.window = layer.rope < 0 ? window : 0;
  read_layer_types(keys, window, c);
}

void read_gguf(const GgufKeys& keys, Config& c) {
  read_gguf_sizes(keys, rms_epsilon, with_gguf_biases(keys, {}), c);
  read_gguf_rope(keys, c);
  leave_out_rope(usual_interval, c);  // no key says which
}

}  // namespace

extern const Family smollm3;
constinit const Family smollm3 = {.architecture = Architecture::smollm3,
                                  .model_type = "smollm3",
                                  .gguf = "smollm3",
                                  .prefix = "model.",
                                  .read = read,
                                  .read_gguf = read_gguf,
                                  .write_gguf = write_gguf_usual,
                                  .gguf_pairs = RopePairs::adjacent};

}  // namespace pith::inline nn
