// SPDX-License-Identifier: MIT
#include "chat_form.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace pith::tool {

namespace {

/// ChatML, which many models learned without saying so.
constexpr std::string_view chatml =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

}  // namespace

void add_template(CommandLine& line, std::string& form) {
  line.add_option("--template", form,
                  "The chat template: a Jinja file, chatml, or one of the model's by its name [the model's]")
      ->type_name("FORM");
}

ChatTemplate template_of(const std::string& form, const ModelOptions& model, const Tokenizer& tokenizer,
                         const Tool& tool, ChatOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(form, ignored)) return ChatTemplate::load(form, model.path);
  const std::optional<ChatTemplate> own = ChatTemplate::find(model.path);
  const std::vector<std::string> names = own ? own->names() : std::vector<std::string>();
  if (form.empty() && own) return *own;
  if (std::ranges::count(names, form) > 0) {
    options.name = form;
    return *own;
  }
  if (form == "chatml") {
    if (!tokenizer.id("<|im_start|>") || !tokenizer.id("<|im_end|>"))
      tool.warn("--template chatml: the model has no tokens <|im_start|> and <|im_end|>, which are text to it");
    return ChatTemplate::parse(chatml);
  }
  if (form.empty())
    fail(ErrorCode::format, model.path, "a chat template (or --template FILE, --template chatml)", "none");
  std::string known = "a file, chatml";
  for (const std::string& name : names) known += ", " + name;
  fail(ErrorCode::argument, "--template", known, "'" + form + "'");
}

}  // namespace pith::tool
