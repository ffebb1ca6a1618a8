// SPDX-License-Identifier: MIT
// What a host application writes: `consumer MODEL_DIRECTORY` continues two texts side by side.
#include <cstddef>
#include <exception>
#include <iostream>

#include <pith/pith.hpp>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: consumer MODEL_DIRECTORY\n";
    return 2;
  }
  constexpr std::size_t longest = 40;  // tokens of a sequence

  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);

  using namespace pith::prune;
  pith::Session session(model, {.policy = chain(learned_gate(),                        // what the model itself unlearns
                                                snapkv({.rows = 2048, .window = 32}),  // shorten the prompt once
                                                h2o({.rows = 1024, .recent = 256})),   // bound what generation keeps
                                .kv = pith::KvFormat::f16});
  pith::Sampler sample({.temperature = 0.7f, .top_p = 0.9f, .seed = 1});

  session.add(tokenizer.encode("The history of the Alps begins"));
  session.add(tokenizer.encode("def quicksort(xs):"));  // ragged batch: no padding, one forward pass for all
  while (!session.idle()) {
    for (const auto& [sequence, logits] : session.step()) {
      const pith::Token token = sample(logits);
      if (tokenizer.is_end(token) || session.length(sequence) == longest) {
        session.finish(sequence);  // its pages go back to the pool
      } else {
        std::cout << tokenizer.piece(token);
        session.push(sequence, token);
      }
    }
  }
  std::cout << '\n';
} catch (const std::exception& error) {
  std::cerr << "consumer: " << error.what() << '\n';
  return 1;
}
