// SPDX-License-Identifier: MIT
// What a host application writes: `consumer MODEL_DIRECTORY` continues two texts side by side.
#include <exception>
#include <iostream>

#include <pith/pith.hpp>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: consumer MODEL_DIRECTORY\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);

  using namespace pith::prune;
  pith::Generator generator(model, tokenizer,
                            {.policy = chain(learned_gate(),                        // what the model itself unlearns
                                             snapkv({.rows = 2048, .window = 32}),  // shorten the prompt once
                                             h2o({.rows = 1024, .recent = 256})),   // bound what generation keeps
                             .kv = pith::KvFormat::f16});
  int ended = 0;
  for (const char* prompt : {"The history of the Alps begins", "def quicksort(xs):"})
    generator.submit({.prompt = prompt,
                      .max_tokens = 40,
                      .sampler = {.temperature = 0.7f, .top_p = 0.9f, .seed = 1},
                      .on_piece = [&](const pith::Piece& piece) {
                        std::cout << piece.text;
                        if (piece.finish && !piece.error) ++ended;
                      }});
  generator.run();
  std::cout << '\n';
  return ended == 2 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "consumer: " << error.what() << '\n';
  return 1;
}
