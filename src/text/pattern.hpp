// SPDX-License-Identifier: MIT
// What normalizers, pre-tokenizers and decoders look for in a text: a string, a regular expression, a kind of
// character. The regular expressions are PCRE2's, and src/text/pattern.cpp is the one place that knows it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace pith::text {

/// Where a text stands in what the caller gave: behind an added token it is no longer at the start. after_text: it goes
/// on behind a text that was given before.
enum class Place { start, inside, after_text };

/// Bytes [begin, end) of a text.
struct Range {
  std::size_t begin = 0, end = 0;

  std::size_t size() const { return end - begin; }
  std::string_view of(std::string_view text) const { return text.substr(begin, end - begin); }
};

/// A compiled regular expression; any number of threads may match it.
class Regex {
 public:
  /// `where` names in errors what the expression is part of. Throws Error (format).
  Regex(std::string_view expression, std::string_view where);

 private:
  friend class Finder;
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

using CharacterTest = bool (*)(char32_t);

using Pattern = std::variant<std::string, Regex, CharacterTest>;

/// Finds a pattern in one text after another; keeps the memory that matching needs. For one thread.
class Finder {
 public:
  explicit Finder(const Pattern& pattern);
  ~Finder();
  Finder(const Finder&) = delete;
  Finder& operator=(const Finder&) = delete;

  /// The non-overlapping matches in order, those of no length included. The text must be UTF-8. Throws Error (argument)
  /// where a regular expression needs more steps or memory than is sane.
  const std::vector<Range>& find_all(std::string_view text);

 private:
  struct Workspace;
  void find(const std::string& literal, std::string_view text);
  void find(const Regex& regex, std::string_view text);
  void find(CharacterTest test, std::string_view text);

  const Pattern& pattern_;
  std::vector<Range> found_;
  std::unique_ptr<Workspace> workspace_;
};

/// `text` with every match replaced by `content`, word for word.
std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content);

}  // namespace pith::text
