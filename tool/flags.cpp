// SPDX-License-Identifier: MIT
#include "flags.hpp"

#include <cctype>
#include <utility>

namespace pith::tool {

namespace {

/// Options of the library as its errors name them, and their flags.
constexpr std::pair<std::string_view, std::string_view> flags_of_options[] = {
    {"threads", "--threads/-t"},
    {"chunk", "--batch-size/-b"},
    {"context", "--ctx-size/-c"},
    {"sequence: expected at most the context's", "--ctx-size/-c: expected at most the context's"},
    {"model: expected a Hugging Face directory", "--model/-m: expected a Hugging Face directory"},
    {"policy", "--policy"},
    {"cache format", "--kv"},
    {"pre", "--pre"},
    {"prompt", "--prompt/-p"},
    {"temperature", "--temp"},
    {"top_k", "--top-k"},
    {"top_p", "--top-p"},
    {"min_p", "--min-p"},
    {"repetition_penalty", "--repeat-penalty"},
    {"repetition penalty", "--repeat-penalty"},
    {"repetition_window", "--repeat-last-n"},
    {"stop", "--stop"},
    {"draft: tokens", "--draft"},
    {"draft: layers", "--draft-layers"},
    {"instruction set", "--isa"},
};

bool continues_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; }

}  // namespace

std::string flag_text(std::string_view flags) {
  const auto comma = flags.find(',');
  if (comma == std::string_view::npos) return std::string(flags);
  return std::string(flags.substr(comma + 1)) + "/" + std::string(flags.substr(0, comma));
}

std::string in_flags(const std::string& message) {
  for (const auto& [option, flag] : flags_of_options)
    if (message.starts_with(option) && (message.size() == option.size() || !continues_word(message[option.size()])))
      return std::string(flag) + message.substr(option.size());
  return message;
}

}  // namespace pith::tool
