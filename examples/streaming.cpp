// SPDX-License-Identifier: MIT
// streaming MODEL PROMPT: prints text as it comes, up to the first blank line or for ten seconds, and what the model
// thought of each token.
#include <pith/pith.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <stop_token>
#include <thread>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: streaming MODEL PROMPT\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  pith::Generator generator(model, pith::Tokenizer::load(argv[1]));

  // A request to stop is heard between two layers, from whichever thread it comes.
  std::stop_source deadline;
  const std::jthread clock([&](const std::stop_token& done) {
    for (int i = 0; i < 100 && !done.stop_requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    deadline.request_stop();
  });

  std::cout << argv[2];
  const pith::Generation result =
      generator.generate({.prompt = argv[2],
                          .stops = {"\n\n"},
                          .logprobs = 0,
                          .sampler = {.temperature = 0.8f, .top_k = 40, .repetition_penalty = 1.1f},
                          .on_piece = [](const pith::Piece& piece) { std::cout << piece.text << std::flush; }},
                         deadline.get_token());
  double sum = 0;
  for (const float logprob : result.logprobs) sum += logprob;
  std::cout << "\n[" << name(result.finish) << ", log-probability " << sum << "]\n";
} catch (const std::exception& error) {
  std::cerr << "\nstreaming: " << error.what() << '\n';
  return 1;
}
