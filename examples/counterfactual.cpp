// SPDX-License-Identifier: MIT
// counterfactual MODEL FILE: did it matter what the model forgot? Reads a text again for each of its tokens, which is
// then kept, and shows which of them would have changed most what the model says next.
#include <pith/logprobs.hpp>
#include <pith/pith.hpp>

#include <algorithm>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

struct Effect {
  double change;  // of the answer, in nats
  std::size_t kept;
  pith::Token said;
};

int main(int argc, char** argv) try {
  if (argc != 3) return std::cerr << "usage: counterfactual MODEL FILE\n", 2;
  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);
  std::ifstream file(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto tokens = tokenizer.encode(text);
  const std::span all(tokens);

  pith::Session session(model);
  std::vector<float> was, is;  // logits after the text
  const auto read = [&](std::vector<float>& logits) {
    while (!session.idle())
      for (const auto& output : session.step()) logits.assign(output.logits.begin(), output.logits.end());
  };
  session.add(tokens);
  read(was);

  std::vector<Effect> effects;
  for (std::size_t j = 0; j + 1 < tokens.size(); ++j) {
    const auto sequence = session.add(all.first(j + 1));
    read(is);
    session.keep(sequence, std::vector{static_cast<pith::Position>(j)});  // before a later token can drop it
    session.prompt(sequence, all.subspan(j + 1));
    read(is);
    session.finish(sequence);
    effects.push_back({pith::divergence(was, is), j, pith::Sampler({.temperature = 0})(is)});
  }
  std::ranges::sort(effects, std::greater(), &Effect::change);
  std::cout << "as it is, it says '" << tokenizer.piece(pith::Sampler({.temperature = 0})(was)) << "'\n";
  for (const auto& [change, kept, said] : std::span(effects).first(std::min<std::size_t>(effects.size(), 10)))
    std::cout << "with token " << kept << ", '" << tokenizer.piece(tokens[kept]) << "', it says '"
              << tokenizer.piece(said) << "' (changed by " << change << " nats)\n";
} catch (const std::exception& error) {
  std::cerr << "counterfactual: " << error.what() << '\n';
  return 1;
}
