// SPDX-License-Identifier: MIT
// A generator under load for as long as is wished: soak MINUTES [--seed N] [--threads N] [--csv FILE] [--leak]
//
// Requests arrive at random, are cancelled, talk, share beginnings, and compete for a byte budget, so that beginnings,
// conversations and requests give way to each other. Every few seconds arrivals pause until nothing is left. After a
// warm-up resident memory has to stay flat, and at each pause the pool has to be empty and no more pieces of memory may
// be alive than at the first; some requests are asked again alone, and have to be told the same, bit for bit. --leak
// keeps a few bytes of every request, which has to be found. FILE gets what tests/soak/plot.py draws.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pith/prune/spec.hpp"
#include "support/allocations.hpp"
#include "support/heard.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

using Clock = std::chrono::steady_clock;

struct Plan {
  double minutes = 0;
  std::uint64_t seed = 1;
  int threads = 1;
  std::string csv;
  bool leaks = false;
};

std::size_t resident_kib() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) / 1024;
}

struct Sample {
  double seconds = 0;
  std::size_t resident_kib = 0, pool_kib = 0, pending = 0, asked = 0;
};

struct Counts {
  std::size_t asked = 0, cancelled = 0, failed = 0, talks = 0, compared = 0, pauses = 0, tokens = 0, waited = 0;
};

class Soak {
 public:
  explicit Soak(Plan plan)
      : plan_(std::move(plan)),
        random_(plan_.seed),
        model_(random_model(
            {.seed = plan_.seed, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2, .context = 256})),
        options_{.policy = prune::parse("gate,h2o(rows=96,recent=24)"),
                 .kv = KvFormat::f16,
                 .threads = plan_.threads,
                 .chunk = 32} {}

  /// What went wrong; empty: nothing.
  std::string run() {
    if (!plan_.csv.empty()) {
      csv_.open(plan_.csv);
      csv_ << "seconds,resident_kib,pool_kib,pending,asked\n";
    }
    SessionOptions here = options_;
    here.kv_budget = std::size_t{128} << 10;
    Generator generator(model_, std::nullopt, here, 12, {.bytes = std::size_t{48} << 10});
    const auto end = began_ + std::chrono::duration<double>(plan_.minutes * 60);
    while (Clock::now() < end && problem_.empty()) {
      const auto pause = Clock::now() + std::chrono::seconds(3);
      while (Clock::now() < pause && problem_.empty()) turn(generator);
      rest(generator);
    }
    if (problem_.empty()) judge_memory();
    return problem_;
  }

  const Counts& counts() const { return counts_; }
  const std::vector<Sample>& samples() const { return samples_; }

 private:
  /// Some arrivals, some changes of mind, a step.
  void turn(Generator& generator) {
    const std::size_t most = random_.integer(0, 40) == 0 ? 40 : 14;  // at times more than there is room for
    while (generator.pending() < most && random_.integer(0, 2) > 0) arrive(generator);
    if (!waiting_.empty() && random_.integer(0, 9) == 0) {
      generator.cancel(
          waiting_[static_cast<std::size_t>(random_.integer(0, static_cast<int>(waiting_.size()) - 1))].id);
    }
    if (random_.integer(0, 20) == 0) talk(generator);
    generator.step();
    if (generator.session().waiting() > 0) ++counts_.waited;
    settle();
    const double now = std::chrono::duration<double>(Clock::now() - began_).count();
    if (samples_.empty() || now - samples_.back().seconds >= 0.5) sample(generator, now);
  }

  void arrive(Generator& generator) {
    Asked asked{request()};
    Request given = asked.listened();
    if (!talks_.empty() && random_.integer(0, 3) == 0) {
      auto at = talks_.begin();
      std::advance(at, random_.integer(0, static_cast<int>(talks_.size()) - 1));
      given.conversation = at->first;
      try {
        generator.submit(std::move(given));
        ++counts_.asked;
      } catch (const Error& error) {  // it has a request on its way, or no room in the context
        expect(error.code() == ErrorCode::state || error.code() == ErrorCode::argument, error.what());
      }
      return;
    }
    asked.id = generator.submit(std::move(given));
    waiting_.push_back(std::move(asked));
    ++counts_.asked;
    if (plan_.leaks) leaked_.push_back(std::make_unique<char[]>(1024));
  }

  Request request() {
    // A few beginnings, which many share.
    const auto begins = random_tokens(static_cast<std::uint64_t>(random_.integer(1, 5)), model_.config(), 64);
    std::vector<Token> prompt(begins.begin(), begins.begin() + random_.integer(1, 64));
    const int more = random_.integer(0, 60);
    for (int i = 0; i < more; ++i) prompt.push_back(random_.integer(0, model_.config().vocab_size - 1));
    Request all;
    all.prompt = std::move(prompt);
    all.max_tokens = static_cast<std::size_t>(random_.integer(0, 60));
    all.ends = std::vector<Token>{1};
    all.sampler = {.temperature = random_.one_of({0.0f, 1.2f}),
                   .seed = static_cast<std::uint64_t>(random_.integer(0, 1 << 20))};
    if (random_.integer(0, 3) == 0) all.draft = {.tokens = 4};
    if (random_.integer(0, 4) == 0) all.tau = 0.3f;
    return all;
  }

  void talk(Generator& generator) {
    if (talks_.size() < 6) {
      talks_.emplace(generator.open(), 0);
      ++counts_.talks;
      return;
    }
    try {
      generator.close(talks_.begin()->first);
      talks_.erase(talks_.begin());
    } catch (const Error& error) {  // it has a request on its way
      expect(error.code() == ErrorCode::state, error.what());
    }
  }

  /// Looks at those that have ended, and asks some again.
  void settle() {
    std::erase_if(waiting_, [&](const Asked& one) {
      if (!one.heard->finish) return false;
      counts_.tokens += one.heard->tokens.size();
      if (one.heard->finish == Finish::cancelled) ++counts_.cancelled;
      if (one.heard->finish == Finish::error) ++counts_.failed;
      expect(one.heard->after_the_end == 0, "a request ended twice");
      if (counts_.asked % 40 == 0) {
        expect(as_alone(model_, options_, std::span(&one, 1)), "a request was told other than alone");
        ++counts_.compared;
      }
      return true;
    });
  }

  /// Nothing arrives until nothing is left.
  void rest(Generator& generator) {
    generator.run();
    for (const auto& [id, none] : talks_) generator.close(id);
    talks_.clear();
    generator.step();
    settle();
    expect(waiting_.empty(), "a request has not ended");
    const std::size_t used = generator.session().stats().bytes_used, kept = generator.prefixes().bytes;
    expect(used == kept, "at rest the pool holds " + std::to_string(used) + " bytes, of which beginnings are " +
                             std::to_string(kept));
    ++counts_.pauses;
    at_rest_.push_back(allocations.alive);
  }

  void sample(const Generator& generator, double now) {
    const Load load = generator.load();
    samples_.push_back({now, resident_kib(), load.cache.bytes_used / 1024, generator.pending(), counts_.asked});
    const Sample& s = samples_.back();
    if (csv_.is_open())
      csv_ << s.seconds << ',' << s.resident_kib << ',' << s.pool_kib << ',' << s.pending << ',' << s.asked
           << std::endl;
  }

  /// The warm-up is the first third; the first half of what follows says how much is needed.
  void judge_memory() {
    const auto most = [](auto first, auto last, auto&& of) {
      std::size_t out = 0;
      for (; first != last; ++first) out = std::max(out, of(*first));
      return out;
    };
    const auto parts = [&](const auto& all, auto&& of) {
      const auto warm = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 3),
                 middle = warm + (all.end() - warm) / 2;
      return std::pair(most(warm, middle, of), most(middle, all.end(), of));
    };
    expect(at_rest_.size() >= 6, "too short a time to judge memory by");
    if (at_rest_.size() < 6) return;
    const auto [rows, later_rows] = parts(samples_, [](const Sample& s) { return s.resident_kib; });
    expect(later_rows <= rows + rows / 50 + 1024,
           "resident memory grows: at most " + std::to_string(rows) + " KiB, later " + std::to_string(later_rows));
    const auto [alive, later_alive] = parts(at_rest_, [](std::size_t n) { return n; });
    expect(later_alive <= alive + 64,
           "at rest " + std::to_string(alive) + " pieces of memory were alive, later " + std::to_string(later_alive));
  }

  void expect(bool holds, const std::string& otherwise) {
    if (!holds && problem_.empty()) problem_ = otherwise;
  }

  const Plan plan_;
  Random random_;
  const Model model_;
  const SessionOptions options_;
  const Clock::time_point began_ = Clock::now();
  std::ofstream csv_;
  std::vector<Asked> waiting_;
  std::map<ConversationId, int> talks_;
  std::vector<Sample> samples_;
  std::vector<std::size_t> at_rest_;  // pieces of memory alive
  std::vector<std::unique_ptr<char[]>> leaked_;
  Counts counts_;
  std::string problem_;
};

std::optional<Plan> plan_of(int argc, char** argv) {
  Plan plan;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--leak")
      plan.leaks = true;
    else if (word == "--seed" && i + 1 < argc)
      plan.seed = std::strtoull(argv[++i], nullptr, 10);
    else if (word == "--threads" && i + 1 < argc)
      plan.threads = static_cast<int>(std::strtol(argv[++i], nullptr, 10));
    else if (word == "--csv" && i + 1 < argc)
      plan.csv = argv[++i];
    else
      plan.minutes = std::strtod(argv[i], nullptr);
  }
  if (plan.minutes > 0) return plan;
  return std::nullopt;
}

}  // namespace
}  // namespace pith::testing

int main(int argc, char** argv) {
  const auto plan = pith::testing::plan_of(argc, argv);
  if (!plan) {
    std::fprintf(stderr, "usage: %s MINUTES [--seed N] [--threads N] [--csv FILE] [--leak]\n", argv[0]);
    return 2;
  }
  pith::testing::Soak soak(*plan);
  const std::string problem = soak.run();
  const auto& c = soak.counts();
  std::printf(
      "seed %llu: %zu requests, %zu cancelled, %zu failed, %zu conversations, %zu tokens; %zu steps in which some "
      "waited for room; %zu asked again alone; %zu pauses; resident %zu KiB\n",
      static_cast<unsigned long long>(plan->seed), c.asked, c.cancelled, c.failed, c.talks, c.tokens, c.waited,
      c.compared, c.pauses, soak.samples().empty() ? 0 : soak.samples().back().resident_kib);
  if (!problem.empty()) std::fprintf(stderr, "soak: %s\n", problem.c_str());
  return problem.empty() ? 0 : 1;
}
