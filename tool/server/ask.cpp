// SPDX-License-Identifier: MIT
#include "server/ask.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include "files/json.hpp"
#include "pith/error.hpp"
#include "server/fields.hpp"

namespace pith::tool {

namespace {

using Plain = nlohmann::json;

/// Texts of so many bytes cannot be what their field means.
constexpr std::size_t longest_stop = 1024;
constexpr std::size_t most_stops = 16;
constexpr std::size_t most_logprobs = 20;

Plain parsed(std::string_view body) try { return parse_json(body, "the body"); } catch (const Error& error) {
  throw Refusal(400, error.what(), "", "invalid_json");
}

// --- Prompts --------------------------------------------------------------------------------------------------------

/// A message's content as one text: parts of text follow each other.
Plain content_of(const Plain& content, const std::string& where) {
  if (content.is_string() || content.is_null()) return content;
  if (!content.is_array())
    throw Refusal(400, where + ": expected a text or an array of parts, found " + content.type_name(), where);
  std::string text;
  for (const Plain& part : content) {
    Fields fields(part, where + ".");
    const std::string type = fields.text("type").value_or("");
    if (type != "text")
      throw Refusal(400, where + ": expected parts of type \"text\", found " + in_quotes(type), where, "unsupported");
    text += fields.text("text").value_or("");
  }
  return text;
}

/// Messages as a template reads them.
std::string messages_of(const Plain* messages) {
  if (messages == nullptr) throw Refusal(400, "messages: expected an array of messages, found none", "messages");
  if (!messages->is_array() || messages->empty())
    throw Refusal(400,
                  std::string("messages: expected an array of at least one message, found ") +
                      (messages->is_array() ? "an empty one" : messages->type_name()),
                  "messages");
  Plain out = Plain::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string where = "messages[" + std::to_string(i) + "]";
    Plain message = (*messages)[i];
    Fields fields(message, where + ".");
    const std::optional<std::string> role = fields.text("role");
    if (!role) throw Refusal(400, where + ".role: expected a text, found none", where + ".role");
    if (*role == "developer") message["role"] = "system";  // the newer name
    if (!message.contains("content") && !message.contains("tool_calls"))
      throw Refusal(400, where + ".content: expected a text, found none", where + ".content");
    if (message.contains("content")) message["content"] = content_of(message["content"], where + ".content");
    out.push_back(std::move(message));
  }
  return out.dump(-1, ' ', false, Plain::error_handler_t::replace);
}

std::vector<Token> chat_tokens(Fields& fields, const Words& words) {
  const std::string messages = messages_of(fields.find("messages"));
  if (!words.by)
    throw Refusal(400, "messages: this model has no chat template; /v1/completions takes a prompt", "messages",
                  "no_chat_template");
  ChatOptions options = words.options;
  if (const Plain* const more = fields.find("chat_template_kwargs")) {
    if (!more->is_object()) fields.refuse("chat_template_kwargs", "an object", *more);
    options.variables = more->dump(-1, ' ', false, Plain::error_handler_t::replace);
  }
  options.add_generation_prompt = true;
  return words.tokenizer.encode(words.by->render_json(messages, options), *words.by);
}

std::vector<Token> ids_of(const Fields& fields, const Plain& ids, const std::string& name) {
  std::vector<Token> tokens;
  tokens.reserve(ids.size());
  for (const Plain& id : ids) tokens.push_back(fields.read<Token>(id, name, {.least = 0}));
  return tokens;
}

/// A text, tokens, or several of either.
std::vector<std::vector<Token>> prompts_of(Fields& fields, const Words& words, std::size_t most) {
  const Plain* const prompt = fields.find("prompt");
  if (prompt == nullptr) throw Refusal(400, "prompt: expected a text or tokens, found none", "prompt");
  // Who writes the prompt writes its template, too.
  const auto encoded = [&](const Plain& text) {
    return words.tokenizer.encode(text.get_ref<const std::string&>(), Specials::as_trained);
  };
  if (prompt->is_string()) return {encoded(*prompt)};
  if (!prompt->is_array() || prompt->empty()) fields.refuse("prompt", "a text, tokens, or an array of either", *prompt);
  if (prompt->front().is_number()) return {ids_of(fields, *prompt, "prompt")};
  if (prompt->size() > most)
    throw Refusal(
        400, "prompt: expected at most " + std::to_string(most) + " at a time, found " + std::to_string(prompt->size()),
        "prompt");
  std::vector<std::vector<Token>> prompts;
  for (const Plain& one : *prompt)
    if (one.is_string())
      prompts.push_back(encoded(one));
    else if (one.is_array())
      prompts.push_back(ids_of(fields, one, "prompt"));
    else
      fields.refuse("prompt", "texts, or arrays of tokens", one);
  return prompts;
}

// --- How
// --------------------------------------------------------------------------------------------------------------

std::vector<std::string> stops_of(Fields& fields) {
  const Plain* const stop = fields.find("stop");
  if (stop == nullptr) return {};
  std::vector<std::string> stops;
  for (const Plain& one : stop->is_array() ? *stop : Plain::array({*stop})) {
    if (!one.is_string() || one.get_ref<const std::string&>().empty() ||
        one.get_ref<const std::string&>().size() > longest_stop)
      fields.refuse("stop", "a text of 1 to " + std::to_string(longest_stop) + " bytes, or several", one);
    stops.push_back(one.get<std::string>());
  }
  if (stops.size() > most_stops)
    throw Refusal(400,
                  "stop: expected at most " + std::to_string(most_stops) + ", found " + std::to_string(stops.size()),
                  "stop");
  return stops;
}

std::vector<TokenBias> biases_of(Fields& fields) {
  const Plain* const biases = fields.find("logit_bias");
  if (biases == nullptr) return {};
  if (!biases->is_object()) fields.refuse("logit_bias", "an object of token ids and numbers", *biases);
  std::vector<TokenBias> out;
  for (const auto& [id, bias] : biases->items()) {
    const auto token = number<Token>(id, {.least = 0});
    if (!token) fields.refuse("logit_bias", "token ids", id);
    out.push_back({*token, fields.read<float>(bias, "logit_bias", {-100, 100})});
  }
  return out;
}

SamplerOptions sampler_of(Fields& fields) {
  SamplerOptions sampler;
  const auto set = [&]<class T>(T& option, const char* name, const Range<T>& range) {
    if (const auto value = fields.number<T>(name, range)) option = *value;
  };
  set(sampler.temperature, "temperature", {0, 100});
  set(sampler.top_p, "top_p", {0, 1, true});
  set(sampler.min_p, "min_p", {0, 1});
  set(sampler.top_k, "top_k", at_least(0));
  set(sampler.repetition_penalty, "repetition_penalty", {0, 100, true});
  set(sampler.frequency_penalty, "frequency_penalty", {-2, 2});
  set(sampler.presence_penalty, "presence_penalty", {-2, 2});
  // This API's penalties are over the whole text.
  if (sampler.frequency_penalty != 0 || sampler.presence_penalty != 0)
    sampler.repetition_window = std::numeric_limits<int>::max();
  sampler.logit_bias = biases_of(fields);
  const auto seed = fields.number<std::int64_t>("seed", {});
  sampler.seed = seed ? static_cast<std::uint64_t>(*seed) : std::random_device()();
  return sampler;
}

/// Of each token, and of how many likeliest: a chat has a flag and a number, a completion the number alone.
std::optional<std::size_t> logprobs_of(Fields& fields, Form form) {
  if (form == Form::completion) return fields.number<std::size_t>("logprobs", {0, most_logprobs});
  const bool wanted = fields.flag("logprobs");
  const auto top = fields.number<std::size_t>("top_logprobs", {0, most_logprobs});
  if (top.value_or(0) > 0 && !wanted)
    throw Refusal(400, "top_logprobs: expected logprobs to be true, found it is not", "top_logprobs");
  return wanted ? std::optional(top.value_or(0)) : std::nullopt;
}

std::size_t most_tokens_of(Fields& fields, const AskLimits& limits) {
  std::optional<std::size_t> most;
  for (const char* const name : {"max_tokens", "max_completion_tokens"})
    if (const auto value = fields.number<std::size_t>(name, {0, limits.tokens})) most = value;
  return most.value_or(limits.tokens);
}

/// "pith": what other servers do not have.
void read_extension(Fields& fields, Ask& ask, const AskLimits& limits) {
  const Plain* const object = fields.find("pith");
  if (object == nullptr) return;
  Fields own(*object, "pith.");
  ask.wants_held = true;
  ask.policy = own.text("policy").value_or("");
  ask.how.tau = own.number<float>("tau", {limits.least_tau, limits.most_tau});
  ask.wants_drops = own.flag("drops");
  if (ask.wants_drops && !fields.flag("stream"))
    throw Refusal(400, "pith.drops: expected stream to be true, found it is not", "pith.drops");
  own.end();
}

/// What clients may send that is not served, unless it asks for what is done anyway.
void refuse_unsupported(Fields& fields, Form form) {
  fields.ignore(
      {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"});
  if (form == Form::chat) {
    fields.only("tools", {Plain::array()}, "none");
    fields.only("functions", {Plain::array()}, "none");
    fields.only("tool_choice", {"none", "auto"}, "\"none\"");
    fields.only("function_call", {"none", "auto"}, "\"none\"");
    fields.only("response_format", {{{"type", "text"}}}, "{\"type\": \"text\"}");
    fields.only("modalities", {Plain::array({"text"})}, "[\"text\"]");
  } else {
    fields.only("echo", {false}, "false");
    fields.only("suffix", {""}, "none");
    fields.only("best_of", {1}, "1");
  }
}

}  // namespace

Ask read_ask(std::string_view body, Form form, const Words& words, const AskLimits& limits) {
  const Plain json = parsed(body);
  Fields fields(json);
  Ask ask{.form = form};
  if (const auto model = fields.text("model"); model && *model != words.model)
    throw Refusal(404, "model: expected " + in_quotes(words.model) + ", found " + in_quotes(*model), "model",
                  "model_not_found");
  ask.n = fields.number<std::size_t>("n", {1, limits.answers}).value_or(1);
  ask.streams = fields.flag("stream");
  if (const Plain* const options = fields.find("stream_options")) {
    if (!ask.streams)
      throw Refusal(400, "stream_options: expected stream to be true, found it is not", "stream_options");
    Fields own(*options, "stream_options.");
    ask.wants_usage = own.flag("include_usage");
    own.ignore({"include_obfuscation"});
    own.end();
  }
  ask.how.max_tokens = most_tokens_of(fields, limits);
  ask.how.stops = stops_of(fields);
  ask.how.sampler = sampler_of(fields);
  ask.how.logprobs = logprobs_of(fields, form);
  ask.ignores_end = fields.flag("ignore_eos");
  read_extension(fields, ask, limits);
  refuse_unsupported(fields, form);
  // Of all this the prompt costs most: it is last, once nothing else is wrong.
  if (form == Form::chat) fields.ignore({"messages", "chat_template_kwargs"});
  if (form == Form::completion) fields.ignore({"prompt"});
  fields.end();
  if (form == Form::chat)
    ask.prompts.push_back(chat_tokens(fields, words));
  else
    ask.prompts = prompts_of(fields, words, limits.answers);
  if (ask.answers() > limits.answers)
    throw Refusal(400,
                  "n: expected at most " + std::to_string(limits.answers) + " answers in all, found " +
                      std::to_string(ask.answers()),
                  "n");
  return ask;
}

Json tokenized(std::string_view body, const Words& words) {
  const Plain json = parsed(body);
  Fields fields(json);
  fields.ignore({"model"});
  const auto content = fields.text("content");
  const bool adds = fields.flag("add_special", true);
  fields.ignore({"messages", "chat_template_kwargs"});
  fields.end();
  if (content.has_value() == json.contains("messages"))
    throw Refusal(400, "content: expected either content or messages", "content");
  const std::vector<Token> tokens =
      content ? words.tokenizer.encode(*content, adds ? Specials::as_trained : Specials::parse_only)
              : chat_tokens(fields, words);
  return {{"tokens", tokens}, {"count", tokens.size()}};
}

}  // namespace pith::tool
