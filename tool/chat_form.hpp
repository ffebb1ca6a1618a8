// SPDX-License-Identifier: MIT
// --template: the form that a model's conversations have.
#pragma once

#include <string>

#include "options.hpp"
#include "pith/chat_template.hpp"
#include "tool.hpp"

namespace pith::tool {

void add_template(CommandLine& line, std::string& form);

/// The template that --template asks for, one of the model's by the name left in `options`. Throws Error (argument,
/// format) where there is none.
ChatTemplate template_of(const std::string& form, const ModelOptions& model, const Tokenizer& tokenizer,
                         const Tool& tool, ChatOptions& options);

}  // namespace pith::tool
