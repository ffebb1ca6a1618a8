// SPDX-License-Identifier: MIT
// Text that remembers which of its bytes the conversation brought and which the template wrote.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.hpp"

namespace pith::text::jinja {

enum class Origin { of_template, of_data };

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, Origin origin = Origin::of_template);

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }

  /// What the conversation brought: in order, none empty, none touching the next.
  const std::vector<Range>& data() const { return data_; }
  /// Of a text that is made from this one byte by byte or as a whole: of_data where any of it is.
  Origin origin() const { return data_.empty() ? Origin::of_template : Origin::of_data; }

  void append(std::string_view bytes, Origin origin);
  void append(const Text& other) { append(other, {0, other.size()}); }
  void append(const Text& other, Range part);
  Text slice(Range part) const;

 private:
  void mark(Range range);

  std::string bytes_;
  std::vector<Range> data_;
};

}  // namespace pith::text::jinja
