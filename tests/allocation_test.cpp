// SPDX-License-Identifier: MIT
// Decoding that has found its pace allocates nothing: pages come from the pool, everything else is reused. This
// program counts what goes through operator new.
#include <gtest/gtest.h>

#include "pith/session.hpp"
#include "support/allocations.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

TEST(AllocationTest, IsCounted) {
  const std::size_t before = allocations.made;
  ::operator delete(::operator new(1));  // called by name, so that no compiler may leave it out
  EXPECT_EQ(allocations.made, before + 1);
}

constexpr std::size_t warm_up = 40, counted_steps = 120;  // some of them take new pages

/// Decodes three sequences together and counts the allocations of step() and push() after a warm-up.
std::size_t allocations_of_decoding(const Model& model, const SessionOptions& options, std::size_t prompt = 100) {
  Session session(model, options);
  const auto tokens = random_tokens(1, model.config(), prompt + warm_up + counted_steps);
  std::vector<SequenceId> sequences;
  for (std::size_t i = 0; i < 3; ++i) sequences.push_back(session.add(std::span(tokens).first(prompt - 7 * i)));
  while (!session.idle()) session.step();
  const auto decode = [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      for (const SequenceId sequence : sequences) session.push(sequence, tokens[t]);
      while (!session.idle()) session.step();
    }
  };
  decode(prompt, prompt + warm_up);
  const std::size_t before = allocations.made;
  decode(prompt + warm_up, tokens.size());
  return allocations.made - before;
}

TEST(AllocationTest, OfSteadyDecodingIsNone) {
  for (const Format weights : {Format::f32, Format::q8_0}) {
    const Model model = random_model({.seed = 2, .format = weights, .head_dim = 32, .n_layers = 2, .context = 512});
    SCOPED_TRACE(describe(model));
    for (const PolicyCase& one : policy_cases(model.config())) {
      for (const int threads : {1, 2}) {
        for (const KvFormat kv : {KvFormat::f32, KvFormat::q8_0}) {
          SCOPED_TRACE(one.name + ", cache in " + std::string(name(kv)) + ", threads: " + std::to_string(threads));
          EXPECT_EQ(allocations_of_decoding(model, {.policy = one.policy, .kv = kv, .threads = threads}), 0u);
        }
      }
    }
  }
}

TEST(AllocationTest, OfSteadyDecodingIsNoneInEveryArchitecture) {
  for (const auto architecture : architectures()) {
    const Model model = random_model({.seed = 3, .architecture = architecture, .context = 512});
    SCOPED_TRACE(describe(model));
    EXPECT_EQ(allocations_of_decoding(model, {.threads = 1}), 0u);
  }
}

// Past the length at which several tasks share the attention of one query.
TEST(AllocationTest, OfSteadyDecodingIsNoneHoweverLongTheContext) {
  const Model model = random_model({.seed = 4, .head_dim = 8, .n_layers = 1, .context = 1024});
  SCOPED_TRACE(describe(model));
  EXPECT_EQ(allocations_of_decoding(model, {.policy = prune::none(), .threads = 1}, 440), 0u);
}

}  // namespace
}  // namespace pith::testing
