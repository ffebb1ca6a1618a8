// SPDX-License-Identifier: MIT
// hello MODEL: two texts continued side by side, in a bounded memory that the model's own gate keeps tidy.
#include <pith/pith.hpp>

#include <exception>
#include <iostream>
#include <map>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: hello MODEL (a Hugging Face directory, or one .gguf)\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);

  using namespace pith::prune;
  const auto bounded = chain(snapkv({.rows = 2048, .window = 32}),  // shorten the prompt once
                             h2o({.rows = 1024, .recent = 256}));   // bound what generation keeps
  const auto policy = model.config().gate ? AnyPolicy(chain(learned_gate(), bounded)) : AnyPolicy(bounded);
  pith::Generator generator(model, tokenizer, {.policy = policy, .kv = pith::KvFormat::f16});

  std::map<pith::RequestId, std::string> texts;
  for (const std::string prompt : {"The history of the Alps begins", "One day, a little girl"}) {
    const auto id =
        generator.submit({.prompt = prompt,
                          .max_tokens = 60,
                          .sampler = {.temperature = 0.7f, .top_p = 0.9f, .seed = 1},
                          .on_piece = [&](const pith::Piece& piece) { texts[piece.request] += piece.text; }});
    texts[id] = prompt;
  }
  generator.run();  // one forward pass for both; the pages of what has ended go back to the pool
  for (const auto& [id, text] : texts) std::cout << text << "\n\n";
} catch (const std::exception& error) {
  std::cerr << "hello: " << error.what() << '\n';
  return 1;
}
