// SPDX-License-Identifier: MIT
#include <utility>

#include "pith/tokenizer.hpp"
#include "text/impl.hpp"
#include "text/unicode.hpp"

namespace pith {

TextStream::TextStream(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

std::string TextStream::push(Token token) {
  const auto piece = tokenizer_.piece(token);  // checks the token; empty for a special one
  if (!piece.empty()) {
    auto place = at_start_ ? text::Place::start : text::Place::inside;
    tokenizer_.impl_->append_bytes(token, place, pending_);
    at_start_ = false;
  }
  const std::size_t whole = pending_.size() - text::unfinished_bytes(pending_);
  auto out = text::repair(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return out;
}

std::string TextStream::flush() {
  at_start_ = true;
  return text::repair(std::exchange(pending_, {}));
}

}  // namespace pith
