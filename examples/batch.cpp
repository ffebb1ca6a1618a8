// SPDX-License-Identifier: MIT
// batch MODEL FILE: continues every line of a file, as many at a time as fit into a fixed memory for keys and values.
#include <pith/pith.hpp>

#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: batch MODEL FILE\n";
    return 2;
  }
  constexpr std::size_t at_once = 8, new_tokens = 32;

  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);
  pith::Session session(model, {.kv_budget = std::size_t{64} << 20});
  pith::Sampler sample({.temperature = 0});

  struct Line {
    std::string text;
    pith::TextStream stream;
    std::size_t left = new_tokens;
  };
  std::map<pith::SequenceId, Line> active;
  std::ifstream file(argv[2]);
  const auto start_next = [&] {
    std::string text;
    if (!std::getline(file, text) || text.empty()) return false;
    const auto tokens = tokenizer.encode(text);
    pith::TextStream stream(tokenizer);
    for (const auto token : tokens) stream.push(token);  // what is generated goes on from there
    active.emplace(session.add(tokens), Line{text, stream});
    return true;
  };

  while (active.size() < at_once && start_next()) {
  }
  while (!session.idle())
    for (const auto& [sequence, logits] : session.step()) {
      Line& line = active.at(sequence);
      const pith::Token token = sample(logits);
      line.text += line.stream.push(token);
      if (!tokenizer.is_end(token) && --line.left > 0) {
        session.push(sequence, token);
        continue;
      }
      std::cout << line.text << '\n';
      session.finish(sequence);
      active.erase(sequence);
      start_next();
    }
} catch (const std::exception& error) {
  std::cerr << "batch: " << error.what() << '\n';
  return 1;
}
