// SPDX-License-Identifier: MIT
#include "text/definition.hpp"

#include <algorithm>
#include <array>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::text {

void add_token(Definition& definition, AddedToken token, std::int64_t id, std::string_view where) {
  auto& vocabulary = definition.vocabulary;
  if (const auto known = vocabulary.find(token.content)) {
    if (*known != id)
      fail(ErrorCode::format, std::string(where) + ": token " + in_quotes(token.content),
           "its id in the vocabulary, " + std::to_string(*known), std::to_string(id));
  } else {
    vocabulary.add(token.content, id, where);
  }
  token.id = static_cast<Token>(id);
  if (token.special) vocabulary.make_special(token.id);
  definition.added.push_back(std::move(token));
}

void add_usual_ends(Definition& definition) {
  constexpr std::array<std::string_view, 12> names = {
      "</s>",       "<eos>",   "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>",          "<|eom_id|>",
      "<|im_end|>", "<|end|>", "<end_of_turn>", "<|EOT|>",         "<|end▁of▁sentence|>", "<|return|>"};
  // Not of those that a text can merge into: "</s>" may also be what a page about HTML is made of.
  for (const AddedToken& token : definition.added)
    if (std::find(names.begin(), names.end(), token.content) != names.end()) definition.ends.insert(token.id);
}

void squeeze_spaces(Definition& definition, std::string_view where) {
  definition.gguf.squeezes_spaces = true;
  definition.normalizer.add(Replace{Regex(" +", where), " "});
  definition.normalizer.add(Replace{Regex("^ | $", where), ""});
}

void use_space_marks(Definition& definition, SpacePrefix prefix) {
  const std::string mark = MarkSpaces{}.mark;
  definition.gguf.prefix = prefix;
  if (prefix == SpacePrefix::yes) definition.normalizer.add(Prepend{mark});
  definition.normalizer.add(Replace{" ", mark});
  definition.decoder.add(Replace{mark, " "});
  definition.decoder.add(ByteFallback{});
  if (prefix == SpacePrefix::yes) definition.decoder.trim_text({" ", 1, 0});
}

}  // namespace pith::text
