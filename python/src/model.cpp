// SPDX-License-Identifier: MIT
// Models and tokenizers.
#include <nanobind/stl/filesystem.h>

#include "bindings.hpp"

namespace pith::python {
namespace {

Specials specials_named(const std::string& name) {
  if (name == "add_only") return Specials::add_only;
  if (name == "as_trained") return Specials::as_trained;
  if (name == "parse_only") return Specials::parse_only;
  if (name == "plain") return Specials::plain;
  fail(ErrorCode::argument, "specials", "add_only, as_trained, parse_only or plain", "'" + name + "'");
}

Dict config_of(const Model& model) {
  const Config& config = model.config();
  Dict all;
  all["architecture"] = std::string(name(config.architecture));
  all["vocab_size"] = config.vocab_size;
  all["d_model"] = config.d_model;
  all["n_layers"] = config.n_layers();
  all["n_heads"] = config.n_heads;
  all["n_kv_heads"] = config.n_kv_heads;
  all["head_dim"] = config.head_dim;
  all["context"] = config.context;
  all["gate_dim"] = config.gate ? config.gate->dim : 0;
  all["parameters"] = model.parameters();
  all["bytes"] = model.bytes();
  return all;
}

/// What the model's table has for each of the tokens, [tokens, d_model]: in their place, it is as good as they are.
auto embed(const Model& model, const Ids& tokens) {
  const Matrix& table = model.weights().embedding;
  std::vector<float> all(tokens.size() * table.cols());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token token = span_of(tokens)[i];
    if (token < 0 || static_cast<std::size_t>(token) >= table.rows())
      fail(ErrorCode::argument, "token " + std::to_string(i), "0 to " + std::to_string(table.rows() - 1),
           std::to_string(token));
    table.row(static_cast<std::size_t>(token), std::span(all).subspan(i * table.cols(), table.cols()));
  }
  return array(std::move(all), {tokens.size(), table.cols()});
}

}  // namespace

void bind_model(nb::module_& module) {
  nb::class_<Tokenizer>(module, "Tokenizer",
                        "Text to token ids and back, as the model's own tokenizer file defines it.")
      .def(
          "__init__",
          [](Tokenizer* self, const std::filesystem::path& path) { new (self) Tokenizer(Tokenizer::load(path)); },
          "path"_a)
      .def(
          "encode",
          [](const Tokenizer& self, const std::string& text, const std::string& specials) {
            return self.encode(text, specials_named(specials));
          },
          "text"_a, "specials"_a = "add_only",
          "The ids of a text. specials: 'add_only' (the tokenizer adds its own, a BOS say; what looks like a special "
          "token stays text), 'as_trained' (those in the text are recognised, too), 'parse_only' (recognised, none "
          "added), 'plain' (neither).")
      .def(
          "decode",
          [](const Tokenizer& self, const std::vector<Token>& tokens, bool with_specials) {
            return self.decode(tokens, with_specials ? Tokenizer::Show::with_specials : Tokenizer::Show::text_only);
          },
          "tokens"_a, "with_specials"_a = false, "The text of a whole sequence.")
      .def(
          "piece",
          [](const Tokenizer& self, Token token) {
            const std::string_view bytes = self.piece(token);
            return nb::bytes(bytes.data(), bytes.size());
          },
          "token"_a, "The bytes of one token in the middle of a text; none for a special one.")
      .def(
          "chat_json",
          [](const Tokenizer& self, const std::string& messages, bool add_generation_prompt, const std::string& tools,
             const std::string& variables) {
            return self.chat_json(
                messages, {.add_generation_prompt = add_generation_prompt, .tools = tools, .variables = variables});
          },
          "messages"_a, "add_generation_prompt"_a = true, "tools"_a = "", "variables"_a = "")
      .def(
          "render_json",
          [](const Tokenizer& self, const std::string& messages, bool add_generation_prompt, const std::string& tools,
             const std::string& variables) {
            return self.chat_template()
                .render_json(messages,
                             {.add_generation_prompt = add_generation_prompt, .tools = tools, .variables = variables})
                .text;
          },
          "messages"_a, "add_generation_prompt"_a = true, "tools"_a = "", "variables"_a = "")
      .def_prop_ro("vocab_size", &Tokenizer::vocab_size)
      .def_prop_ro("bos", &Tokenizer::bos)
      .def("is_end", &Tokenizer::is_end, "token"_a)
      .def("is_special", &Tokenizer::is_special, "token"_a)
      .def(
          "id", [](const Tokenizer& self, const std::string& token) { return self.id(token); }, "token"_a,
          "The id of a token as it is spelled in the vocabulary, or None.");

  nb::class_<Threads>(module, "Threads", "Threads that sessions share; 0: one for each core.")
      .def(nb::init<int>(), "count"_a = 0)
      .def_prop_ro("count", &Threads::count);

  nb::class_<Model>(module, "Model", "A loaded model, immutable and shared.")
      .def(
          "__init__",
          [](Model* self, const std::filesystem::path& path, const std::optional<std::filesystem::path>& gates) {
            const nb::gil_scoped_release release;
            new (self) Model(Model::load(path, {.gates = gates}));
          },
          "path"_a, "gates"_a = nb::none())
      .def("embed", &embed, "tokens"_a, nb::rv_policy::automatic)
      .def_prop_ro("config", &config_of)
      .def_prop_ro("ends", [](const Model& self) { return self.config().end_tokens; });
}

}  // namespace pith::python
