// SPDX-License-Identifier: MIT
// What each option leaves of the distribution, the generator's known answers, log-probabilities, and what is refused.
#include "pith/sampler.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <set>
#include <vector>

#include "pith/logprobs.hpp"
#include "pith/rng.hpp"
#include "support/files.hpp"

namespace {
std::atomic<std::size_t> allocations = 0;
}

// Every allocation of this program is counted. Not inlined, where g++ would see `new` end in malloc and complain.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace pith {
namespace {

using test::expect_error;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Logits of these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<float> random_logits(std::size_t n, std::uint64_t seed) {
  Pcg32 rng(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = static_cast<float>(12 * rng.uniform() - 6);
  return logits;
}

/// How often each token comes in `draws` draws, as a fraction.
std::map<Token, double> frequencies(const SamplerOptions& options, const std::vector<float>& logits, int draws) {
  Sampler sample(options);
  std::map<Token, double> counts;
  for (int i = 0; i < draws; ++i) counts[sample(logits)] += 1.0 / draws;
  return counts;
}

std::set<Token> support(const SamplerOptions& options, const std::vector<float>& logits) {
  std::set<Token> tokens;
  for (const auto& [token, frequency] : frequencies(options, logits, 20000)) tokens.insert(token);
  return tokens;
}

void expect_frequencies(const std::map<Token, double>& found, const std::vector<double>& wanted, int draws) {
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto at = found.find(static_cast<Token>(i));
    const double deviation = std::sqrt(wanted[i] * (1 - wanted[i]) / draws);
    EXPECT_NEAR(at == found.end() ? 0.0 : at->second, wanted[i], 4 * deviation + 1e-12) << "token " << i;
  }
}

TEST(Pcg32, GivesTheAnswersOfTheReferenceImplementation) {
  Pcg32 rng(42, 54);
  for (const std::uint32_t wanted : {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u, 0x83d2f293u, 0xbfa4784bu, 0xcbed606eu})
    EXPECT_EQ(rng.next(), wanted);
}

TEST(Pcg32, UniformFillsTheUnitInterval) {
  Pcg32 rng(7);
  std::vector<int> bins(16);
  for (int i = 0; i < 16000; ++i) {
    const double x = rng.uniform();
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    ++bins[static_cast<std::size_t>(x * 16)];
  }
  for (const int count : bins) EXPECT_NEAR(count, 1000, 4 * std::sqrt(1000));
}

TEST(Pcg32, StreamsDiffer) { EXPECT_NE(Pcg32(1, 0).next(), Pcg32(1, 1).next()); }

TEST(Sampler, GreedyTakesTheLikeliestAndOfEqualOnesTheFirst) {
  Sampler sample({.temperature = 0});
  EXPECT_EQ(sample(std::vector<float>{0, 3, 1, 3}), 1);
  EXPECT_EQ(sample(std::vector<float>{-5, -infinity, -4}), 2);
  EXPECT_EQ(sample(std::vector<float>{0}), 0);
}

TEST(Sampler, DrawsFromTheDistribution) {
  const std::vector<double> p = {0.5, 0.25, 0.125, 0.0625, 0.0625};
  expect_frequencies(frequencies({.seed = 3}, logits_of(p), 40000), p, 40000);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  const std::vector<double> p = {0.6, 0.3, 0.1};
  for (const double temperature : {0.5, 2.0}) {
    std::vector<double> wanted;
    for (const double x : p) wanted.push_back(std::pow(x, 1 / temperature));
    const double sum = std::accumulate(wanted.begin(), wanted.end(), 0.0);
    for (double& x : wanted) x /= sum;
    expect_frequencies(frequencies({.temperature = static_cast<float>(temperature), .seed = 5}, logits_of(p), 40000),
                       wanted, 40000);
  }
}

TEST(Sampler, TinyTemperatureIsGreedy) {
  EXPECT_EQ(support({.temperature = 1e-38f}, {0, 1, 0.999f}), (std::set<Token>{1}));
}

TEST(Sampler, TopKKeepsTheLikeliest) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_EQ(support({.top_k = 1}, logits), (std::set<Token>{1}));
  EXPECT_EQ(support({.top_k = 3}, logits), (std::set<Token>{1, 2, 3}));
  EXPECT_EQ(support({.top_k = 9}, logits), (std::set<Token>{0, 1, 2, 3}));
  EXPECT_EQ(support({.top_k = 2}, {1, 1, 1, 1}), (std::set<Token>{0, 1}));
}

TEST(Sampler, TopPKeepsTheFewestThatHoldThisProbability) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_EQ(support({.top_p = 0.39f}, logits), (std::set<Token>{1}));
  EXPECT_EQ(support({.top_p = 0.41f}, logits), (std::set<Token>{1, 3}));
  EXPECT_EQ(support({.top_p = 0.85f}, logits), (std::set<Token>{1, 2, 3}));
  EXPECT_EQ(support({.top_p = 0.95f}, logits), (std::set<Token>{0, 1, 2, 3}));
  EXPECT_EQ(support({.top_p = 1e-9f}, logits), (std::set<Token>{1}));
}

TEST(Sampler, TopPMeasuresWhatTopKLeft) {
  // Of {0.4, 0.3} the first holds 0.57.
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_EQ(support({.top_k = 2, .top_p = 0.55f}, logits), (std::set<Token>{1}));
  EXPECT_EQ(support({.top_k = 2, .top_p = 0.6f}, logits), (std::set<Token>{1, 3}));
}

TEST(Sampler, MinPMeasuresAgainstTheLikeliest) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_EQ(support({.min_p = 0.6f}, logits), (std::set<Token>{1, 3}));
  EXPECT_EQ(support({.min_p = 0.4f}, logits), (std::set<Token>{1, 2, 3}));
  EXPECT_EQ(support({.min_p = 1}, logits), (std::set<Token>{1}));
}

TEST(Sampler, TruncationIsOfTheDistributionAtTemperatureOne) {
  const std::vector<float> logits = logits_of({0.7, 0.2, 0.1});
  EXPECT_EQ(support({.temperature = 10, .min_p = 0.25f}, logits), (std::set<Token>{0, 1}));
  EXPECT_EQ(support({.temperature = 10, .top_p = 0.8f}, logits), (std::set<Token>{0, 1}));
}

TEST(Sampler, KeepsItsTruncatedTokensInProportion) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  const std::vector<double> wanted = {0, 4.0 / 9, 2.0 / 9, 3.0 / 9};
  for (const SamplerOptions& options :
       {SamplerOptions{.top_k = 3}, SamplerOptions{.top_p = 0.85f}, SamplerOptions{.min_p = 0.4f}})
    expect_frequencies(frequencies(options, logits, 40000), wanted, 40000);
}

TEST(Sampler, NeverDrawsAForbiddenToken) {
  const std::vector<float> logits = {-infinity, 0, -infinity, 0, -infinity};
  EXPECT_EQ(support({}, logits), (std::set<Token>{1, 3}));
  EXPECT_EQ(support({.top_k = 4}, logits), (std::set<Token>{1, 3}));
  EXPECT_EQ(support({.top_p = 0.9999f}, logits), (std::set<Token>{1, 3}));
  EXPECT_EQ(support({.temperature = 1e30f}, logits), (std::set<Token>{1, 3}));
}

TEST(Sampler, TruncationAgreesWithAFullSort) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> logits = random_logits(300, seed);
    std::vector<Token> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, std::greater<>(), [&](Token t) { return logits[static_cast<std::size_t>(t)]; });
    const int k = 1 + static_cast<int>(seed * 7);
    const std::set<Token> allowed(order.begin(), order.begin() + k);
    Sampler sample({.temperature = 5, .top_k = k, .seed = seed});
    for (int i = 0; i < 500; ++i) EXPECT_TRUE(allowed.contains(sample(logits)));
  }
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits = random_logits(1000, 1);
  const auto draw = [&](Sampler& sample) {
    std::vector<Token> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sample(logits));
    return tokens;
  };
  Sampler a({.seed = 11}), b({.seed = 11}), c({.seed = 12});
  const auto first = draw(a);
  EXPECT_EQ(draw(b), first);
  EXPECT_NE(draw(c), first);
  EXPECT_NE(draw(a), first) << "it goes on";
  a.reset();
  EXPECT_EQ(draw(a), first);
}

TEST(Sampler, DrawsTheseTokensOnEveryPlatform) {
  Sampler sample({.seed = 2023});
  const std::vector<float> even(10, 0.0f);
  Pcg32 rng(2023);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(sample(even), static_cast<Token>(rng.uniform() * 10));
}

TEST(Sampler, PenaltyDividesPositiveAndMultipliesNegativeLogits) {
  Sampler sample({.temperature = 0, .repetition_penalty = 2});
  const std::vector<float> positive = {4, 3, 1};
  EXPECT_EQ(sample(positive), 0);
  sample.accept(0);
  EXPECT_EQ(sample(positive), 1);  // 2 3 1
  sample.accept(0);
  EXPECT_EQ(sample(positive), 1) << "a token is penalised once";
  sample.accept(1);
  EXPECT_EQ(sample(positive), 0);  // 2 1.5 1

  Sampler other({.temperature = 0, .repetition_penalty = 2});
  const std::vector<float> negative = {-1, -1.5f, -3};
  other.accept(std::vector<Token>{0});
  EXPECT_EQ(other(negative), 1);  // -2 -1.5 -3
  other.accept(std::vector<Token>{1, 2});
  EXPECT_EQ(other(negative), 0);  // -2 -3 -6
}

TEST(Sampler, PenaltyLooksBackOverItsWindow) {
  Sampler sample({.temperature = 0, .repetition_penalty = 100, .repetition_window = 2});
  const std::vector<float> logits = {4, 3, 2, 1};
  for (const Token wanted : {0, 1, 2, 0, 1, 2}) {
    const Token token = sample(logits);
    EXPECT_EQ(token, wanted);
    sample.accept(token);
  }
  sample.reset();
  EXPECT_EQ(sample(logits), 0);
}

TEST(Sampler, RewardsRepetitionBelowOne) {
  Sampler sample({.temperature = 0, .repetition_penalty = 0.5f});
  sample.accept(1);
  EXPECT_EQ(sample(std::vector<float>{4, 3}), 1);
}

TEST(Sampler, FrequencyAndPresenceAreTakenFromLogits) {
  const std::vector<float> logits = {4, 3, 2.5f};
  Sampler frequency({.temperature = 0, .frequency_penalty = 0.6f});
  std::vector<Token> chosen;
  for (int i = 0; i < 7; ++i) {
    chosen.push_back(frequency(logits));
    frequency.accept(chosen.back());
  }
  EXPECT_EQ(chosen, (std::vector<Token>{0, 0, 1, 0, 2, 1, 0}));

  Sampler presence({.temperature = 0, .presence_penalty = 1.2f});
  chosen.clear();
  for (int i = 0; i < 4; ++i) {
    chosen.push_back(presence(logits));
    presence.accept(chosen.back());
  }
  EXPECT_EQ(chosen, (std::vector<Token>{0, 1, 0, 0})) << "once is as much as often";

  Sampler both({.temperature = 0, .repetition_penalty = 2, .frequency_penalty = 0.25f, .presence_penalty = 0.25f});
  both.accept(std::vector<Token>{0, 0});
  EXPECT_EQ(both(std::vector<float>{4, 1.2f}), 0);  // 4 / 2 - 2 * 0.25 - 0.25
  EXPECT_EQ(both(std::vector<float>{4, 1.3f}), 1);
  Sampler encouraged({.temperature = 0, .frequency_penalty = -1, .repetition_window = 2});
  encouraged.accept(std::vector<Token>{1, 2, 2});
  EXPECT_EQ(encouraged(std::vector<float>{2, 3, 1.5f}), 2) << "1 has left the window";
}

TEST(Sampler, BiasIsAddedFirst) {
  EXPECT_EQ(support({.top_k = 2, .logit_bias = {{0, 5.0f}, {2, -3.0f}, {2, -3.0f}}}, {0, 1, 2, 3}),
            (std::set<Token>{0, 3}));
  EXPECT_EQ(support({.logit_bias = {{1, -infinity}}}, {1, 1, 1}), (std::set<Token>{0, 2}));
  const std::vector<double> p = {0.5, 0.25, 0.25};
  const float twice = std::log(2.0f);
  expect_frequencies(frequencies({.logit_bias = {{1, twice}}, .seed = 3}, logits_of(p), 40000), {0.4, 0.4, 0.2}, 40000);
}

TEST(Sampler, BannedTokensNeverComeAndOnlyAllowedOnesDo) {
  const std::vector<float> even(6, 0.0f);
  EXPECT_EQ(support({.banned = {0, 5, 5}}, even), (std::set<Token>{1, 2, 3, 4}));
  EXPECT_EQ(support({.allowed = {4, 2}}, even), (std::set<Token>{2, 4}));
  EXPECT_EQ(support({.banned = {2}, .allowed = {4, 2, 0}}, even), (std::set<Token>{0, 4}));
  EXPECT_EQ(support({.logit_bias = {{3, 100.0f}}, .allowed = {4, 2}}, even), (std::set<Token>{2, 4}))
      << "no bias makes up for a ban";
  EXPECT_EQ(support({.temperature = 0, .banned = {1}}, {0, 9, 3}), (std::set<Token>{2}));
  EXPECT_EQ(support({.allowed = {0, 1}}, {-infinity, 0, 5}), (std::set<Token>{1})) << "what the model forbids stays so";
}

TEST(Sampler, RefusesOptionsThatLeaveNoToken) {
  const std::vector<float> logits = {1, 2};
  expect_error(ErrorCode::argument, {"leave a token"}, [&] { Sampler({.banned = {0, 1}})(logits); });
  expect_error(ErrorCode::argument, {"leave a token"}, [&] { Sampler({.banned = {1}, .allowed = {1}})(logits); });
  expect_error(ErrorCode::argument, {"banned", "below 2", "2"}, [&] { Sampler({.banned = {2}})(logits); });
  expect_error(ErrorCode::argument, {"allowed", "below 2", "9"}, [&] { Sampler({.allowed = {9}})(logits); });
  expect_error(ErrorCode::argument, {"logit_bias", "below 2", "2"}, [&] { Sampler({.logit_bias = {{2, 1}}})(logits); });
}

TEST(Sampler, LeavesTheLogitsAlone) {
  Sampler sample({.top_k = 2, .top_p = 0.9f, .repetition_penalty = 2, .logit_bias = {{0, 1}}, .banned = {1}});
  const std::vector<float> logits = {1, 2, 3};
  std::vector<float> given = logits;
  sample.accept(2);
  sample(given);
  EXPECT_EQ(given, logits);
}

TEST(Sampler, AllocatesNothingAfterTheFirstRow) {
  const std::vector<std::vector<float>> rows = {random_logits(5000, 1), std::vector<float>(5000, 0.0f),
                                                random_logits(5000, 2)};
  for (const SamplerOptions& options :
       {SamplerOptions{}, SamplerOptions{.temperature = 0}, SamplerOptions{.top_k = 40}, SamplerOptions{.top_p = 0.95f},
        SamplerOptions{.min_p = 0.05f}, SamplerOptions{.top_k = 40, .top_p = 0.9f, .repetition_penalty = 1.1f},
        SamplerOptions{.frequency_penalty = 0.1f, .logit_bias = {{7, 1.0f}}, .banned = {1, 2}}}) {
    Sampler sample(options);
    sample(rows[0]);
    const std::size_t before = allocations;
    for (int i = 0; i < 300; ++i) sample.accept(sample(rows[static_cast<std::size_t>(i) % rows.size()]));
    EXPECT_EQ(allocations, before);
  }
}

TEST(Sampler, RefusesOptionsOutOfRangeByName) {
  const auto refuses = [](const SamplerOptions& options, const char* name) {
    expect_error(ErrorCode::argument, {name, "expected", "found"}, [&] { Sampler sample(options); });
  };
  for (const float bad : {-0.1f, infinity, not_a_number}) {
    refuses({.temperature = bad}, "temperature");
    refuses({.repetition_penalty = bad}, "repetition_penalty");
    refuses({.top_p = bad}, "top_p");
    refuses({.min_p = bad}, "min_p");
  }
  for (const float bad : {infinity, -infinity, not_a_number}) {
    refuses({.frequency_penalty = bad}, "frequency_penalty");
    refuses({.presence_penalty = bad}, "presence_penalty");
    if (!(bad < 0)) refuses({.logit_bias = {{0, bad}}}, "logit_bias");
  }
  refuses({.logit_bias = {{-1, 0}}}, "logit_bias");
  refuses({.banned = {-1}}, "banned");
  refuses({.allowed = {0, -7}}, "allowed");
  refuses({.repetition_penalty = 0}, "repetition_penalty");
  refuses({.top_p = 0}, "top_p");
  refuses({.top_p = 1.1f}, "top_p");
  refuses({.min_p = 1.1f}, "min_p");
  refuses({.top_k = -1}, "top_k");
  refuses({.repetition_window = -1}, "repetition_window");
}

TEST(Sampler, RefusesWhatIsNoRowOfLogits) {
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sample({.temperature = temperature});
    expect_error(ErrorCode::model, {"logits", "NaN for token 1"}, [&] { sample(std::vector<float>{0, not_a_number}); });
    expect_error(ErrorCode::model, {"logits", "infinity for token 0"}, [&] { sample(std::vector<float>{infinity}); });
    expect_error(ErrorCode::model, {"logits", "-infinity everywhere"}, [&] {
      sample(std::vector<float>{-infinity, -infinity});
    });
    expect_error(ErrorCode::model, {"logits", "none"}, [&] { sample(std::vector<float>{}); });
    EXPECT_EQ(sample(std::vector<float>{-infinity, 0}), 1) << "usable afterwards";
  }
}

TEST(Sampler, RefusesTokensThatAreNone) {
  Sampler sample({.repetition_penalty = 2});
  expect_error(ErrorCode::argument, {"accept", "-1"}, [&] { sample.accept(-1); });
  sample.accept(7);
  expect_error(ErrorCode::argument, {"penalties", "below 3", "7"}, [&] { sample(std::vector<float>{1, 2, 3}); });
}

TEST(Logprobs, AreTheLogarithmsOfASoftmax) {
  const std::vector<double> p = {0.5, 0.2, 0.3};
  std::vector<float> logits = logits_of(p);
  for (float& logit : logits) logit += 80;
  const Logprobs logprobs(logits);
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(logprobs[static_cast<Token>(i)], std::log(p[i]), 1e-5);
}

TEST(Logprobs, HoldLargeAndForbiddenLogits) {
  const std::vector<float> logits = {3e38f, -infinity, -3e38f};
  const Logprobs logprobs(logits);
  EXPECT_EQ(logprobs[0], 0);
  EXPECT_EQ(logprobs[1], -infinity);
}

TEST(Logprobs, TopIsInOrder) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.1, 0.3, 0.1});
  const Logprobs logprobs(logits);
  std::vector<TokenLogprob> top(4);
  ASSERT_EQ(logprobs.top(top).size(), 4u);
  std::vector<Token> tokens;
  for (const TokenLogprob& entry : top) {
    tokens.push_back(entry.token);
    EXPECT_EQ(entry.logprob, logprobs[entry.token]);
  }
  EXPECT_EQ(tokens, (std::vector<Token>{1, 3, 0, 2}));
}

TEST(Logprobs, TopOfASmallVocabularyIsAllOfIt) {
  const std::vector<float> logits = {1, 2};
  std::vector<TokenLogprob> top(5);
  EXPECT_EQ(Logprobs(logits).top(top).size(), 2u);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_TRUE(Logprobs(logits).top({}).empty());
}

TEST(Logprobs, RefuseWhatIsNoRowOfLogitsAndNoToken) {
  const std::vector<float> logits = {1, 2};
  expect_error(ErrorCode::argument, {"token", "from 0 to 1", "2"}, [&] { Logprobs{logits}[2]; });
  expect_error(ErrorCode::argument, {"token", "-1"}, [&] { Logprobs{logits}[-1]; });
  expect_error(ErrorCode::model, {"logits"}, [] { Logprobs(std::vector<float>{not_a_number}); });
}

TEST(Divergence, IsTheMeanOfWhatLogprobsLost) {
  const std::vector<double> p = {0.5, 0.2, 0.3}, q = {0.25, 0.7, 0.05};
  double expected = 0;
  for (std::size_t i = 0; i < p.size(); ++i) expected += p[i] * std::log(p[i] / q[i]);
  std::vector<float> was = logits_of(p);
  for (float& logit : was) logit += 80;
  EXPECT_NEAR(divergence(was, logits_of(q)), expected, 1e-5);
  EXPECT_EQ(divergence(was, was), 0);
}

TEST(Divergence, CountsWhatIsImpossible) {
  const std::vector<float> some = {1, -infinity, 1}, all = {1, 1, 1};
  EXPECT_NEAR(divergence(some, all), std::log(1.5), 1e-6);
  EXPECT_EQ(divergence(all, some), infinity);
  expect_error(ErrorCode::argument, {"3", "2"}, [&] { divergence(all, std::span(all).first(2)); });
}

}  // namespace
}  // namespace pith
