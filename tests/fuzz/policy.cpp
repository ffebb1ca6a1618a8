// SPDX-License-Identifier: MIT
// Any text as a policy: an Error, or a policy that is spelt as what it is, and works on a session or is refused there.
#include <string>

#include "fuzz/choices.hpp"
#include "pith/prune/spec.hpp"
#include "pith/session.hpp"
#include "support/feed.hpp"
#include "support/random_model.hpp"

namespace {

using namespace pith;

void run(const prune::AnyPolicy& policy) {
  static const Model model = testing::random_model({.seed = 3,
                                                    .architecture = Architecture::qwen3,
                                                    .head_dim = 8,
                                                    .n_layers = 2,
                                                    .context = 64,
                                                    .dms = testing::ModelSpec::Dms::yes});
  static const auto tokens = testing::random_tokens(1, model.config(), 40);
  Session session(model, {.policy = policy, .threads = 1, .chunk = 8});
  const SequenceId id = session.add(tokens);
  while (!session.idle()) session.step();
  for (int i = 0; i < 4; ++i) {
    session.push(id, tokens[static_cast<std::size_t>(i)]);
    session.step();
  }
  const CacheStats stats = session.stats(id);
  test::hold(testing::rows_there(model.config(), stats) + stats.dropped_rows == stats.seen_rows,
             "a row is there or was dropped");
  session.finish(id);
  test::hold(session.stats().bytes_used == 0, "the pool is empty at the end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.find("file") != text.npos) return 0;  // whose names would be the fuzzer's
  try {
    const prune::AnyPolicy policy = prune::parse(text);
    const std::string spelt = policy.describe();
    test::hold(prune::parse(spelt).describe() == spelt, "what describes a policy is read as the same");
    prune::looks_back_alone(policy);
    run(policy);
  } catch (const Error&) {
  }
  return 0;
}
