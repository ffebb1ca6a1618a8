// SPDX-License-Identifier: MIT
#include "server/answer.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace pith::tool {

namespace {

const char* finish_reason(Finish finish) { return finish == Finish::end || finish == Finish::stop ? "stop" : "length"; }

Json finish_json(const std::optional<Finish>& finish) { return finish ? Json(finish_reason(*finish)) : Json(nullptr); }

Json held_json(const Held& held) {
  return {{"rows_seen", held.rows_seen},
          {"rows_dropped", held.rows_dropped},
          {"kv_bytes", held.bytes},
          {"kv_bytes_dense", held.bytes_dense}};
}

/// Of UTF-8.
std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// Appends what one token adds to what the tokens before it had.
void append(Json& all, const Json& more) {
  if (all.is_null()) {
    all = more;
    return;
  }
  for (const auto& [name, values] : more.items())
    for (const Json& value : values) all[name].push_back(value);
}

}  // namespace

Answer::Answer(const Ask& ask, const Words& words, std::string id)
    : ask_(ask), words_(words), id_(std::move(id)), left_(ask.answers()) {
  for (std::size_t i = 0; i < ask.answers(); ++i) choices_.push_back(Choice{.texts = TokenTexts(words.tokenizer)});
}

Json Answer::outer(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", words_.model}};
}

Json Answer::begin(std::size_t choice) const {
  Json one = {{"index", choice}};
  if (ask_.form == Form::chat)
    one["delta"] = {{"role", "assistant"}, {"content", ""}};
  else
    one["text"] = "";
  one["logprobs"] = nullptr;
  one["finish_reason"] = nullptr;
  if (ask_.wants_drops) {
    TokenTexts texts(words_.tokenizer);
    Json prompt = Json::array(), specials = Json::array();
    for (const Token token : ask_.prompts[choice / ask_.n]) {
      if (texts.is_special(token)) specials.push_back(prompt.size());
      prompt.push_back(texts.next(token));
    }
    one["pith"] = {{"prompt", std::move(prompt)}, {"specials", std::move(specials)}};
  }
  Json out = outer(ask_.form == Form::chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = Json::array({std::move(one)});
  return out;
}

std::optional<Json> Answer::add(const Part& part) {
  Choice& choice = choices_[part.choice];
  choice.text += part.text;
  if (part.token) ++choice.tokens;
  choice.reused = part.reused;
  if (part.finish) {
    choice.finish = part.finish;
    choice.held = part.held;
    --left_;
  }
  Json logprobs = logprobs_of(choice, part);
  Json more = extension(choice, part);
  if (part.text.empty() && logprobs.is_null() && more.empty() && !part.finish) return std::nullopt;
  Json one = {{"index", part.choice}};
  if (ask_.form == Form::chat)
    one["delta"] = part.text.empty() ? Json::object() : Json{{"content", part.text}};
  else
    one["text"] = part.text;
  one["logprobs"] = std::move(logprobs);
  one["finish_reason"] = finish_json(part.finish);
  if (!more.empty()) one["pith"] = std::move(more);
  Json out = outer(ask_.form == Form::chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = Json::array({std::move(one)});
  return out;
}

Json Answer::usage_chunk() const {
  Json out = outer(ask_.form == Form::chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = Json::array();
  out["usage"] = usage();
  return out;
}

Json Answer::whole() const {
  Json out = outer(ask_.form == Form::chat ? "chat.completion" : "text_completion");
  Json choices = Json::array();
  for (const Choice& choice : choices_) {
    Json one = {{"index", choices.size()}};
    if (ask_.form == Form::chat)
      one["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    else
      one["text"] = choice.text;
    one["logprobs"] = choice.logprobs;
    one["finish_reason"] = finish_json(choice.finish);
    if (ask_.wants_held && choice.held) one["pith"] = held_json(*choice.held);
    choices.push_back(std::move(one));
  }
  out["choices"] = std::move(choices);
  out["usage"] = usage();
  return out;
}

std::size_t Answer::prompt_tokens() const {
  return std::accumulate(ask_.prompts.begin(), ask_.prompts.end(), std::size_t{0},
                         [](std::size_t sum, const auto& prompt) { return sum + prompt.size(); });
}

std::size_t Answer::tokens() const {
  return std::accumulate(choices_.begin(), choices_.end(), std::size_t{0},
                         [](std::size_t sum, const Choice& choice) { return sum + choice.tokens; });
}

Json Answer::usage() const {
  std::size_t reused = 0;  // a prompt counts once, by its first answer
  for (std::size_t i = 0; i < choices_.size(); i += ask_.n) reused += choices_[i].reused;
  return {{"prompt_tokens", prompt_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", reused}}},
          {"completion_tokens", tokens()},
          {"total_tokens", prompt_tokens() + tokens()}};
}

Json Answer::chat_logprob(Token token, float logprob) const {
  const Token one[] = {token};
  const std::string bytes = words_.tokenizer.is_special(token)
                                ? words_.tokenizer.decode(one, Tokenizer::Show::with_specials)
                                : std::string(words_.tokenizer.piece(token));
  Json codes = Json::array();
  for (const char c : bytes) codes.push_back(static_cast<unsigned char>(c));
  return {{"token", bytes}, {"logprob", logprob}, {"bytes", std::move(codes)}};
}

/// Of the part's token; null where there is none, or none was asked for.
Json Answer::logprobs_of(Choice& choice, const Part& part) const {
  if (!part.token || !part.logprob) return nullptr;
  Json token = chat_logprob(*part.token, *part.logprob);
  Json out;
  if (ask_.form == Form::chat) {
    Json top = Json::array();
    for (const TokenLogprob& one : part.top) top.push_back(chat_logprob(one.token, one.logprob));
    token["top_logprobs"] = std::move(top);
    out = {{"content", Json::array({std::move(token)})}};
  } else {
    Json top = Json::object();
    for (const TokenLogprob& one : part.top) {
      const Json likely = chat_logprob(one.token, one.logprob);
      top[likely["token"].get<std::string>()] = one.logprob;
    }
    out = {{"tokens", {token["token"]}},
           {"token_logprobs", {*part.logprob}},
           {"top_logprobs", Json::array({std::move(top)})},
           {"text_offset", {choice.offset}}};
    choice.offset += characters(token["token"].get_ref<const std::string&>());
  }
  append(choice.logprobs, out);
  return out;
}

/// What was dropped, and which token came, for who asked; the sequence's end for who asked anything.
Json Answer::extension(Choice& choice, const Part& part) const {
  Json out = Json::object();
  if (ask_.wants_drops) {
    if (part.again) out["again"] = true;
    if (part.rows_per_token > 0) out["rows_per_token"] = part.rows_per_token;
    if (part.token) {
      out["token"] = choice.texts.next(*part.token);
      if (choice.texts.is_special(*part.token)) out["special"] = true;
    }
    if (!part.drops.empty()) out["drops"] = part.drops;
  }
  if (ask_.wants_held && part.held) out["held"] = held_json(*part.held);
  return out;
}

}  // namespace pith::tool
