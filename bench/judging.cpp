// SPDX-License-Identifier: MIT
// What policies cost at each decoded token, by turns in one process: a session for each on the same random model, all
// with as long a context, decode 64 tokens at a time, one session after the other, so that a busy or slow
// minute falls on all of them. A turn's time is compared with the first policy's in the same round: a window, say,
// which keeps as many rows as the others and judges none.
//   bench_judging 4096 12 "streaming(sinks=4,recent=4124)" "tova(rows=4096,slack=64)" …     depth, rounds, policies
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "pith/pith.hpp"
#include "pith/prune/spec.hpp"

namespace {

using namespace pith;

constexpr int turn = 64;  // tokens, so that a policy with slack=64 cuts once

class Stand {
 public:
  Stand(const Model& model, const std::string& policy, std::size_t depth, std::size_t tokens)
      : session_(model,
                 {.policy = prune::parse(policy), .kv = KvFormat::f16, .context = static_cast<int>(depth + tokens)}) {
    std::vector<Token> prompt(depth);
    for (Token& token : prompt) token = some();
    sequence_ = session_.add(prompt, Logits::none);
    finish();
  }

  /// Milliseconds a token.
  double decode() {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < turn; ++i) {
      session_.push(sequence_, some());
      finish();
    }
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count() / turn;
  }

 private:
  Token some() { return static_cast<Token>(engine_() % 30000); }
  void finish() {
    while (!session_.idle()) session_.step();
  }

  std::mt19937 engine_{1};
  Session session_;
  SequenceId sequence_{};
};

double median(std::vector<double> numbers) {
  std::ranges::sort(numbers);
  return (numbers[(numbers.size() - 1) / 2] + numbers[numbers.size() / 2]) / 2;
}

void run(std::size_t depth, std::size_t rounds, const std::vector<std::string>& policies) {
  const Model model = synthetic_model("smollm2-135m", {.format = Format::q8_0, .context = 1 << 20});
  std::vector<std::unique_ptr<Stand>> stands;
  for (const std::string& policy : policies)
    stands.push_back(std::make_unique<Stand>(model, policy, depth, (rounds + 1) * turn));
  for (const auto& stand : stands) stand->decode();  // what is taken once: memory
  std::vector<std::vector<double>> times(policies.size());
  for (std::size_t round = 0; round < rounds; ++round)
    for (std::size_t p = 0; p < policies.size(); ++p) times[p].push_back(stands[p]->decode());
  std::printf("%-48s %9s %9s %18s\n", "policy", "ms/token", "ratio", "(min, max)");
  for (std::size_t p = 0; p < policies.size(); ++p) {
    std::vector<double> ratios;
    std::ranges::transform(times[p], times[0], std::back_inserter(ratios), std::divides<>());
    const auto [least, most] = std::ranges::minmax_element(ratios);
    std::printf("%-48s %9.2f %9.3f    (%.3f, %.3f)\n", policies[p].c_str(), median(times[p]), median(ratios), *least,
                *most);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() < 3) throw std::invalid_argument("usage: bench_judging DEPTH ROUNDS POLICY…");
    const std::size_t depth = std::stoul(arguments[0]), rounds = std::stoul(arguments[1]);
    if (depth == 0 || rounds == 0) throw std::invalid_argument("DEPTH and ROUNDS are at least 1");
    run(depth, rounds, {arguments.begin() + 2, arguments.end()});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_judging: %s\n", error.what());
    return 1;
  }
}
