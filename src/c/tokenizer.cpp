// SPDX-License-Identifier: MIT
#include "pith/tokenizer.hpp"

#include "c/call.hpp"
#include "c/handles.hpp"

namespace pith::c {

template <>
pith_chat_options defaults() {
  return {.size = sizeof(pith_chat_options),
          .add_generation_prompt = true,
          .tools = nullptr,
          .variables = nullptr,
          .name = nullptr};
}

namespace {

Specials specials_of(const Given& given, pith_specials specials) {
  if (specials < PITH_SPECIALS_ADD_ONLY || specials > PITH_SPECIALS_PLAIN)
    given.refuse("specials is " + std::to_string(specials) + ", expected one of PITH_SPECIALS_…");
  constexpr Specials all[] = {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain};
  return all[specials];
}

ChatOptions chat_options(const Given& given, const pith_chat_options* options) {
  const auto chosen = received(given, options, "options");
  ChatOptions how{.add_generation_prompt = chosen.add_generation_prompt};
  if (chosen.tools != nullptr) how.tools = chosen.tools;
  if (chosen.variables != nullptr) how.variables = chosen.variables;
  if (chosen.name != nullptr) how.name = chosen.name;
  return how;
}

/// Where tokens are to go.
struct Room {
  pith_token*& tokens;
  size_t& count;

  void hand_over(const std::vector<Token>& values) {
    tokens = copied(std::span(values));
    count = values.size();
  }
};

void hand_over(pith_text_stream& stream, const char*& text, size_t* length) {
  text = stream.text.c_str();
  if (length != nullptr) *length = stream.text.size();
}

}  // namespace
}  // namespace pith::c

using namespace pith::c;

pith_status pith_tokenizer_load(const char* path, pith_tokenizer** tokenizer) {
  return call(__func__, [&](const Given& given) {
    given(path, "path");
    pith_tokenizer*& out = given(tokenizer, "tokenizer");
    out = new pith_tokenizer{pith::Tokenizer::load(path)};
  });
}

void pith_tokenizer_free(pith_tokenizer* tokenizer) { delete tokenizer; }

pith_status pith_tokenizer_encode(const pith_tokenizer* tokenizer, const char* text, size_t length,
                                  pith_specials specials, pith_token** tokens, size_t* count) {
  return call(__func__, [&](const Given& given) {
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    const auto bytes = given(text, length, "text");
    Room room{given(tokens, "tokens"), given(count, "count")};
    room.hand_over(of.encode({bytes.data(), bytes.size()}, specials_of(given, specials)));
  });
}

pith_status pith_tokenizer_decode(const pith_tokenizer* tokenizer, const pith_token* tokens, size_t count,
                                  bool with_specials, char** text, size_t* length) {
  return call(__func__, [&](const Given& given) {
    using Show = pith::Tokenizer::Show;
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    char*& out = given(text, "text");
    const std::string decoded =
        of.decode(given(tokens, count, "tokens"), with_specials ? Show::with_specials : Show::text_only);
    out = copied(decoded);
    if (length != nullptr) *length = decoded.size();
  });
}

pith_status pith_chat_options_init(pith_chat_options* options, size_t size) { return init(__func__, options, size); }

pith_status pith_tokenizer_chat(const pith_tokenizer* tokenizer, const pith_message* messages, size_t count,
                                const pith_chat_options* options, pith_token** tokens, size_t* token_count) {
  return call(__func__, [&](const Given& given) {
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    std::vector<pith::Message> conversation;
    for (const pith_message& message : given(messages, count, "messages")) {
      const std::string name = "messages[" + std::to_string(conversation.size()) + "]";
      given(message.role, name + ".role");
      given(message.content, name + ".content");
      conversation.push_back({.role = message.role, .content = message.content});
    }
    Room room{given(tokens, "tokens"), given(token_count, "token_count")};
    room.hand_over(of.chat(conversation, chat_options(given, options)));
  });
}

pith_status pith_tokenizer_chat_json(const pith_tokenizer* tokenizer, const char* messages,
                                     const pith_chat_options* options, pith_token** tokens, size_t* token_count) {
  return call(__func__, [&](const Given& given) {
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    given(messages, "messages");
    Room room{given(tokens, "tokens"), given(token_count, "token_count")};
    room.hand_over(of.chat_json(messages, chat_options(given, options)));
  });
}

pith_status pith_tokenizer_vocab_size(const pith_tokenizer* tokenizer, int32_t* vocab_size) {
  return call(__func__, [&](const Given& given) {
    given(vocab_size, "vocab_size") = given(tokenizer, "tokenizer").tokenizer.vocab_size();
  });
}

pith_status pith_tokenizer_bos(const pith_tokenizer* tokenizer, pith_token* bos) {
  return call(__func__, [&](const Given& given) {
    given(bos, "bos") = given(tokenizer, "tokenizer").tokenizer.bos().value_or(PITH_NO_TOKEN);
  });
}

pith_status pith_tokenizer_is_end(const pith_tokenizer* tokenizer, pith_token token, bool* is_end) {
  return call(__func__, [&](const Given& given) {
    given(is_end, "is_end") = given(tokenizer, "tokenizer").tokenizer.is_end(token);
  });
}

pith_status pith_tokenizer_id(const pith_tokenizer* tokenizer, const char* token, pith_token* id) {
  return call(__func__, [&](const Given& given) {
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    given(token, "token");
    given(id, "id") = of.id(token).value_or(PITH_NO_TOKEN);
  });
}

pith_status pith_text_stream_create(const pith_tokenizer* tokenizer, pith_text_stream** stream) {
  return call(__func__, [&](const Given& given) {
    const pith::Tokenizer& of = given(tokenizer, "tokenizer").tokenizer;
    pith_text_stream*& out = given(stream, "stream");
    out = new pith_text_stream{pith::TextStream(of), {}};
  });
}

pith_status pith_text_stream_push(pith_text_stream* stream, pith_token token, const char** text, size_t* length) {
  return call(__func__, [&](const Given& given) {
    pith_text_stream& of = given(stream, "stream");
    const char*& out = given(text, "text");
    of.text = of.stream.push(token);
    hand_over(of, out, length);
  });
}

pith_status pith_text_stream_flush(pith_text_stream* stream, const char** text, size_t* length) {
  return call(__func__, [&](const Given& given) {
    pith_text_stream& of = given(stream, "stream");
    const char*& out = given(text, "text");
    of.text = of.stream.flush();
    hand_over(of, out, length);
  });
}

void pith_text_stream_free(pith_text_stream* stream) { delete stream; }
