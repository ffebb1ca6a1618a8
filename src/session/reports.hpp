// SPDX-License-Identifier: MIT
// The caller's functions that are due, each to be called once, whichever of them throws.
#pragma once

#include <cstddef>
#include <vector>

#include "session/schedule.hpp"
#include "session/sequences.hpp"
#include "session/setup.hpp"

namespace pith {

class Reports {
 public:
  Reports(const Setup& setup, Sequences& sequences) : setup_(setup), sequences_(sequences) {}

  /// What the sequence has dropped since it was last asked.
  void add_drops(SequenceId id);

  /// A pass is done, and its sequences are as far as it has brought them.
  void add_pass(const Schedule& finished);

  /// Calls those that are due.
  void tell();

  bool empty() const { return next_ == due_.size(); }

  /// What is due for a sequence is not.
  void forget(SequenceId id);

 private:
  struct Report {
    enum class Kind { drop, pass, prefill } kind;
    SequenceId sequence;
    Drop drop = {};
    Segment segment = {};
    Progress progress = {};
  };

  Progress progress(SequenceId id, const Pass& pass, const Segment& segment) const;
  void tell(const Report& report);

  const Setup& setup_;
  Sequences& sequences_;
  std::vector<Report> due_ = {};  // of the latest pass
  std::size_t next_ = 0;
  std::vector<Token> tokens_ = {};  // [rows of that pass]
  std::vector<std::size_t> live_rows_ = {};
};

}  // namespace pith
