// SPDX-License-Identifier: MIT
// batch MODEL FILE: continues every line of a file, as many at a time as fit into a fixed memory for keys and values.
#include <pith/pith.hpp>

#include <exception>
#include <fstream>
#include <iostream>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: batch MODEL FILE\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  pith::Generator generator(model, pith::Tokenizer::load(argv[1]), {.kv_budget = std::size_t{64} << 20});

  std::ifstream file(argv[2]);
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    pith::Request request{.prompt = line, .max_tokens = 32, .sampler = {.temperature = 0}};
    request.on_piece = [text = line](const pith::Piece& piece) mutable {
      text += piece.text;
      if (piece.finish) std::cout << text << (piece.error ? "  [failed]\n" : "\n");
    };
    generator.submit(std::move(request));  // who finds no room waits; a line too long for the context throws here
  }
  generator.run();
} catch (const std::exception& error) {
  std::cerr << "batch: " << error.what() << '\n';
  return 1;
}
