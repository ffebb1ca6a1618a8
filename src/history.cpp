// SPDX-License-Identifier: MIT
#include "history.hpp"

#include <algorithm>

namespace pith {

void History::write(ByteWriter& out) const {
  out.count(given);
  out.count(next);
  out.count(calls);
  out.count(past.size());
  for (const Exchange& one : past) {
    out.numbers(one.prompt);
    out.numbers(one.tokens);
    out.count(one.prefix);
    out.count(one.pinned);
    out.count(one.anchors.end);
    out.numbers(one.anchors.tokens);
    out.number(static_cast<std::uint8_t>(one.tau.has_value()));
    out.number(one.tau.value_or(0));
  }
}

History History::read(ByteReader& in, std::size_t context) {
  const auto size = [&] { return static_cast<std::size_t>(in.number<std::uint64_t>()); };
  History history;
  history.given = size();
  history.next = size();
  history.calls = size();
  history.past.resize(in.count(6 * sizeof(std::uint64_t)));
  for (Exchange& one : history.past) {
    one.prompt = in.numbers<Token>();
    one.tokens = in.numbers<Token>();
    one.prefix = size();
    one.pinned = size();
    one.anchors.end = size();
    one.anchors.tokens = in.numbers<std::size_t>();
    const bool has_tau = in.number<std::uint8_t>() != 0;
    const auto tau = in.number<float>();
    if (has_tau) one.tau = tau;
    history.length += one.length();
    const std::size_t n = one.prompt.size();
    in.expect(n > 0 && one.prefix < n && one.pinned <= n && one.anchors.end <= n, "a request's numbers");
  }
  // The token that was chosen behind a full context is given to nothing.
  in.expect(history.length <= context + 1 && history.given <= std::min(history.length, context) &&
                history.next < history.past.size() && history.calls <= history.past[history.next].tokens.size() + 1,
            "a conversation of this library's");
  return history;
}

}  // namespace pith
