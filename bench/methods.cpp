// SPDX-License-Identifier: MIT
// bench_methods PLAN OUT [speed SECONDS]: what each method makes of the prompts of a plan, which bench/methods.py
// writes. A line of OUT, in JSON, is one method on one document; lines that are there are not made again, so that a run
// that was stopped goes on.
//
// A document is read once for all methods that act at a prompt's end: what comes before the tail of its prompts is the
// same for all of them. A method then reads a tail, forgets, and is asked several things, each of a fork.
// With `speed`: prefill and decoding of the first document, each method in a session of its own.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pith/logprobs.hpp"
#include "pith/pith.hpp"
#include "pith/prune/spec.hpp"
#include "pith/tensor/kv_format.hpp"

namespace {

using namespace pith;
using Json = nlohmann::ordered_json;
using Key = std::tuple<std::size_t, std::string, double>;  // document, method, share kept

/// What follows a prompt. Its first token is predicted before anything is forgotten, and never counts.
struct Ask {
  std::string task;
  std::vector<Token> ids;
  std::vector<std::pair<std::size_t, std::size_t>> answers;  // [first, last) of the tokens that count together

  static Ask of(const Json& json) { return {json["task"], json["ids"], json["answers"]}; }
  bool is_text() const { return task == "text"; }
};

struct Prompt {
  std::vector<Token> tail;
  std::vector<Ask> asks;
};

struct Document {
  std::vector<Token> prefix;
  std::vector<Prompt> prompts;

  explicit Document(const Json& json) : prefix(json["prefix"]) {
    for (const Json& one : json["prompts"]) {
      Prompt& prompt = prompts.emplace_back();
      prompt.tail = one["tail"].get<std::vector<Token>>();
      for (const Json& ask : one["asks"]) prompt.asks.push_back(Ask::of(ask));
    }
  }
  std::vector<Token> whole(const Prompt& prompt) const {
    std::vector<Token> all = prefix;
    all.insert(all.end(), prompt.tail.begin(), prompt.tail.end());
    return all;
  }
};

/// Worth that means nothing: what a method must be better than.
struct Lottery {
  prune::Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const prune::Moment&, std::span<float> out) const {
    for (std::size_t row = 0; row < out.size(); ++row) {
      std::uint64_t x = (std::uint64_t{layer.layer()} << 40) + (std::uint64_t{lane} << 32) +
                        static_cast<std::uint64_t>(layer.lanes()[lane].born(row));
      for (int round = 0; round < 2; ++round) x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15U;
      out[row] = static_cast<float>(x >> 40);
    }
  }
};

/// How a method reads a prompt.
enum class Moment : std::uint8_t {
  end,    // as the dense model does; it acts at the end
  pass,   // it acts on the way
  whole,  // tokens leave between layers: a prompt is read in one piece
};

struct Trial {
  std::string name;
  double keep = 1;
  std::string spec;
  Moment moment = Moment::end;
  prune::AnyPolicy policy = {};
  std::optional<Replay> replay = {};

  explicit Trial(const Json& json) : name(json["name"]), keep(json["keep"]), spec(json["policy"]) {
    const std::string acts = json["acts"];
    moment = acts == "end" ? Moment::end : acts == "pass" ? Moment::pass : Moment::whole;
    if (json.contains("replay")) {
      const Json& how = json["replay"];
      replay = Replay{.share = how["share"], .all = how["all"], .part = how["part"], .answer = {}};
    } else if (json.contains("random")) {
      const Json& how = json["random"];
      policy =
          prune::on_prefill(prune::per_head(prune::Evict{Lottery{}, prune::Rows{how["rows"].get<std::size_t>()},
                                                         prune::Both{prune::Sinks{4}, prune::Recent{how["recent"]}}}));
    } else {
      policy = prune::parse(spec);
    }
  }
};

/// Policies of one session by turns. While the beginning of a document is read, those that learn from queries watch,
/// and none acts; then one is chosen.
class ByTurns {
 public:
  explicit ByTurns(const std::vector<const Trial*>& trials) {
    std::set<std::string> names;
    for (const Trial* const trial : trials) {
      now_->needs = now_->needs | trial->policy.needs();
      if (trial->replay) now_->needs.lane_per_head = true;
      // What they learn does not depend on how much is to be kept, and stands with the lane once.
      if (names.insert(trial->name).second) now_->watching.push_back(trial->policy);
    }
  }
  void choose(const prune::AnyPolicy& one) const {
    now_->watching = {one};
    now_->acting = one;
  }

  prune::Needs needs() const { return now_->needs; }
  void before_attention(const KvLayer& layer, const prune::Moment& moment) const {
    for (const prune::AnyPolicy& one : now_->watching) one.before_attention(layer, moment);
  }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    now_->acting.after_attention(layer, moment);
  }
  void after_pass(std::span<const prune::LayerMoment> layers) const { now_->acting.after_pass(layers); }

 private:
  struct Now {
    prune::Needs needs;
    std::vector<prune::AnyPolicy> watching;
    prune::AnyPolicy acting;
  };
  std::shared_ptr<Now> now_ = std::make_shared<Now>();
};

void run(Session& session) {
  while (!session.idle()) session.step();
}

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

/// What is said to an ask, token by token.
class Asked {
 public:
  explicit Asked(const Ask& ask) : ask_(&ask), nats_(ask.ids.size()), hit_(ask.ids.size()) {}

  /// Logits of the next token. `dense`: those of the dense model, one after another, where the ask is a text.
  void take(std::span<const float> logits, bool is_dense, std::vector<float>& dense) {
    const Token token = ask_->ids[at_];
    nats_[at_] = -Logprobs(logits)[token];
    hit_[at_] = likeliest(logits) == token;
    if (ask_->is_text() && is_dense) dense.insert(dense.end(), logits.begin(), logits.end());
    if (ask_->is_text() && !is_dense)
      divergences_ += divergence(std::span(dense).subspan((at_ - 1) * logits.size(), logits.size()), logits);
    ++at_;
  }

  /// Of text: nats a token and the divergence from the dense model; of answers: which are right, all their tokens the
  /// likeliest, and the nats of each.
  Json result() const {
    Json result = {{"task", ask_->task}};
    if (ask_->is_text()) {
      const auto tokens = static_cast<double>(at_ - 1);
      result["nll"] = std::accumulate(nats_.begin(), nats_.end(), 0.0) / tokens;
      result["kl"] = divergences_ / tokens;
      return result;
    }
    result["right"] = Json::array();
    result["nats"] = Json::array();
    for (const auto& [first, last] : ask_->answers) {
      double sum = 0;
      bool right = true;
      for (std::size_t i = first; i < last; ++i) {
        sum += nats_[i];
        right = right && hit_[i];
      }
      result["right"].push_back(right ? 1 : 0);
      result["nats"].push_back(std::round(sum * 1000) / 1000);
    }
    return result;
  }

 private:
  const Ask* ask_;
  std::size_t at_ = 1;  // the first token does not count
  std::vector<double> nats_;
  std::vector<bool> hit_;
  double divergences_ = 0;
};

class Bench {
 public:
  explicit Bench(const Json& plan)
      : model_(Model::load(std::string(plan["model"]), options_of(plan))),
        kv_(kv_pair_named(std::string(plan["kv"])).value()),
        threads_(plan["threads"].get<int>()) {}

  Session session(const prune::AnyPolicy& policy) const {
    return Session(model_, {.policy = policy, .kv = kv_, .threads = threads_});
  }

  /// All trials on one document, found(trial, what came of it).
  template <class F>
  void measure(const Document& document, std::span<const Trial> trials, F&& found) {
    dense_.clear();
    // By the window that they observe; apart from those whose evidence every token adds to, which takes time.
    std::map<std::pair<bool, int>, std::vector<const Trial*>> together;
    std::vector<const Trial*> apart;
    for (const Trial& trial : trials) {
      const prune::Needs needs = trial.policy.needs();
      const bool always = needs.evidence.has(column::mass) || needs.evidence.has(column::last);
      if (trial.moment == Moment::end)
        together[{always, needs.window}].push_back(&trial);
      else
        apart.push_back(&trial);
    }
    // What observes nothing goes along with what does.
    if (const auto none = together.find({false, 0}), next = together.upper_bound({false, 0});
        none != together.end() && next != together.end() && !next->first.first) {
      next->second.insert(next->second.begin(), none->second.begin(), none->second.end());
      together.erase(none);
    }
    if (together.empty()) together[{false, 0}];  // the dense model alone
    for (const auto& [kind, group] : together) {
      const ByTurns turns(group);
      Session one = session(turns);
      const SequenceId begun = one.add(document.prefix, Logits::none);
      run(one);
      if (dense_.empty()) ask_all(one, document, begun, nullptr, Moment::end);
      for (const Trial* const trial : group) {
        turns.choose(trial->policy);
        found(*trial, ask_or_refuse(one, document, begun, *trial));
      }
    }
    for (const Trial* const trial : apart) {
      Session one = session(trial->policy);
      std::optional<SequenceId> begun;
      if (trial->moment == Moment::pass) {
        begun = one.add(document.prefix, Logits::none);
        run(one);
      }
      found(*trial, ask_or_refuse(one, document, begun, *trial));
    }
  }

  /// Seconds of prefill and of `tokens` decoded ones, and the bytes that are held after the prompt, and at most.
  Json speed(const Document& document, const Trial& trial, int tokens) const {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point begin) {
      return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    Session one = session(trial.replay ? prune::per_head(prune::none()) : trial.policy);
    const std::vector<Token> prompt = document.whole(document.prompts.front());
    Clock::time_point begin = Clock::now();
    const SequenceId sequence = one.add(prompt);
    Token next = 0;
    const auto step = [&] {
      while (!one.idle())
        for (const Output& output : one.step()) next = likeliest(output.logits);
    };
    step();
    if (trial.replay) one.compress(sequence, prompt, *trial.replay);
    Json result = {{"prefill_s", since(begin)}, {"tokens", prompt.size()}, {"decoded", tokens}};
    const CacheStats stats = one.stats(sequence);
    result["bytes"] = stats.bytes_used;
    result["bytes_peak"] = stats.bytes_high_water;
    begin = Clock::now();
    for (int i = 0; i < tokens; ++i) {
      one.push(sequence, next);
      step();
    }
    result["decode_s"] = since(begin);
    return result;
  }

 private:
  static LoadOptions options_of(const Json& plan) {
    if (plan["gates"].is_null()) return {};
    return {.gates = std::string(plan["gates"])};
  }

  /// In a cache that has what the policy asks for beside keys and values.
  double bytes_of_token(const prune::AnyPolicy& policy) const {
    Session one = session(policy);
    const SequenceId sequence = one.add(std::vector<Token>{0}, Logits::none);
    run(one);
    return static_cast<double>(one.stats(sequence).bytes_dense);
  }

  Json ask_or_refuse(Session& session, const Document& document, std::optional<SequenceId> begun, const Trial& trial) {
    try {
      return ask_all(session, document, begun, &trial, trial.moment);
    } catch (const Error& error) {
      return {{"refused", error.what()}};
    }
  }

  /// `begun`: the sequence that has read the document's prefix; none: each prompt is read from its beginning. The dense
  /// model's answers, of which no trial is made, are remembered.
  Json ask_all(Session& session, const Document& document, std::optional<SequenceId> begun, const Trial* trial,
               Moment moment) {
    std::vector<std::pair<const Prompt*, SequenceId>> read;
    for (const Prompt& prompt : document.prompts) {
      if (moment == Moment::whole) {
        read.emplace_back(&prompt, session.add(document.whole(prompt), Logits::none));
      } else {
        read.emplace_back(&prompt, session.fork(*begun));
        session.prompt(read.back().second, prompt.tail, Logits::none);
      }
      // Where a context is written again, no question is seen.
      if (trial != nullptr && trial->replay) break;
    }
    run(session);
    if (trial != nullptr && trial->replay)
      session.compress(read.front().second, document.whole(*read.front().first), *trial->replay);
    const CacheStats stats = session.stats(read.front().second);
    const double share = static_cast<double>(stats.bytes_used) / static_cast<double>(stats.bytes_dense);
    if (trial == nullptr) dense_share_ = share;

    std::vector<Asked> asked;
    std::map<SequenceId, std::size_t> places;
    for (const auto& [prompt, sequence] : read) {
      for (const Ask& one : prompt->asks) {
        const SequenceId fork = session.fork(sequence);
        session.push(fork, std::span(one.ids).first(one.ids.size() - 1), Logits::all);
        places.emplace(fork, asked.size());
        asked.emplace_back(one);
      }
      session.finish(sequence);
    }
    if (trial == nullptr) dense_.resize(asked.size());
    while (!session.idle()) {
      for (const Output& output : session.step()) {
        const std::size_t place = places.at(output.sequence);
        asked[place].take(output.logits, trial == nullptr, dense_[place]);
      }
    }
    for (const auto& [sequence, place] : places) session.finish(sequence);

    const double rows = trial == nullptr ? 1 : bytes_of_token(trial->policy) / bytes_of_token({});
    Json result = {{"bytes", share / dense_share_ * rows}, {"asks", Json::array()}};
    for (const Asked& one : asked) result["asks"].push_back(one.result());
    if (trial == nullptr) dense_result_ = result;
    return result;
  }

 public:
  const Json& dense() const { return dense_result_; }

 private:
  Model model_;
  KvPair kv_;
  int threads_;
  std::vector<std::vector<float>> dense_;  // [ask of a document][token * vocabulary], where it is a text
  double dense_share_ = 1;
  Json dense_result_;
};

/// The lines of a file of results, and what is added to them.
class Results {
 public:
  explicit Results(const std::string& path) : path_(path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      const Json one = Json::parse(line, nullptr, false);  // what was cut off is made again
      if (one.is_object()) done_.emplace(one["document"], one["name"], one["keep"]);
    }
  }
  bool has(const Key& key) const { return done_.contains(key); }
  void add(const Key& key, const std::string& spec, const Json& result) {
    Json line = {
        {"document", std::get<0>(key)}, {"name", std::get<1>(key)}, {"keep", std::get<2>(key)}, {"policy", spec}};
    line.update(result);
    std::ofstream(path_, std::ios::app) << line.dump() << '\n';
    done_.insert(key);
  }

 private:
  std::string path_;
  std::set<Key> done_;
};

void quality(const Json& plan, Bench& bench, Results& results) {
  std::size_t number = 0;
  for (const Json& json : plan["documents"]) {
    const std::size_t at = number++;
    std::vector<Trial> trials;
    for (const Json& one : json["trials"]) {
      const Key key{at, one["name"], one["keep"]};
      if (results.has(key)) continue;
      try {
        trials.emplace_back(one);
        bench.session(trials.back().policy);
      } catch (const Error& error) {
        if (!trials.empty() && trials.back().spec == one["policy"]) trials.pop_back();
        results.add(key, one["policy"], {{"refused", error.what()}});
      }
    }
    if (trials.empty()) continue;
    bench.measure(Document(json), trials, [&](const Trial& trial, const Json& result) {
      if (const Key dense{at, "dense", 1.0}; !results.has(dense)) results.add(dense, "none", bench.dense());
      results.add({at, trial.name, trial.keep}, trial.spec, result);
      std::cerr << at << ' ' << trial.spec << '\n';
    });
  }
}

void speed(const Json& plan, const Bench& bench, Results& results, double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  const Json& json = plan["documents"][0];
  const Document document(json);
  const Trial dense(Json{{"name", "dense"}, {"keep", 1.0}, {"policy", "none"}, {"acts", "end"}});
  constexpr int tokens = 48;
  Json beside;
  int since = 0;
  for (const Json& one : json["trials"]) {
    const Key key{0, one["name"], one["keep"]};
    if (results.has(key)) continue;
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > seconds) return;
    try {
      const Trial trial(one);
      // The machine's mood changes: the dense model's figures are those of the same minute.
      if (since++ % 4 == 0) beside = bench.speed(document, dense, tokens);
      Json result = bench.speed(document, trial, tokens);
      result["dense"] = beside;
      results.add(key, trial.spec, result);
      std::cerr << result.dump() << ' ' << trial.spec << '\n';
    } catch (const Error& error) {
      results.add(key, one["policy"], {{"refused", error.what()}});
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3 && argc != 5) {
    std::cerr << "usage: bench_methods PLAN OUT [speed SECONDS]\n";
    return 2;
  }
  std::ifstream file(argv[1]);
  const Json plan = Json::parse(file);
  Bench bench(plan);
  Results results(argv[2]);
  if (argc == 5)
    speed(plan, bench, results, std::stod(argv[4]));
  else
    quality(plan, bench, results);
} catch (const std::exception& error) {
  std::cerr << "bench_methods: " << error.what() << '\n';
  return 1;
}
