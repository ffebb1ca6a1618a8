// SPDX-License-Identifier: MIT
// Several sequences through one session, each with a prompt and what follows it.
#pragma once

#include <map>
#include <vector>

#include "pith/session.hpp"
#include "support/feed.hpp"

namespace pith::testing {

struct Script {
  std::vector<Token> prompt;
  std::vector<Token> rest;  // pushed one by one, each after the logits of the one before
};

struct Played {
  Logits2d logits;  // after the prompt, and after each token of the rest
  DropAt drop_at;   // after the last one; empty unless the session records drops
};

/// Adds all at once, gives each its next token when its logits are there, and finishes it when its script has ended.
inline std::vector<Played> play(Session& session, const std::vector<Script>& scripts, DropLog::Keep keep) {
  std::vector<Played> played(scripts.size());
  std::map<SequenceId, std::size_t> index;
  for (std::size_t i = 0; i < scripts.size(); ++i) index[session.add(scripts[i].prompt)] = i;
  while (!session.idle()) {
    for (const Output& output : session.step()) {
      const Script& script = scripts[index.at(output.sequence)];
      Played& to = played[index.at(output.sequence)];
      to.logits.push_back(copy(output.logits));
      if (to.logits.size() <= script.rest.size()) {
        session.push(output.sequence, script.rest[to.logits.size() - 1]);
      } else {
        if (keep == DropLog::Keep::history) to.drop_at = session.drop_at(output.sequence);
        session.finish(output.sequence);
      }
    }
  }
  return played;
}

}  // namespace pith::testing
