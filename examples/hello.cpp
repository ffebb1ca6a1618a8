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
  pith::Session session(model, {.policy = policy, .kv = pith::KvFormat::f16});
  pith::Sampler sample({.temperature = 0.7f, .top_p = 0.9f, .seed = 1});

  std::map<pith::SequenceId, std::string> texts;
  for (const char* prompt : {"The history of the Alps begins", "One day, a little girl"})
    texts[session.add(tokenizer.encode(prompt))] = prompt;

  while (!session.idle())
    for (const auto& [sequence, logits] : session.step()) {
      const pith::Token token = sample(logits);
      if (tokenizer.is_end(token) || session.length(sequence) == 60) {
        session.finish(sequence);  // its pages go back to the pool
      } else {
        texts[sequence] += tokenizer.piece(token);
        session.push(sequence, token);
      }
    }
  for (const auto& [sequence, text] : texts) std::cout << text << "\n\n";
} catch (const std::exception& error) {
  std::cerr << "hello: " << error.what() << '\n';
  return 1;
}
