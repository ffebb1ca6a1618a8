// SPDX-License-Identifier: MIT
// custom_policy MODEL FILE: a new idea of what a token is worth, beside H2O with the same memory. The idea is a struct
// of two functions; the rest of the policy is put together from parts.
#include <pith/logprobs.hpp>
#include <pith/pith.hpp>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

using namespace pith::prune;

/// Attention received per query that could have given some: H2O's sum favours what has been there for long.
struct MeanAttention {
  Needs needs() const { return {.evidence = pith::column::mass}; }
  void score(const pith::KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
    const pith::Lane& lane = layer.lanes()[l];
    const pith::Slot mass = lane.slot(pith::column::mass);
    for (std::size_t row = 0; row < lane.rows(); ++row)
      out[row] = lane.evidence(mass, row) / static_cast<float>(moment.next - lane.born(row));
  }
};

double perplexity(const pith::Model& model, const std::vector<pith::Token>& tokens, AnyPolicy policy) {
  pith::Session session(model, {.policy = std::move(policy), .chunk = 1});
  session.add(tokens, pith::Logits::all);
  double nll = 0;
  std::size_t next = 1;
  while (!session.idle())
    for (const auto& [sequence, logits] : session.step())
      if (next < tokens.size()) nll -= pith::Logprobs(logits)[tokens[next++]];
  return std::exp(nll / static_cast<double>(tokens.size() - 1));
}

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: custom_policy MODEL FILE\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  std::ifstream file(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  auto tokens = pith::Tokenizer::load(argv[1]).encode(text);
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(model.config().context)));

  std::cout << "all kept        " << perplexity(model, tokens, none()) << '\n'
            << "h2o, 64 rows    " << perplexity(model, tokens, h2o({.rows = 64, .recent = 16})) << '\n'
            << "mean, 64 rows   " << perplexity(model, tokens, per_head(Evict{MeanAttention{}, Rows{64}, Recent{16}}))
            << '\n';
} catch (const std::exception& error) {
  std::cerr << "custom_policy: " << error.what() << '\n';
  return 1;
}
