// SPDX-License-Identifier: MIT
// Traces: what was forgotten of a text, as arrays and as the library's own pictures.
#include <pith/trace.hpp>

#include "bindings.hpp"

namespace pith::python {
namespace {

struct PyTrace {
  Trace trace;
  TraceInfo info;
  Config config;
  Tokenizer tokenizer;

  std::string json() const { return to_json(trace, info, config, tokenizer); }
};

PyTrace record(const Model& model, const Tokenizer& tokenizer, const PyOptions& options, const Ids& prompt,
               const Request& how, const std::string& model_name) {
  Tracer tracer;
  Generator generator(model, tokenizer, tracer.attach(options.session), 1);
  const std::vector<Token> tokens = vector_of(prompt);
  Request request = how;
  request.prompt = tokens;
  PyTrace recorded{{}, {}, model.config(), tokenizer};
  std::exception_ptr error;
  request.on_prompt = [&](SequenceId id, std::size_t position, std::span<const float> logits) {
    if (position + 1 < tokens.size()) tracer.predicted(id, position + 1, logits, tokens[position + 1]);
  };
  request.on_piece = [&](const Piece& piece) {
    if (!piece.finish)
      tracer.predicted(*piece.sequence, generator.session().length(*piece.sequence), piece.logits, *piece.token);
    else if (piece.sequence)
      recorded.trace = tracer.trace(generator.session(), *piece.sequence);
    error = piece.error;
  };
  generator.submit(std::move(request));
  for (bool more = true; more;) {
    hear_signals();
    {
      const nb::gil_scoped_release release;
      more = generator.step();
    }
    options.raise_failures();
  }
  if (error) std::rethrow_exception(error);
  recorded.info = {.model = model_name,
                   .policy = generator.session().policy().describe(),
                   .tau = how.tau.value_or(0.0f),
                   .kv = options.session.kv,
                   .prompt_tokens = tokens.size()};
  return recorded;
}

auto per_row(const Trace::PerRow<float>& scores) {
  const std::size_t layers = scores.size(), lanes = layers > 0 ? scores[0].size() : 0,
                    tokens = lanes > 0 ? scores[0][0].size() : 0;
  std::vector<float> all;
  for (const auto& layer : scores)
    for (const auto& lane : layer) all.insert(all.end(), lane.begin(), lane.end());
  return array(std::move(all), {layers, lanes, tokens});
}

}  // namespace

void bind_trace(nb::module_& module) {
  module.def("record", &record, "model"_a, "tokenizer"_a, "options"_a, "prompt"_a, "request"_a, "model_name"_a);
  nb::class_<PyTrace>(module, "Trace", "What a sequence forgot, when, and by whom.")
      .def("json", &PyTrace::json)
      .def(
          "html", [](const PyTrace& self, const std::string& other) { return to_html(self.json(), other); },
          "other"_a = "null")
      .def(
          "svg",
          [](const PyTrace& self, std::optional<std::size_t> layer) {
            return to_svg(layer ? draw_layer(self.trace, self.tokenizer, *layer) : draw(self.trace, self.tokenizer));
          },
          "layer"_a = nb::none())
      .def_prop_ro("tokens", [](const PyTrace& self) { return self.trace.tokens; })
      .def_prop_ro("pieces", [](const PyTrace& self) { return pieces(self.trace.tokens, self.tokenizer); })
      .def_prop_ro("prompt_tokens", [](const PyTrace& self) { return self.info.prompt_tokens; })
      .def_prop_ro("policy", [](const PyTrace& self) { return self.info.policy; })
      .def_prop_ro(
          "drop_at", [](const PyTrace& self) { return drops_of(self.trace.drop_at); }, nb::rv_policy::automatic)
      .def_prop_ro(
          "gate_score", [](const PyTrace& self) { return per_row(self.trace.gate_score); }, nb::rv_policy::automatic)
      .def_prop_ro(
          "logprob", [](const PyTrace& self) { return array(self.trace.logprob, {self.trace.logprob.size()}); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "entropy", [](const PyTrace& self) { return array(self.trace.entropy, {self.trace.entropy.size()}); },
          nb::rv_policy::automatic)
      .def_prop_ro("kept", [](const PyTrace& self) {
        double sum = 0;
        std::size_t lanes = 0;
        for (const auto& layer : self.trace.drop_at)
          for (const auto& lane : layer) {
            sum += kept_fraction(lane);
            ++lanes;
          }
        return lanes > 0 ? sum / static_cast<double>(lanes) : 1.0;
      });
}

}  // namespace pith::python
