// SPDX-License-Identifier: MIT
// Chooses the next token from logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pith/api.hpp"
#include "pith/logprobs.hpp"
#include "pith/rng.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

struct TokenBias {
  Token token = 0;
  float bias = 0;  // added to its logit; -infinity forbids it
};

/// The defaults draw from the model's own distribution. First act allowed, logit_bias and banned, then the penalties,
/// then top_k, top_p and min_p on what they leave, then the temperature.
struct SamplerOptions {
  float temperature = 1;  // 0 = the likeliest token, of equal ones the lowest id
  int top_k = 0;          // keep the k likeliest; 0 = all
  float top_p = 1;        // (0, 1]: keep the likeliest until they hold this probability (arXiv 1904.09751)
  float min_p = 0;        // [0, 1]: keep those at least min_p times as likely as the likeliest (arXiv 2407.01082)
  /// > 0; 1 = none; divides the positive logits of recent tokens and multiplies the negative ones (CTRL, Keskar et al.,
  /// arXiv 1909.05858, section 4.1).
  float repetition_penalty = 1;
  float frequency_penalty = 0;             // taken from a logit for each time that its token is a recent one,
  float presence_penalty = 0;              // and once where it is at all (the OpenAI API's; negative ones encourage)
  int repetition_window = 64;              // how many of the tokens last accepted are recent
  std::vector<TokenBias> logit_bias = {};  // several of one token add up
  std::vector<Token> banned = {};          // never chosen
  std::vector<Token> allowed = {};         // if there are any, no other is chosen
  std::uint64_t seed = 0;                  // the same seed, options and logits give the same tokens
};

/// Allocates nothing once it has seen a row of logits. Not thread-safe.
class PITH_API Sampler {
 public:
  /// Throws Error (argument), naming the option that is out of range.
  explicit Sampler(SamplerOptions options = {});

  /// The next token, given logits [vocab_size]; -infinity forbids a token.
  /// Throws Error (model) for NaN, +infinity, or a row without a finite number; Error (argument) where the options name
  /// tokens beyond it, or leave none.
  Token operator()(std::span<const float> logits);

  /// Tokens of the sequence so far, prompt and choices, for the penalties. It belongs to one sequence: those
  /// that are penalised need a sampler each.
  void accept(Token token);
  void accept(std::span<const Token> tokens);

  /// Forgets what was accepted and starts the random numbers afresh.
  void reset();

  const SamplerOptions& options() const { return options_; }

 private:
  std::span<const float> shaped(std::span<const float> logits);
  float& logit(Token token, const char* option);
  void penalise();
  void gather(std::span<const float> logits);
  void keep_top_p(float largest);
  void keep_min_p(float largest);
  Token draw(float largest);

  SamplerOptions options_;
  Pcg32 rng_;
  std::vector<Token> history_;            // the last repetition_window tokens, a ring
  std::size_t oldest_ = 0;                // in history_, once that is full
  std::vector<Token> recent_;             // history_ sorted
  std::vector<float> logits_;             // [vocab_size], shaped
  std::vector<TokenLogprob> candidates_;  // [at most vocab_size], logits
  std::vector<double> weights_;           // [candidates_], e^(logit / temperature) up to a factor
};

}  // namespace pith
