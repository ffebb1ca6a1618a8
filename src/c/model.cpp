// SPDX-License-Identifier: MIT
#include "pith/model.hpp"

#include <memory>

#include "c/call.hpp"
#include "c/handles.hpp"

namespace pith::c {

template <>
pith_load_options defaults() {
  return {.size = sizeof(pith_load_options), .gates = nullptr};
}

}  // namespace pith::c

using namespace pith::c;

pith_status pith_load_options_init(pith_load_options* options, size_t size) { return init(__func__, options, size); }

pith_status pith_model_load(const char* path, const pith_load_options* options, pith_model** model) {
  return call(__func__, [&](const Given& given) {
    given(path, "path");
    given(model, "model");
    const auto chosen = received(given, options, "options");
    pith::LoadOptions how;
    if (chosen.gates != nullptr) how.gates = chosen.gates;
    const auto loaded = pith::Model::load(path, how);
    const pith::Config& config = loaded.config();
    auto handle = std::make_unique<pith_model>(pith_model{loaded, std::string(name(config.architecture)), {}});
    handle->info = {.size = sizeof(pith_model_info),
                    .architecture = handle->architecture.c_str(),
                    .vocab_size = config.vocab_size,
                    .d_model = config.d_model,
                    .layers = config.n_layers(),
                    .heads = config.n_heads,
                    .kv_heads = config.n_kv_heads,
                    .context = config.context,
                    .gates = config.gate.has_value(),
                    .parameters = loaded.parameters(),
                    .bytes = loaded.bytes()};
    *model = handle.release();
  });
}

void pith_model_free(pith_model* model) { delete model; }

pith_status pith_model_describe(const pith_model* model, const pith_model_info** info) {
  return call(__func__, [&](const Given& given) { given(info, "info") = &given(model, "model").info; });
}
