// SPDX-License-Identifier: MIT
// session MODEL PROMPT: three continuations of one prompt that is read once. The floor below Generator: who drives a
// session gets logits, and says what comes next.
#include <pith/pith.hpp>

#include <exception>
#include <iostream>
#include <map>
#include <string>

struct Branch {
  pith::Sampler sample;
  pith::TextStream stream;
  std::string text = {};
};

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: session MODEL PROMPT\n";
    return 2;
  }
  constexpr std::size_t new_tokens = 40;
  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);
  const auto prompt = tokenizer.encode(argv[2]);

  pith::Session session(model);
  const auto origin = session.add(prompt);
  std::map<pith::SequenceId, Branch> branches;
  const auto take = [&](pith::SequenceId id, std::span<const float> logits) {
    Branch& branch = branches.at(id);
    const pith::Token token = branch.sample(logits);
    branch.text += branch.stream.push(token);
    if (tokenizer.is_end(token) || session.length(id) == prompt.size() + new_tokens)
      session.finish(id);  // its pages go back to the pool
    else
      session.push(id, token);
  };

  const auto logits = session.step().front().logits;
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    const auto id = seed == 1 ? origin : session.fork(origin);  // the same past, for the price of copying its rows
    branches.emplace(id, Branch{pith::Sampler({.temperature = 0.8f, .seed = seed}), pith::TextStream(tokenizer)});
  }
  for (const auto& [id, branch] : branches) take(id, logits);
  while (!session.idle())
    for (const auto& [id, row] : session.step()) take(id, row);
  for (const auto& [id, branch] : branches) std::cout << argv[2] << branch.text << "\n\n";
} catch (const std::exception& error) {
  std::cerr << "session: " << error.what() << '\n';
  return 1;
}
