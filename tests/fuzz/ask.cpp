// SPDX-License-Identifier: MIT
// Any text as the body of a request to the server: a refusal that can be told, or a request that a generator could be
// given. The first byte chooses which endpoint it is sent to.
#include "server/ask.hpp"

#include <filesystem>

#include "fuzz/choices.hpp"
#include "pith/error.hpp"

namespace {

using pith::test::hold;

const pith::tool::Words& words() {
  static const pith::tool::Words all{
      "m",
      pith::Tokenizer::load(std::filesystem::path(PITH_MODELS_DIR) / "bookworm-1m"),
      pith::ChatTemplate::parse("{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"),
      {.now = std::tm{}}};
  return all;
}

void ask(std::string_view body, pith::tool::Form form) {
  const pith::tool::AskLimits limits{.tokens = 1000};
  const auto ask = pith::tool::read_ask(body, form, words(), limits);
  hold(ask.answers() >= 1 && ask.answers() <= limits.answers, "as many answers as may be asked for");
  hold(ask.how.max_tokens.value() <= limits.tokens, "as many tokens as may be asked for");
  for (const auto& prompt : ask.prompts)
    for (const pith::Token token : prompt) hold(token >= 0, "ids are not negative");
  for (const std::string& stop : ask.how.stops) hold(!stop.empty(), "a stop text is not empty");
  if (ask.how.tau)
    hold(*ask.how.tau >= limits.least_tau && *ask.how.tau <= limits.most_tau, "a strength within the limits");
  pith::Sampler sampler(ask.how.sampler);  // takes what was let through
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  words();  // Where they are not to be had is no fault of an input's: that ends the search.
  try {
    if (data[0] % 3 == 0) ask(body, pith::tool::Form::chat);
    if (data[0] % 3 == 1) ask(body, pith::tool::Form::completion);
    if (data[0] % 3 == 2) pith::tool::tokenized(body, words());
  } catch (const pith::tool::Refusal& refusal) {
    hold(!pith::tool::text_of(refusal.json()).empty(), "a refusal can be told");
  } catch (const pith::Error&) {
  }
  return 0;
}
