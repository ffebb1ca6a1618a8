// SPDX-License-Identifier: MIT
#include "anchors.hpp"

#include <algorithm>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::tool {

MarkedText MarkedText::of(std::string_view text, const std::string& where) {
  MarkedText out;
  bool open = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view two = text.substr(i, 2);
    if (two != "[[" && two != "]]") {
      out.text += text[i];
      continue;
    }
    const bool opens = two == "[[";
    if (opens == open)
      fail(ErrorCode::format, where + ": byte " + std::to_string(i), open ? "]]" : "[[", std::string(two));
    open = opens;
    if (opens)
      out.marks.emplace_back(out.text.size(), out.text.size());
    else
      out.marks.back().second = out.text.size();
    ++i;
  }
  if (open) fail(ErrorCode::format, where, "]] behind the last [[", "the end");
  return out;
}

Anchors anchors_of(const MarkedText& marked, std::span<const Token> prompt, const Tokenizer& tokenizer) {
  Anchors out;
  std::size_t byte = 0;  // where the next token's bytes begin
  for (std::size_t t = 0; t < prompt.size(); ++t) {
    std::string_view piece = tokenizer.piece(prompt[t]);
    // Some tokenizers begin a text with a blank of their own.
    if (byte == 0 && piece.starts_with(' ') && !marked.text.starts_with(' ')) piece.remove_prefix(1);
    const std::size_t end = byte + piece.size();
    if (end > marked.text.size()) break;
    if (marked.text.compare(byte, piece.size(), piece) != 0)
      fail(ErrorCode::unsupported, "anchors", "tokens that spell their text byte for byte",
           in_quotes(piece) + " for " + in_quotes(marked.text.substr(byte, piece.size())));
    const bool anchor = piece.empty() || std::ranges::any_of(marked.marks, [&](const auto& mark) {
                          return mark.first < end && byte < mark.second;
                        });
    if (anchor) out.tokens.push_back(t);
    out.end = t + 1;
    byte = end;
  }
  return out;
}

}  // namespace pith::tool
