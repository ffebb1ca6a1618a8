// SPDX-License-Identifier: MIT
// Any text as a chat template: an Error, or a text whose data is told as it should be.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "pith/chat_template.hpp"
#include "pith/error.hpp"

namespace {

const std::vector<pith::Message>& conversation() {
  static const std::vector<pith::Message> messages = {
      {"system", "Be brief."},
      {"user",
       " \xc3\x9c"
       "ber <s> \xf0\x9f\x98\x80\n"},
      {"assistant", "", R"({"tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]})"},
      {"user", "x", R"({"content": [{"type": "text", "text": "two"}, {"type": "image"}]})"}};
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    static const std::tm now{};
    pith::ChatOptions options;
    options.now = now;
    options.tools = R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])";
    const auto by = pith::ChatTemplate::parse({reinterpret_cast<const char*>(data), size}, {{"bos_token", "<s>"}});
    const auto chat = by.render(conversation(), options);
    std::size_t end = 0;
    for (const auto& range : chat.data) {
      if (range.begin >= range.end || range.begin < end || range.end > chat.text.size()) std::abort();
      end = range.end;
    }
  } catch (const pith::Error&) {
  }
  return 0;
}
