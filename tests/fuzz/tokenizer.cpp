// SPDX-License-Identifier: MIT
// Any bytes as a tokenizer's file (tokenizer.json, or SentencePiece's tokenizer.model where they are no JSON): an
// Error, or a tokenizer whose ids are its own and whose texts are texts.
#include <string>

#include "fuzz/choices.hpp"
#include "fuzz/scratch_file.hpp"
#include "pith/error.hpp"
#include "pith/tokenizer.hpp"
#include "text/unicode.hpp"

namespace {

using pith::test::hold;

void use(const pith::Tokenizer& tokenizer) {
  const int count = tokenizer.vocab_size();
  for (const std::string text : {"", "a", " ab  b\n",
                                 "<s>\xc3\x9c"
                                 "ber 12,345 \xf0\x9f\x98\x80 it's",
                                 "\xff\xc3"}) {
    for (const auto specials : {pith::Specials::as_trained, pith::Specials::plain}) {
      const auto tokens = tokenizer.encode(text, specials);
      for (const pith::Token token : tokens) {
        hold(token >= 0 && token < count, "ids are of the vocabulary");
        tokenizer.piece(token);
        tokenizer.is_special(token);
      }
      const std::string decoded = tokenizer.decode(tokens, pith::Tokenizer::Show::with_specials);
      hold(pith::text::is_utf8(decoded), "a text is UTF-8");
      pith::TextStream stream(tokenizer);
      std::string streamed;
      for (const pith::Token token : tokens) streamed += stream.push(token);
      streamed += stream.flush();
      hold(streamed == tokenizer.decode(tokens), "a stream says what the whole says");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pith::test::ScratchFile json(".json"), model(".model");
  const bool is_json = size > 0 && data[0] == '{';
  try {
    use(pith::Tokenizer::load((is_json ? json : model).holding(data, size)));
  } catch (const pith::Error&) {
  }
  return 0;
}
