// SPDX-License-Identifier: MIT
// Any bytes as gates for a model: its drop gates in a sidecar, gates on a token's state, scores of heads. An Error, or
// a policy that a session can be driven with.
#include "fuzz/choices.hpp"
#include "fuzz/scratch_file.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/protect.hpp"
#include "pith/prune/worth.hpp"
#include "pith/quantize.hpp"
#include "pith/session.hpp"
#include "support/feed.hpp"
#include "support/random_model.hpp"

namespace {

using namespace pith;

void run(const Model& model, const prune::AnyPolicy& policy) {
  Session session(model, {.policy = policy, .threads = 1, .chunk = 8});
  const SequenceId id = session.add(testing::random_tokens(1, model.config(), 20));
  while (!session.idle()) session.step();
  session.push(id, 1);
  session.step();
  const CacheStats stats = session.stats(id);
  test::hold(testing::rows_there(model.config(), stats) + stats.dropped_rows == stats.seen_rows,
             "a row is there or was dropped");
}

template <class F>
void attempt(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const test::ScratchFile base(".gguf"), scratch(".safetensors");
  static const Model model = testing::random_model({.seed = 5,
                                                    .architecture = Architecture::llama,
                                                    .head_dim = 4,
                                                    .n_layers = 2,
                                                    .context = 64,
                                                    .gate = testing::ModelSpec::Gate::no});
  [[maybe_unused]] static const Quantized written = quantize(model, base.path(), {.format = Format::f32, .threads = 1});
  const auto& file = scratch.holding(data, size);
  attempt([&] { run(Model::load(base.path(), {.gates = file}), prune::learned_gate()); });
  attempt([&] { run(model, prune::worth_gate(prune::WorthGates::read(file), {.threshold = 0, .window = 3})); });
  attempt([&] { run(model, prune::duo(prune::HeadScores::read(file), {.share = 0.5f}, {.sinks = 1, .recent = 6})); });
  return 0;
}
