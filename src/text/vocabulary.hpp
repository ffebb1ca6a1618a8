// SPDX-License-Identifier: MIT
// Ids and what they spell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith::text {

/// Lets a map of strings be asked with a std::string_view.
struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

class Vocabulary {
 public:
  static constexpr std::int64_t most_ids = std::int64_t{1} << 22;  // so that a lying file cannot claim all memory

  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;  // entries point into the map beside them
  Vocabulary& operator=(const Vocabulary&) = delete;

  /// Makes room for so many ids at once.
  void expect(std::size_t ids) {
    ids_.reserve(ids);
    entries_.reserve(ids);
  }

  /// `where` names the source in errors. Throws Error (format) where the id is taken or out of all proportion.
  void add(std::string_view text, std::int64_t id, std::string_view where);

  void make_special(Token id) { entry(id).special = true; }

  /// Ids lie in [0, size); not each need be there.
  std::size_t size() const { return entries_.size(); }
  bool has(std::int64_t id) const;
  bool is_special(Token id) const { return entry(id).special; }
  std::optional<Token> find(std::string_view text) const;
  std::string_view text(Token id) const;  // empty for an id that is not there

 private:
  struct Entry {
    const std::string* text = nullptr;  // a key of ids_
    bool special = false;
  };
  Entry& entry(Token id) { return entries_[static_cast<std::size_t>(id)]; }
  const Entry& entry(Token id) const { return entries_[static_cast<std::size_t>(id)]; }

  StringMap<Token> ids_;
  std::vector<Entry> entries_;
};

}  // namespace pith::text
