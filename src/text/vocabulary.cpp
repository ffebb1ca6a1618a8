// SPDX-License-Identifier: MIT
#include "text/vocabulary.hpp"

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::text {

void Vocabulary::add(std::string_view text, std::int64_t id, std::string_view where) {
  const auto refuse = [&](std::string_view expected, const std::string& found) {
    fail(ErrorCode::format, std::string(where) + ": token " + in_quotes(text), expected, found);
  };
  if (id < 0 || id >= most_ids) refuse("an id from 0 to " + std::to_string(most_ids - 1), std::to_string(id));
  if (has(id)) {
    refuse("an id of its own", std::to_string(id) + ", the id of " + in_quotes(this->text(static_cast<Token>(id))));
  }
  const auto token = static_cast<Token>(id);
  if (static_cast<std::size_t>(id) >= entries_.size()) entries_.resize(static_cast<std::size_t>(id) + 1);
  // A text that has an id keeps it: the second one only decodes.
  entry(token).text = &ids_.try_emplace(std::string(text), token).first->first;
}

bool Vocabulary::has(std::int64_t id) const {
  return id >= 0 && static_cast<std::size_t>(id) < entries_.size() &&
         entries_[static_cast<std::size_t>(id)].text != nullptr;
}

std::optional<Token> Vocabulary::find(std::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) return {};
  return found->second;
}

std::string_view Vocabulary::text(Token id) const {
  const auto* text = entry(id).text;
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

}  // namespace pith::text
