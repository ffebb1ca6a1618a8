// SPDX-License-Identifier: MIT
// What steps ask of threads, counted and not timed, so that more can be asked for than the machine has: loops that are
// handed out, each of which ends in waiting for the last of its tasks, and how evenly their work falls.
//
// The program brings a Threads of its own in place of src/tensor/parallel.cpp. It runs each task on the one thread
// there is, and writes down what the library's would have shared.
#include <cstddef>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "pith/pith.hpp"
#include "pith/tensor/parallel.hpp"
#include "tensor/worth_sharing.hpp"

namespace pith {
namespace {

/// Work is in multiply-adds, as the loops themselves put it.
struct Counts {
  int loops = 0;    // handed out
  int kept = 0;     // loops, of a single row mostly, that are too small for that
  double all = 0;   // work
  double most = 0;  // of one thread: in each loop the one with the most tasks, or all where it was kept
};
Counts counts;
bool gathered = false, within = false;  // a step, a loop

}  // namespace

inline namespace tensor {

struct Threads::Crew {};

Threads::Threads(int count) : count_(count) {}

void Threads::gather_erased(void (*call)(void*), void* body) const {
  if (gathered) return call(body);
  gathered = true;
  call(body);
  gathered = false;
}

void Threads::run_erased(std::size_t tasks, std::size_t work, void (*call)(void*, std::size_t), void* task) const {
  const bool outermost = !within;
  if (outermost && tasks > 0) {
    const bool shared = tasks > 1 && work >= worth_sharing && count_ > 1 && gathered;
    ++(shared ? counts.loops : counts.kept);
    const auto threads = static_cast<std::size_t>(shared ? count_ : 1);
    const std::size_t most = (tasks + threads - 1) / threads;
    counts.all += static_cast<double>(work);
    counts.most += static_cast<double>(work) * static_cast<double>(most) / static_cast<double>(tasks);
  }
  within = true;
  for (std::size_t i = 0; i < tasks; ++i) call(task, i);
  within = !outermost;
}

}  // namespace tensor

namespace {

std::vector<Token> some_tokens(std::size_t count) {
  std::vector<Token> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<Token>(i * 7919 % 30000);
  return tokens;
}

/// What a step costs, as a row of the table. Of bytes, those of weights and cache are all read once, by whose task they
/// are.
template <class Step>
void count(const Session& session, const std::string& what, int threads, Step&& step) {
  counts = {};
  step();
  const double even = counts.all / threads;
  const double bytes = static_cast<double>(session.model().bytes() + session.stats().bytes_used);
  std::cout << "| " << what << " | " << threads << " | " << counts.loops << " | " << counts.kept << " | "
            << counts.most / 1e6 << " | " << counts.most / even << " | " << bytes * counts.most / counts.all / 1e6
            << " |\n";
}

void measure(const Model& model, const prune::AnyPolicy& policy, const std::string& what, int threads) {
  const auto session = [&] { return Session(model, {.policy = policy, .kv = KvFormat::f16, .threads = threads}); };
  const auto finish = [](Session& one) {
    while (!one.idle()) one.step();
  };
  for (const std::size_t depth : {std::size_t{16}, std::size_t{2047}}) {
    Session one = session();
    const SequenceId sequence = one.add(some_tokens(depth));
    finish(one);
    one.push(sequence, 1);
    count(one, what + "a token at depth " + std::to_string(depth), threads, [&] { finish(one); });
  }
  Session one = session();
  one.add(some_tokens(512));
  count(one, what + "a prompt of 512", threads, [&] { finish(one); });
}

}  // namespace
}  // namespace pith

int main() {
  using namespace pith;
  const Model model = synthetic_model("smollm2-135m", {.format = Format::q8_0, .gate_dim = 64});
  std::cout.precision(3);
  std::cout
      << "| step | threads | loops handed out | kept | million multiply-adds of the busiest thread | of the mean | "
         "MB it reads |\n|---|---|---|---|---|---|---|\n";
  for (const int threads : {1, 2, 4, 8}) {
    measure(model, prune::none(), "", threads);
    // Judges every row and drops none.
    measure(model, prune::learned_gate({.tau = -std::numeric_limits<float>::infinity()}), "with a gate, ", threads);
  }
}
