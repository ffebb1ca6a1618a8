// SPDX-License-Identifier: MIT
// A session from within: its sequences, the pass in work, and what is to be told of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "pith/error.hpp"
#include "pith/nn/decoder.hpp"
#include "session/reports.hpp"
#include "session/schedule.hpp"
#include "session/sequences.hpp"
#include "session/setup.hpp"

namespace pith {

struct Session::Impl {
  Impl(Model model, SessionOptions options)
      : setup(std::move(model), std::move(options)),
        threads(setup.options.threads.value_or(Threads(0))),
        workspace(setup.config, setup.needs, setup.context) {}

  /// The sequence, no step of which has failed halfway. `what`: the call.
  Sequence& whole(SequenceId id, const char* what);

  /// The sequence, which no cancelled step has left halfway.
  Sequence& between_steps(SequenceId id, const char* what);

  /// The sequence between two steps, which cannot go back.
  Sequence& committed(SequenceId id, const char* what);

  /// The sequence, all of which has gone through all layers.
  Sequence& at_rest(SequenceId id, const char* what);

  /// Does what may fail halfway, as memory runs out; then the sequence is broken.
  template <class F>
  static void change(Sequence& sequence, F&& f) {
    try {
      f();
    } catch (const Error&) {
      throw;
    } catch (...) {
      sequence.break_off();
      throw;
    }
  }

  /// What a saved sequence knows the model by.
  const std::string& fingerprint();

  /// A saved sequence, which is one of the session's then.
  Restored restore(std::span<const std::byte> saved, const std::string& whose);

  /// Passes until one gave logits, or one alone; first of all what a callback that threw has left.
  std::span<const Output> run(const std::stop_token& stop, bool one_pass, std::size_t most);

  const Setup setup;
  const std::uint64_t parameters = setup.model.parameters();
  const Threads threads;
  Sequences sequences{setup};
  Schedule schedule;
  Reports reports{setup, sequences};

  Workspace workspace;
  Activations final;                                            // [outputs, d_model]
  Tensor<float> logits;                                         // [outputs, vocab_size]
  std::vector<std::pair<SequenceId, std::size_t>> output_rows;  // of the pass
  std::vector<Output> outputs;
  bool outputs_given = true;

 private:
  std::string fingerprint_;  // once it was asked for

  bool gathers() const;
  void advance(const std::stop_token& stop, std::size_t most);
  void complete();
  void abandon_pass() noexcept;
  void compute_logits();
};

}  // namespace pith
