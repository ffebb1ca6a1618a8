// SPDX-License-Identifier: MIT
#include "pith/generator.hpp"

#include <cmath>
#include <filesystem>
#include <limits>

#include "c/call.hpp"
#include "c/handles.hpp"
#include "c/options.hpp"

namespace pith::c {

template <>
pith_request defaults() {
  pith_request request{};
  request.size = sizeof request;
  request.max_tokens = PITH_NO_LIMIT;
  request.logprobs = -1;
  request.tau = std::numeric_limits<float>::quiet_NaN();
  request.conversation = PITH_NO_CONVERSATION;
  return request;
}

namespace {

// A pith_finish is a Finish's number and one.
constexpr pith_finish in_c(Finish finish) { return static_cast<pith_finish>(finish) + 1; }
static_assert(in_c(Finish::end) == PITH_FINISH_END);
static_assert(in_c(Finish::context) == PITH_FINISH_CONTEXT);
static_assert(in_c(Finish::error) == PITH_FINISH_ERROR);

/// Calls the caller's function with a piece as C has it.
auto teller(decltype(pith_request::on_piece) tell, void* user) {
  return [tell, user](const Piece& piece) {
    const std::string text(piece.text);
    const auto top = c::in_c(piece.top);
    const Failure failure = piece.error ? failure_of(piece.error) : Failure{};
    const pith_piece told{.size = sizeof(pith_piece),
                          .request = static_cast<pith_request_id>(piece.request),
                          .sequence = piece.sequence ? static_cast<pith_sequence>(*piece.sequence) : PITH_NO_SEQUENCE,
                          .token = piece.token.value_or(PITH_NO_TOKEN),
                          .text = text.c_str(),
                          .length = text.size(),
                          .logprob = piece.logprob.value_or(std::numeric_limits<float>::quiet_NaN()),
                          .top = top.data(),
                          .top_count = top.size(),
                          .logits = piece.logits.data(),
                          .vocab_size = piece.logits.size(),
                          .drafted = piece.drafts.drafted,
                          .accepted = piece.drafts.accepted,
                          .finish = piece.finish ? in_c(*piece.finish) : PITH_FINISH_NONE,
                          .error = failure.status,
                          .error_message = failure.message.c_str()};
    tell(user, &told);
  };
}

Request request_of(const Given& given, const pith_request* request) {
  const auto wanted = received(given, &given(request, "request"), "request");
  Request out;
  if (wanted.prompt != nullptr) {
    if (wanted.tokens != nullptr) given.refuse("request.prompt and request.tokens are both there, expected one");
    out.prompt = std::string(wanted.prompt);
  } else {
    if (wanted.tokens == nullptr) given.refuse("request.prompt is NULL, and so is request.tokens");
    out.prompt = std::vector<Token>(wanted.tokens, wanted.tokens + wanted.token_count);
  }
  if (wanted.max_tokens != PITH_NO_LIMIT) out.max_tokens = wanted.max_tokens;
  for (const char* const stop : given(wanted.stops, wanted.stop_count, "request.stops"))
    out.stops.emplace_back(&given(stop, "request.stops[" + std::to_string(out.stops.size()) + "]"));
  const auto ends = given(wanted.ends, wanted.end_count, "request.ends");
  if (wanted.ends != nullptr) out.ends = std::vector<Token>(ends.begin(), ends.end());
  if (wanted.logprobs < -1)
    given.refuse("request.logprobs is " + std::to_string(wanted.logprobs) + ", expected -1 (none) or a count");
  if (wanted.logprobs >= 0) out.logprobs = static_cast<std::size_t>(wanted.logprobs);
  out.sampler = sampler_options(given, wanted.sampler, "request.sampler");
  out.draft = {.tokens = wanted.draft_tokens, .layers = wanted.draft_layers};
  if (!std::isnan(wanted.tau)) out.tau = wanted.tau;
  out.pinned = wanted.pinned;
  out.prefix = wanted.prefix;
  if (wanted.conversation != PITH_NO_CONVERSATION) out.conversation = ConversationId{wanted.conversation};
  if (wanted.on_piece != nullptr) out.on_piece = teller(wanted.on_piece, wanted.user);
  if (wanted.on_prompt != nullptr)
    out.on_prompt = [tell = wanted.on_prompt, user = wanted.user](SequenceId sequence, std::size_t position,
                                                                  std::span<const float> logits) {
      tell(user, static_cast<pith_sequence>(sequence), position, logits.data(), logits.size());
    };
  return out;
}

struct OwnedGeneration : pith_generation {
  Generation own;
  std::vector<pith_token_logprob> likeliest;
};

pith_generation* in_c(Generation generation) {
  auto owned = std::make_unique<OwnedGeneration>();
  owned->own = std::move(generation);
  const Generation& own = owned->own;
  for (const auto& row : own.top)
    for (const pith_token_logprob& one : c::in_c(row)) owned->likeliest.push_back(one);
  static_cast<pith_generation&>(*owned) = {.size = sizeof(pith_generation),
                                           .tokens = own.tokens.data(),
                                           .token_count = own.tokens.size(),
                                           .text = own.text.c_str(),
                                           .length = own.text.size(),
                                           .logprobs = own.logprobs.empty() ? nullptr : own.logprobs.data(),
                                           .top = owned->likeliest.empty() ? nullptr : owned->likeliest.data(),
                                           .top_count = own.top.empty() ? 0 : own.top.front().size(),
                                           .drafted = own.drafts.drafted,
                                           .accepted = own.drafts.accepted,
                                           .finish = in_c(own.finish)};
  return owned.release();
}

}  // namespace
}  // namespace pith::c

using namespace pith::c;

const char* pith_finish_name(pith_finish finish) {
  if (finish == PITH_FINISH_NONE) return "none";
  if (finish < PITH_FINISH_NONE || finish > PITH_FINISH_ERROR) return "unknown";
  return name(static_cast<pith::Finish>(finish - 1)).data();  // a literal's
}

pith_status pith_request_init(pith_request* request, size_t size) { return init(__func__, request, size); }

pith_status pith_generator_create(const pith_model* model, const pith_tokenizer* tokenizer,
                                  const pith_session_options* options, size_t at_once, pith_generator** generator) {
  return call(__func__, [&](const Given& given) {
    const pith::Model& of = given(model, "model").model;
    pith_generator*& out = given(generator, "generator");
    std::optional<pith::Tokenizer> text;
    if (tokenizer != nullptr) text = tokenizer->tokenizer;
    const pith::PrefixOptions prefixes{.bytes = received(given, options, "options").prefix_bytes};
    out = new pith_generator{pith::Generator(of, std::move(text), session_options(given, options, of),
                                             at_once == 0 ? 16 : at_once, prefixes)};
  });
}

void pith_generator_free(pith_generator* generator) { delete generator; }

pith_status pith_generator_submit(pith_generator* generator, const pith_request* request, pith_request_id* id) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    const auto submitted = static_cast<pith_request_id>(of.submit(request_of(given, request)));
    if (id != nullptr) *id = submitted;
  });
}

pith_status pith_generator_cancel(pith_generator* generator, pith_request_id id) {
  return call(__func__,
              [&](const Given& given) { given(generator, "generator").generator.cancel(pith::RequestId{id}); });
}

pith_status pith_generator_step(pith_generator* generator, const pith_stop* stop, bool* more) {
  return call(__func__, [&](const Given& given) {
    const bool left = given(generator, "generator").generator.step(token_of(stop));
    if (more != nullptr) *more = left;
  });
}

pith_status pith_generator_run(pith_generator* generator, const pith_stop* stop) {
  return call(__func__, [&](const Given& given) { given(generator, "generator").generator.run(token_of(stop)); });
}

pith_status pith_generator_serve(pith_generator* generator, const pith_stop* stop) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    of.serve(token_of(&given(stop, "stop")));
  });
}

pith_status pith_generator_generate(pith_generator* generator, const pith_request* request, const pith_stop* stop,
                                    pith_generation** generation) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    pith_generation*& out = given(generation, "generation");
    out = in_c(of.generate(request_of(given, request), token_of(stop)));
  });
}

void pith_generation_free(pith_generation* generation) { delete static_cast<OwnedGeneration*>(generation); }

pith_status pith_generator_pending(const pith_generator* generator, size_t* count) {
  return call(__func__,
              [&](const Given& given) { given(count, "count") = given(generator, "generator").generator.pending(); });
}

pith_status pith_generator_open(pith_generator* generator, pith_conversation* conversation) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    pith_conversation& out = given(conversation, "conversation");
    out = static_cast<pith_conversation>(of.open());
  });
}

pith_status pith_generator_close(pith_generator* generator, pith_conversation conversation) {
  return call(__func__, [&](const Given& given) {
    given(generator, "generator").generator.close(pith::ConversationId{conversation});
  });
}

pith_status pith_generator_save(pith_generator* generator, pith_conversation conversation, const char* path,
                                const char* note) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    of.save(pith::ConversationId{conversation}, &given(path, "path"), note != nullptr ? note : "");
  });
}

pith_status pith_generator_restore(pith_generator* generator, const char* path, pith_conversation* conversation,
                                   char** note) {
  return call(__func__, [&](const Given& given) {
    pith::Generator& of = given(generator, "generator").generator;
    const std::filesystem::path file(&given(path, "path"));
    pith_conversation& out = given(conversation, "conversation");
    const auto [id, noted] = of.restore(file);
    out = static_cast<pith_conversation>(id);
    if (note != nullptr) *note = copied(noted);
  });
}

pith_status pith_generator_stats(const pith_generator* generator, pith_stats** stats) {
  return call(__func__, [&](const Given& given) {
    const pith::Generator& of = given(generator, "generator").generator;
    pith_stats*& out = given(stats, "stats");
    out = pith::c::in_c(of.load().cache);
  });
}
