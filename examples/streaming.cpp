// SPDX-License-Identifier: MIT
// streaming MODEL PROMPT: prints text as it comes, up to the first blank line or for ten seconds, and what the model
// thought of each token.
#include <pith/logprobs.hpp>
#include <pith/pith.hpp>
#include <pith/stop_sequences.hpp>

#include <chrono>
#include <iostream>
#include <stop_token>
#include <thread>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: streaming MODEL PROMPT\n";
    return 2;
  }
  const auto model = pith::Model::load(argv[1]);
  const auto tokenizer = pith::Tokenizer::load(argv[1]);
  const auto prompt = tokenizer.encode(argv[2]);
  const auto context = static_cast<std::size_t>(model.config().context);

  pith::Session session(model);
  pith::Sampler sample({.temperature = 0.8f, .top_k = 40, .repetition_penalty = 1.1f});
  pith::TextStream stream(tokenizer);
  pith::StopSequences stops({"\n\n"});
  double logprob = 0;

  // A request to stop is heard between two layers, from whichever thread it comes.
  std::stop_source deadline;
  const std::jthread clock([&](const std::stop_token& done) {
    for (int i = 0; i < 100 && !done.stop_requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    deadline.request_stop();
  });

  const auto sequence = session.add(prompt);
  sample.accept(prompt);
  for (const auto token : prompt) std::cout << stream.push(token);
  while (!session.idle()) {
    const auto logits = session.step(deadline.get_token()).front().logits;
    const pith::Token token = sample(logits);
    logprob += pith::Logprobs(logits)[token];
    if (tokenizer.is_end(token) || session.length(sequence) == context) break;
    std::cout << stops.push(stream.push(token)) << std::flush;
    if (stops.stopped()) break;
    sample.accept(token);
    session.push(sequence, token);
  }
  std::cout << stops.flush() << "\n[log-probability " << logprob << "]\n";
} catch (const pith::Error& error) {
  std::cerr << "\nstreaming: " << error.what() << '\n';
  return error.code() == pith::ErrorCode::cancelled ? 0 : 1;
}
