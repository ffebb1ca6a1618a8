// SPDX-License-Identifier: MIT
// api MODEL SCRATCH: what pith.h promises, as a C compiler and a C program see it. MODEL: a small one with gates and a
// tokenizer; SCRATCH: a folder to write in.
#include <math.h>
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

static void check(bool holds, const char* what, int line) {
  ++checks;
  if (holds) return;
  ++failures;
  fprintf(stderr, "api.c:%d: %s [latest error: %s]\n", line, what, pith_error_message());
}
#define CHECK(holds) check((holds), #holds, __LINE__)
#define OK(call) CHECK((call) == PITH_OK)

/// A call is refused with a message that begins with the function's name and has `part` in it.
static void check_fails(pith_status status, pith_status expected, const char* call, const char* part, int line) {
  const char* const message = pith_error_message();
  check(status == expected, call, line);
  check(strstr(message, part) != NULL, part, line);
}
#define FAILS(call, status, part) check_fails((call), (status), #call, (part), __LINE__)

static void check_null(pith_status status, const char* call, const char* parameter, int line) {
  char expected[200];
  snprintf(expected, sizeof expected, "%.*s: %s is NULL", (int)strcspn(call, "("), call, parameter);
  check_fails(status, PITH_ERROR_ARGUMENT, call, expected, line);
}
#define REFUSES_NULL(call, parameter) check_null((call), #call, (parameter), __LINE__)

static const char *folder, *scratch;
static pith_model* model;
static pith_tokenizer* tokenizer;

static const char story[] = "The old house stood at the end of the lane, and nobody had lived there for years.";

static void encode(const char* text, pith_token** tokens, size_t* count) {
  OK(pith_tokenizer_encode(tokenizer, text, strlen(text), PITH_SPECIALS_ADD_ONLY, tokens, count));
}

// --- Errors ----------------------------------------------------------------------------------------------------------

static void statuses_have_names(void) {
  CHECK(strcmp(pith_status_name(PITH_OK), "ok") == 0);
  CHECK(strcmp(pith_status_name(PITH_ERROR_FILE), "file") == 0);
  CHECK(strcmp(pith_status_name(PITH_ERROR_CANCELLED), "cancelled") == 0);
  CHECK(strcmp(pith_status_name(PITH_ERROR_MEMORY), "memory") == 0);
  CHECK(strcmp(pith_status_name(PITH_ERROR_INTERNAL), "internal") == 0);
  CHECK(strcmp(pith_status_name(-1), "unknown") == 0);
  CHECK(strcmp(pith_status_name(99), "unknown") == 0);
  CHECK(strcmp(pith_finish_name(PITH_FINISH_NONE), "none") == 0);
  CHECK(strcmp(pith_finish_name(PITH_FINISH_ERROR), "error") == 0);
  CHECK(strcmp(pith_finish_name(-1), "unknown") == 0);
  CHECK(strcmp(pith_finish_name(99), "unknown") == 0);
  CHECK(strchr(pith_version(), '.') != NULL);
}

static void before_any_error_there_is_no_message(void) {
  CHECK(strcmp(pith_error_message(), "") == 0);
  CHECK(pith_error_sequence() == PITH_NO_SEQUENCE);
}

static void what_fails_leaves_results_alone(void) {
  pith_model* untouched = model;
  FAILS(pith_model_load("/no/such/model", NULL, &untouched), PITH_ERROR_FILE, "/no/such/model");
  CHECK(untouched == model);
  pith_load_options options;
  OK(pith_load_options_init(&options, sizeof options));
  options.gates = "/no/such/gates";
  FAILS(pith_model_load(folder, &options, &untouched), PITH_ERROR_FILE, "/no/such/gates");
  CHECK(untouched == model);
}

static void null_is_refused_wherever_it_may_not_be(void) {
  pith_token *tokens = NULL, token = 1;
  size_t count = 0;
  char* text = NULL;
  const char* piece = NULL;
  bool flag = false;
  int32_t number = 0, position = 0, *numbers = NULL;
  float value = 0;
  const float logits[2] = {0, 1};

  pith_stop* stop = NULL;
  REFUSES_NULL(pith_stop_create(NULL), "stop");
  REFUSES_NULL(pith_stop_request(NULL), "stop");

  pith_model* other = NULL;
  REFUSES_NULL(pith_load_options_init(NULL, sizeof(pith_load_options)), "the struct");
  REFUSES_NULL(pith_model_load(NULL, NULL, &other), "path");
  REFUSES_NULL(pith_model_load(folder, NULL, NULL), "model");
  const pith_model_info* info = NULL;
  REFUSES_NULL(pith_model_describe(NULL, &info), "model");
  REFUSES_NULL(pith_model_describe(model, NULL), "info");

  pith_tokenizer* reader = NULL;
  REFUSES_NULL(pith_tokenizer_load(NULL, &reader), "path");
  REFUSES_NULL(pith_tokenizer_load(folder, NULL), "tokenizer");
  REFUSES_NULL(pith_tokenizer_encode(NULL, "a", 1, 0, &tokens, &count), "tokenizer");
  REFUSES_NULL(pith_tokenizer_encode(tokenizer, NULL, 1, 0, &tokens, &count), "text");
  REFUSES_NULL(pith_tokenizer_encode(tokenizer, "a", 1, 0, NULL, &count), "tokens");
  REFUSES_NULL(pith_tokenizer_encode(tokenizer, "a", 1, 0, &tokens, NULL), "count");
  REFUSES_NULL(pith_tokenizer_decode(NULL, &token, 1, false, &text, NULL), "tokenizer");
  REFUSES_NULL(pith_tokenizer_decode(tokenizer, NULL, 1, false, &text, NULL), "tokens");
  REFUSES_NULL(pith_tokenizer_decode(tokenizer, &token, 1, false, NULL, NULL), "text");
  const pith_message message = {"user", "Hello"}, nobody = {NULL, "Hello"}, nothing = {"user", NULL};
  REFUSES_NULL(pith_chat_options_init(NULL, sizeof(pith_chat_options)), "the struct");
  REFUSES_NULL(pith_tokenizer_chat(NULL, &message, 1, NULL, &tokens, &count), "tokenizer");
  REFUSES_NULL(pith_tokenizer_chat(tokenizer, NULL, 1, NULL, &tokens, &count), "messages");
  REFUSES_NULL(pith_tokenizer_chat(tokenizer, &nobody, 1, NULL, &tokens, &count), "messages[0].role");
  REFUSES_NULL(pith_tokenizer_chat(tokenizer, &nothing, 1, NULL, &tokens, &count), "messages[0].content");
  REFUSES_NULL(pith_tokenizer_chat(tokenizer, &message, 1, NULL, NULL, &count), "tokens");
  REFUSES_NULL(pith_tokenizer_chat(tokenizer, &message, 1, NULL, &tokens, NULL), "token_count");
  REFUSES_NULL(pith_tokenizer_chat_json(NULL, "[]", NULL, &tokens, &count), "tokenizer");
  REFUSES_NULL(pith_tokenizer_chat_json(tokenizer, NULL, NULL, &tokens, &count), "messages");
  REFUSES_NULL(pith_tokenizer_chat_json(tokenizer, "[]", NULL, NULL, &count), "tokens");
  REFUSES_NULL(pith_tokenizer_chat_json(tokenizer, "[]", NULL, &tokens, NULL), "token_count");
  REFUSES_NULL(pith_tokenizer_vocab_size(NULL, &number), "tokenizer");
  REFUSES_NULL(pith_tokenizer_vocab_size(tokenizer, NULL), "vocab_size");
  REFUSES_NULL(pith_tokenizer_bos(NULL, &token), "tokenizer");
  REFUSES_NULL(pith_tokenizer_bos(tokenizer, NULL), "bos");
  REFUSES_NULL(pith_tokenizer_is_end(NULL, 1, &flag), "tokenizer");
  REFUSES_NULL(pith_tokenizer_is_end(tokenizer, 1, NULL), "is_end");
  REFUSES_NULL(pith_tokenizer_id(NULL, "a", &token), "tokenizer");
  REFUSES_NULL(pith_tokenizer_id(tokenizer, NULL, &token), "token");
  REFUSES_NULL(pith_tokenizer_id(tokenizer, "a", NULL), "id");
  pith_text_stream* stream = NULL;
  REFUSES_NULL(pith_text_stream_create(NULL, &stream), "tokenizer");
  REFUSES_NULL(pith_text_stream_create(tokenizer, NULL), "stream");
  OK(pith_text_stream_create(tokenizer, &stream));
  REFUSES_NULL(pith_text_stream_push(NULL, 1, &piece, NULL), "stream");
  REFUSES_NULL(pith_text_stream_push(stream, 1, NULL, NULL), "text");
  REFUSES_NULL(pith_text_stream_flush(NULL, &piece, NULL), "stream");
  REFUSES_NULL(pith_text_stream_flush(stream, NULL, NULL), "text");
  pith_text_stream_free(stream);

  pith_sampler* sampler = NULL;
  pith_sampler_options choice;
  REFUSES_NULL(pith_sampler_options_init(NULL, sizeof choice), "the struct");
  REFUSES_NULL(pith_sampler_create(NULL, NULL), "sampler");
  OK(pith_sampler_options_init(&choice, sizeof choice));
  choice.banned_count = 1;
  REFUSES_NULL(pith_sampler_create(&choice, &sampler), "options.banned");
  OK(pith_sampler_create(NULL, &sampler));
  REFUSES_NULL(pith_sampler_choose(NULL, logits, 2, &token), "sampler");
  REFUSES_NULL(pith_sampler_choose(sampler, NULL, 2, &token), "logits");
  REFUSES_NULL(pith_sampler_choose(sampler, logits, 2, NULL), "token");
  REFUSES_NULL(pith_sampler_accept(NULL, &token, 1), "sampler");
  REFUSES_NULL(pith_sampler_accept(sampler, NULL, 1), "tokens");
  pith_sampler_free(sampler);
  REFUSES_NULL(pith_logprob(NULL, 2, 1, &value), "logits");
  REFUSES_NULL(pith_logprob(logits, 2, 1, NULL), "logprob");
  pith_token_logprob top = {0, 0};
  REFUSES_NULL(pith_top_logprobs(NULL, 2, &top, 1), "logits");
  REFUSES_NULL(pith_top_logprobs(logits, 2, NULL, 1), "top");

  REFUSES_NULL(pith_session_options_init(NULL, sizeof(pith_session_options)), "the struct");
  REFUSES_NULL(pith_policy_parse(NULL, 0, &text), "policy");

  pith_generator* generator = NULL;
  pith_request request;
  pith_request_id id = 0;
  REFUSES_NULL(pith_generator_create(NULL, tokenizer, NULL, 0, &generator), "model");
  REFUSES_NULL(pith_generator_create(model, tokenizer, NULL, 0, NULL), "generator");
  OK(pith_generator_create(model, tokenizer, NULL, 0, &generator));
  REFUSES_NULL(pith_request_init(NULL, sizeof request), "the struct");
  OK(pith_request_init(&request, sizeof request));
  REFUSES_NULL(pith_generator_submit(NULL, &request, &id), "generator");
  REFUSES_NULL(pith_generator_submit(generator, NULL, &id), "request");
  REFUSES_NULL(pith_generator_submit(generator, &request, &id), "request.prompt");
  request.prompt = story;
  request.stop_count = 1;
  REFUSES_NULL(pith_generator_submit(generator, &request, &id), "request.stops");
  const char* const stops[] = {"a", NULL};
  request.stops = stops;
  request.stop_count = 2;
  REFUSES_NULL(pith_generator_submit(generator, &request, &id), "request.stops[1]");
  request.stop_count = 0;
  request.end_count = 1;
  REFUSES_NULL(pith_generator_submit(generator, &request, &id), "request.ends");
  request.end_count = 0;
  choice.banned_count = 0;
  choice.allowed_count = 1;
  request.sampler = &choice;
  REFUSES_NULL(pith_generator_submit(generator, &request, &id), "request.sampler.allowed");
  request.sampler = NULL;
  REFUSES_NULL(pith_generator_cancel(NULL, 0), "generator");
  REFUSES_NULL(pith_generator_step(NULL, NULL, &flag), "generator");
  REFUSES_NULL(pith_generator_run(NULL, NULL), "generator");
  REFUSES_NULL(pith_generator_serve(NULL, stop), "generator");
  REFUSES_NULL(pith_generator_serve(generator, NULL), "stop");
  pith_generation* generation = NULL;
  REFUSES_NULL(pith_generator_generate(NULL, &request, NULL, &generation), "generator");
  REFUSES_NULL(pith_generator_generate(generator, NULL, NULL, &generation), "request");
  REFUSES_NULL(pith_generator_generate(generator, &request, NULL, NULL), "generation");
  REFUSES_NULL(pith_generator_pending(NULL, &count), "generator");
  REFUSES_NULL(pith_generator_pending(generator, NULL), "count");
  OK(pith_generator_pending(generator, &count));
  CHECK(count == 0);
  pith_conversation conversation = 0;
  REFUSES_NULL(pith_generator_open(NULL, &conversation), "generator");
  REFUSES_NULL(pith_generator_open(generator, NULL), "conversation");
  REFUSES_NULL(pith_generator_close(NULL, 0), "generator");
  REFUSES_NULL(pith_generator_save(NULL, 0, "file", NULL), "generator");
  REFUSES_NULL(pith_generator_save(generator, 0, NULL, NULL), "path");
  REFUSES_NULL(pith_generator_restore(NULL, "file", &conversation, NULL), "generator");
  REFUSES_NULL(pith_generator_restore(generator, NULL, &conversation, NULL), "path");
  REFUSES_NULL(pith_generator_restore(generator, "file", NULL, NULL), "conversation");
  pith_stats* stats = NULL;
  REFUSES_NULL(pith_generator_stats(NULL, &stats), "generator");
  REFUSES_NULL(pith_generator_stats(generator, NULL), "stats");
  pith_generator_free(generator);

  pith_session* session = NULL;
  pith_sequence sequence = 0;
  const pith_output* outputs = NULL;
  size_t layers, lanes, length;
  REFUSES_NULL(pith_session_create(NULL, NULL, &session), "model");
  REFUSES_NULL(pith_session_create(model, NULL, NULL), "session");
  OK(pith_session_create(model, NULL, &session));
  REFUSES_NULL(pith_session_add(NULL, &token, 1, 0, &sequence), "session");
  REFUSES_NULL(pith_session_add(session, NULL, 1, 0, &sequence), "tokens");
  REFUSES_NULL(pith_session_add(session, &token, 1, 0, NULL), "sequence");
  OK(pith_session_add(session, &token, 1, 0, &sequence));
  REFUSES_NULL(pith_session_prompt(NULL, sequence, &token, 1, 0), "session");
  REFUSES_NULL(pith_session_prompt(session, sequence, NULL, 1, 0), "tokens");
  REFUSES_NULL(pith_session_push(NULL, sequence, &token, 1, 0), "session");
  REFUSES_NULL(pith_session_push(session, sequence, NULL, 1, 0), "tokens");
  REFUSES_NULL(pith_session_step(NULL, NULL, &outputs, &count), "session");
  REFUSES_NULL(pith_session_step(session, NULL, NULL, &count), "outputs");
  REFUSES_NULL(pith_session_step(session, NULL, &outputs, NULL), "count");
  REFUSES_NULL(pith_session_idle(NULL, &flag), "session");
  REFUSES_NULL(pith_session_idle(session, NULL), "idle");
  REFUSES_NULL(pith_session_finish(NULL, sequence), "session");
  REFUSES_NULL(pith_session_fork(NULL, sequence, &sequence), "session");
  REFUSES_NULL(pith_session_fork(session, sequence, NULL), "fork");
  void* bytes = NULL;
  REFUSES_NULL(pith_session_save(NULL, sequence, &bytes, &count), "session");
  REFUSES_NULL(pith_session_save(session, sequence, NULL, &count), "bytes");
  REFUSES_NULL(pith_session_save(session, sequence, &bytes, NULL), "length");
  REFUSES_NULL(pith_session_save_file(NULL, sequence, "file", NULL), "session");
  REFUSES_NULL(pith_session_save_file(session, sequence, NULL, NULL), "path");
  REFUSES_NULL(pith_session_restore(NULL, "a", 1, &sequence), "session");
  REFUSES_NULL(pith_session_restore(session, NULL, 1, &sequence), "bytes");
  REFUSES_NULL(pith_session_restore(session, "a", 1, NULL), "sequence");
  REFUSES_NULL(pith_session_restore_file(NULL, "file", &sequence, &text), "session");
  REFUSES_NULL(pith_session_restore_file(session, NULL, &sequence, &text), "path");
  REFUSES_NULL(pith_session_restore_file(session, "file", NULL, &text), "sequence");
  REFUSES_NULL(pith_session_mark(NULL, sequence), "session");
  REFUSES_NULL(pith_session_rewind(NULL, sequence, 0), "session");
  REFUSES_NULL(pith_session_commit(NULL, sequence), "session");
  REFUSES_NULL(pith_session_set_tau(NULL, sequence, 0), "session");
  REFUSES_NULL(pith_session_keep(NULL, sequence, &position, 1), "session");
  REFUSES_NULL(pith_session_keep(session, sequence, NULL, 1), "positions");
  REFUSES_NULL(pith_session_forget(NULL, sequence, 0, &position, 1), "session");
  REFUSES_NULL(pith_session_forget(session, sequence, 0, NULL, 1), "positions");
  REFUSES_NULL(pith_session_length(NULL, sequence, &count), "session");
  REFUSES_NULL(pith_session_length(session, sequence, NULL), "length");
  REFUSES_NULL(pith_session_stats(NULL, &stats), "session");
  REFUSES_NULL(pith_session_stats(session, NULL), "stats");
  REFUSES_NULL(pith_session_sequence_stats(NULL, sequence, &stats), "session");
  REFUSES_NULL(pith_session_sequence_stats(session, sequence, NULL), "stats");
  REFUSES_NULL(pith_session_drop_at(NULL, sequence, &numbers, &layers, &lanes, &length), "session");
  REFUSES_NULL(pith_session_drop_at(session, sequence, NULL, &layers, &lanes, &length), "drop_at");
  REFUSES_NULL(pith_session_drop_at(session, sequence, &numbers, NULL, &lanes, &length), "layers");
  REFUSES_NULL(pith_session_drop_at(session, sequence, &numbers, &layers, NULL, &length), "lanes");
  REFUSES_NULL(pith_session_drop_at(session, sequence, &numbers, &layers, &lanes, NULL), "length");
  REFUSES_NULL(pith_session_trim(NULL, &count), "session");
  // None of this has hurt it.
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 1);
  pith_session_free(session);
}

static void free_functions_take_null(void) {
  pith_free(NULL);
  pith_stop_free(NULL);
  pith_model_free(NULL);
  pith_tokenizer_free(NULL);
  pith_text_stream_free(NULL);
  pith_sampler_free(NULL);
  pith_stats_free(NULL);
  pith_generation_free(NULL);
  pith_generator_free(NULL);
  pith_session_free(NULL);
}

static void structs_of_other_versions(void) {
  // As a header would have it to which a field was added.
  struct {
    pith_session_options known;
    uint64_t new_field;
  } later;
  OK(pith_session_options_init(&later.known, sizeof later));
  CHECK(later.known.size == sizeof later && later.new_field == 0);
  CHECK(later.known.chunk == 256);
  pith_session* session = NULL;
  OK(pith_session_create(model, &later.known, &session));
  pith_session_free(session);
  later.new_field = 1;
  FAILS(pith_session_create(model, &later.known, &session), PITH_ERROR_ARGUMENT, "does not know yet");

  pith_session_options options;
  FAILS(pith_session_options_init(&options, 3), PITH_ERROR_ARGUMENT, "size is 3");
  memset(&options, 0, sizeof options);
  FAILS(pith_session_create(model, &options, &session), PITH_ERROR_ARGUMENT, "its _init() sets it");
}

static void options_out_of_range_are_named(void) {
  pith_session* session = NULL;
  pith_session_options options;
  OK(pith_session_options_init(&options, sizeof options));
  options.policy = "h2o(rows=many)";
  FAILS(pith_session_create(model, &options, &session), PITH_ERROR_ARGUMENT, "rows");
  options.policy = NULL;
  options.kv = "f17";
  FAILS(pith_session_create(model, &options, &session), PITH_ERROR_ARGUMENT, "options.kv is \"f17\"");
  options.kv = NULL;
  options.gate_keys = "q8_0";
  FAILS(pith_session_create(model, &options, &session), PITH_ERROR_ARGUMENT, "options.gate_keys is \"q8_0\"");
  options.gate_keys = "f16";
  options.threads = -1;
  FAILS(pith_session_create(model, &options, &session), PITH_ERROR_ARGUMENT, "thread");
  CHECK(session == NULL);

  pith_sampler* sampler = NULL;
  pith_sampler_options choice;
  OK(pith_sampler_options_init(&choice, sizeof choice));
  choice.top_p = 2;
  FAILS(pith_sampler_create(&choice, &sampler), PITH_ERROR_ARGUMENT, "top_p");
  CHECK(sampler == NULL);
  pith_token* tokens = NULL;
  size_t count = 0;
  FAILS(pith_tokenizer_encode(tokenizer, "a", 1, 4, &tokens, &count), PITH_ERROR_ARGUMENT, "specials is 4");
  FAILS(pith_tokenizer_encode(tokenizer, "a", 1, -1, &tokens, &count), PITH_ERROR_ARGUMENT, "specials is -1");
}

// --- Texts -----------------------------------------------------------------------------------------------------------

static void models_say_what_they_are(void) {
  const pith_model_info* info = NULL;
  OK(pith_model_describe(model, &info));
  CHECK(info->size == sizeof *info);
  CHECK(strcmp(info->architecture, "llama") == 0);
  CHECK(info->gates && info->layers == 5 && info->parameters > 1000000 && info->bytes > 1000000);
}

static void texts_come_back(void) {
  pith_token* tokens = NULL;
  size_t count = 0, length = 0;
  char* text = NULL;
  encode(story, &tokens, &count);
  CHECK(count > 10 && count < sizeof story);
  OK(pith_tokenizer_decode(tokenizer, tokens, count, false, &text, &length));
  CHECK(length == strlen(story) && strcmp(text, story) == 0);
  pith_free(text);

  char streamed[sizeof story + 1] = "";
  pith_text_stream* stream = NULL;
  OK(pith_text_stream_create(tokenizer, &stream));
  for (size_t i = 0; i <= count; ++i) {
    const char* piece = NULL;
    size_t piece_length = 0;
    if (i < count)
      OK(pith_text_stream_push(stream, tokens[i], &piece, &piece_length));
    else
      OK(pith_text_stream_flush(stream, &piece, NULL));
    CHECK(i == count || strlen(piece) == piece_length);
    strncat(streamed, piece, sizeof streamed - strlen(streamed) - 1);
  }
  CHECK(strcmp(streamed, story) == 0);
  pith_text_stream_free(stream);
  pith_free(tokens);

  // A length says where a text ends, not a NUL.
  OK(pith_tokenizer_encode(tokenizer, "a\0b", 3, PITH_SPECIALS_PLAIN, &tokens, &count));
  OK(pith_tokenizer_decode(tokenizer, tokens, count, false, &text, &length));
  CHECK(length == 3 && memcmp(text, "a\0b", 4) == 0);
  pith_free(text);
  pith_free(tokens);
  OK(pith_tokenizer_encode(tokenizer, NULL, 0, PITH_SPECIALS_PLAIN, &tokens, &count));
  CHECK(count == 0);
  pith_free(tokens);

  int32_t vocab_size = 0;
  pith_token bos = 0, none = 0;
  bool is_end = true;
  OK(pith_tokenizer_vocab_size(tokenizer, &vocab_size));
  CHECK(vocab_size > 256);
  OK(pith_tokenizer_bos(tokenizer, &bos));
  OK(pith_tokenizer_is_end(tokenizer, 70, &is_end));
  CHECK(!is_end);
  OK(pith_tokenizer_id(tokenizer, "no such token", &none));
  CHECK(none == PITH_NO_TOKEN);
}

static void policies_by_name(void) {
  char* canonical = NULL;
  OK(pith_policy_parse("h2o(rows=512)", 0, &canonical));
  CHECK(strstr(canonical, "rows=512") != NULL);
  pith_free(canonical);
  OK(pith_policy_parse("none", 0, NULL));
  FAILS(pith_policy_parse("h3o", 0, NULL), PITH_ERROR_ARGUMENT, "h3o");
}

// --- Generators ------------------------------------------------------------------------------------------------------

typedef struct heard {
  char text[2000];
  size_t tokens, last_pieces;
  float logprobs;
  pith_finish finish;
  pith_generator* cancels;  // after its third token
} heard;

static void hear(void* user, const pith_piece* piece) {
  heard* const to = user;
  CHECK(piece->size == sizeof *piece && strlen(piece->text) == piece->length);
  strncat(to->text, piece->text, sizeof to->text - strlen(to->text) - 1);
  if (piece->token != PITH_NO_TOKEN) {
    ++to->tokens;
    CHECK(piece->logits != NULL && piece->vocab_size > 256);
    float logprob = 0;
    OK(pith_logprob(piece->logits, piece->vocab_size, piece->token, &logprob));
    CHECK(piece->logprob == logprob || isnan(piece->logprob));
    to->logprobs += piece->logprob;
    pith_token_logprob top[2];
    OK(pith_top_logprobs(piece->logits, piece->vocab_size, top, 2));
    CHECK(top[0].logprob >= top[1].logprob);
    if (piece->top_count == 2) CHECK(piece->top[1].token == top[1].token && piece->top[1].logprob == top[1].logprob);
  }
  if (to->cancels != NULL && to->tokens == 3) OK(pith_generator_cancel(to->cancels, piece->request));
  if (piece->finish != PITH_FINISH_NONE) {
    ++to->last_pieces;
    to->finish = piece->finish;
    CHECK(piece->error == PITH_OK && strcmp(piece->error_message, "") == 0);
  }
}

static void rows_of_a_prompt(void* user, pith_sequence sequence, size_t position, const float* logits, size_t n) {
  size_t* const rows = user;
  CHECK(sequence != PITH_NO_SEQUENCE && position == *rows && logits != NULL && n > 256);
  ++*rows;
}

static void requests_run_side_by_side(void) {
  pith_generator* generator = NULL;
  OK(pith_generator_create(model, tokenizer, NULL, 0, &generator));
  pith_sampler_options greedy;
  OK(pith_sampler_options_init(&greedy, sizeof greedy));
  greedy.temperature = 0;
  pith_request request;
  OK(pith_request_init(&request, sizeof request));
  request.prompt = story;
  request.max_tokens = 20;
  request.logprobs = 2;
  request.sampler = &greedy;
  request.on_piece = hear;

  heard first = {0}, second = {0}, third = {0};
  pith_request_id ids[3];
  request.user = &first;
  OK(pith_generator_submit(generator, &request, &ids[0]));
  second.cancels = generator;
  request.user = &second;
  OK(pith_generator_submit(generator, &request, &ids[1]));
  const char* const stops[] = {"@@", " "};
  request.stops = stops;
  request.stop_count = 2;
  request.user = &third;
  OK(pith_generator_submit(generator, &request, &ids[2]));
  CHECK(ids[0] != ids[1] && ids[1] != ids[2]);
  size_t pending = 0;
  OK(pith_generator_pending(generator, &pending));
  CHECK(pending == 3);

  bool more = false;
  OK(pith_generator_step(generator, NULL, &more));
  CHECK(more);
  OK(pith_generator_run(generator, NULL));
  OK(pith_generator_step(generator, NULL, &more));
  CHECK(!more);
  CHECK(first.tokens == 20 && first.finish == PITH_FINISH_LENGTH && first.last_pieces == 1);
  CHECK(second.tokens == 3 && second.finish == PITH_FINISH_CANCELLED && second.last_pieces == 1);
  CHECK(strncmp(first.text, second.text, strlen(second.text)) == 0);
  CHECK(third.finish == PITH_FINISH_STOP && third.last_pieces == 1 && strchr(third.text, ' ') == NULL);

  // The same alone, in one call.
  pith_generation* generation = NULL;
  request.stop_count = 0;
  request.on_piece = NULL;
  OK(pith_generator_generate(generator, &request, NULL, &generation));
  CHECK(generation->size == sizeof *generation && generation->finish == PITH_FINISH_LENGTH);
  CHECK(strcmp(generation->text, first.text) == 0 && generation->length == strlen(first.text));
  CHECK(generation->token_count == 20 && generation->top_count == 2);
  float sum = 0;
  for (size_t i = 0; i < generation->token_count; ++i) {
    sum += generation->logprobs[i];
    CHECK(generation->top[2 * i].token == generation->tokens[i]);  // the likeliest was chosen
  }
  CHECK(sum == first.logprobs);
  pith_generation_free(generation);

  // Ends of the caller's own: the first token that was chosen ends the text; none at all: nothing does.
  const pith_token own = 0;
  request.ends = &own;
  request.end_count = 0;
  request.logprobs = -1;
  OK(pith_generator_generate(generator, &request, NULL, &generation));
  CHECK(generation->logprobs == NULL && generation->top == NULL && generation->token_count == 20);
  const pith_token chosen = generation->tokens[0];
  pith_generation_free(generation);
  request.ends = &chosen;
  request.end_count = 1;
  OK(pith_generator_generate(generator, &request, NULL, &generation));
  CHECK(generation->finish == PITH_FINISH_END && generation->token_count == 1);
  pith_generation_free(generation);

  // Evaluation: a row of logits after each token of a prompt.
  pith_token* tokens = NULL;
  size_t count = 0, rows = 0;
  encode(story, &tokens, &count);
  request.prompt = NULL;
  request.tokens = tokens;
  request.token_count = count;
  request.max_tokens = 0;
  request.on_prompt = rows_of_a_prompt;
  request.user = &rows;
  OK(pith_generator_generate(generator, &request, NULL, &generation));
  CHECK(rows == count);
  pith_generation_free(generation);
  request.prompt = story;
  FAILS(pith_generator_submit(generator, &request, NULL), PITH_ERROR_ARGUMENT, "expected one");
  pith_free(tokens);

  pith_stats* stats = NULL;
  OK(pith_generator_stats(generator, &stats));
  CHECK(stats->size == sizeof *stats && stats->layers == 5 && stats->bytes_used == 0 && stats->bytes_high_water > 0);
  CHECK(strstr(stats->policy, "gate") != NULL);
  pith_stats_free(stats);
  pith_generator_free(generator);
}

static void what_prompts_begin_with_is_kept(void) {
  pith_session_options options;
  OK(pith_session_options_init(&options, sizeof options));
  options.prefix_bytes = 1 << 24;
  options.policy = "none";
  pith_generator* generator = NULL;
  OK(pith_generator_create(model, tokenizer, &options, 0, &generator));
  pith_request request;
  OK(pith_request_init(&request, sizeof request));
  request.prompt = story;
  request.max_tokens = 5;
  request.prefix = 8;
  pith_generation *first = NULL, *second = NULL;
  OK(pith_generator_generate(generator, &request, NULL, &first));
  OK(pith_generator_generate(generator, &request, NULL, &second));
  CHECK(strcmp(first->text, second->text) == 0);
  pith_generation_free(first);
  pith_generation_free(second);
  pith_stats* stats = NULL;
  OK(pith_generator_stats(generator, &stats));
  CHECK(stats->bytes_used > 0);
  pith_stats_free(stats);
  pith_generator_free(generator);
}

static void conversations_go_on(void) {
  pith_generator* generator = NULL;
  OK(pith_generator_create(model, tokenizer, NULL, 2, &generator));
  pith_conversation conversation = PITH_NO_CONVERSATION;
  OK(pith_generator_open(generator, &conversation));
  pith_request request;
  OK(pith_request_init(&request, sizeof request));
  request.prompt = story;
  request.max_tokens = 3;
  request.conversation = conversation;
  for (int i = 0; i < 2; ++i) {
    pith_generation* generation = NULL;
    OK(pith_generator_generate(generator, &request, NULL, &generation));
    pith_generation_free(generation);
  }
  pith_stats* stats = NULL;
  OK(pith_generator_stats(generator, &stats));
  CHECK(stats->bytes_used > 0);
  pith_stats_free(stats);

  char path[200];
  snprintf(path, sizeof path, "%s/c_api.conversation", scratch);
  OK(pith_generator_save(generator, conversation, path, "page 4"));
  pith_generator* other = NULL;
  pith_conversation again = PITH_NO_CONVERSATION;
  char* note = NULL;
  OK(pith_generator_create(model, tokenizer, NULL, 2, &other));
  OK(pith_generator_restore(other, path, &again, &note));
  CHECK(strcmp(note, "page 4") == 0);
  pith_free(note);
  pith_generation *here = NULL, *there = NULL;
  OK(pith_generator_generate(generator, &request, NULL, &here));
  request.conversation = again;
  OK(pith_generator_generate(other, &request, NULL, &there));
  CHECK(strcmp(here->text, there->text) == 0);
  pith_generation_free(here);
  pith_generation_free(there);
  pith_generator_free(other);
  CHECK(remove(path) == 0);
  OK(pith_generator_close(generator, conversation));
  FAILS(pith_generator_close(generator, conversation), PITH_ERROR_STATE, "conversation");
  pith_generator_free(generator);
}

static void what_is_asked_to_stop_stops(void) {
  pith_stop* stop = NULL;
  OK(pith_stop_create(&stop));
  OK(pith_stop_request(stop));
  pith_generator* generator = NULL;
  OK(pith_generator_create(model, tokenizer, NULL, 0, &generator));
  heard told = {0};
  pith_request request;
  OK(pith_request_init(&request, sizeof request));
  request.prompt = story;
  request.max_tokens = 5;
  request.on_piece = hear;
  request.user = &told;
  OK(pith_generator_submit(generator, &request, NULL));
  OK(pith_generator_run(generator, stop));
  CHECK(told.tokens == 0);
  OK(pith_generator_serve(generator, stop));
  OK(pith_generator_run(generator, NULL));
  CHECK(told.tokens == 5);
  pith_generator_free(generator);

  pith_session* session = NULL;
  OK(pith_session_create(model, NULL, &session));
  pith_token token = 70;
  pith_sequence sequence = 0;
  const pith_output* outputs = NULL;
  size_t count = 7;
  OK(pith_session_add(session, &token, 1, PITH_LOGITS_LAST, &sequence));
  CHECK(pith_session_step(session, stop, &outputs, &count) == PITH_ERROR_CANCELLED);
  CHECK(count == 7);
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 1);
  pith_session_free(session);
  pith_stop_free(stop);
}

// --- Sessions --------------------------------------------------------------------------------------------------------

typedef struct watched {
  size_t drops, done;
} watched;

static void on_prefill(void* user, pith_sequence sequence, size_t done, size_t total) {
  (void)sequence;
  CHECK(done > ((watched*)user)->done && done <= total);
  ((watched*)user)->done = done;
}

static void on_drop(void* user, pith_sequence sequence, const pith_drop* drop) {
  (void)sequence;
  CHECK(drop->layer < 5 && drop->position < drop->until);
  ++((watched*)user)->drops;
}

static void a_session_is_driven_by_hand(void) {
  watched seen = {0, 0};
  pith_session_options options;
  OK(pith_session_options_init(&options, sizeof options));
  options.threads = 1;
  options.chunk = 8;
  options.record_drops = true;
  options.on_prefill = on_prefill;
  options.on_drop = on_drop;
  options.user = &seen;
  pith_session* session = NULL;
  OK(pith_session_create(model, &options, &session));

  pith_token* prompt = NULL;
  size_t prompt_count = 0, count = 0, length = 0;
  encode(story, &prompt, &prompt_count);
  pith_sequence sequence = 0, twin = 0;
  const pith_output* outputs = NULL;
  bool idle = false;
  OK(pith_session_add(session, prompt, prompt_count, PITH_LOGITS_LAST, &sequence));
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 1 && outputs[0].sequence == sequence && outputs[0].vocab_size > 256);
  CHECK(seen.done == prompt_count && seen.drops > 0);
  OK(pith_session_idle(session, &idle));
  CHECK(idle);

  pith_sampler* sampler = NULL;
  pith_sampler_options greedy;
  OK(pith_sampler_options_init(&greedy, sizeof greedy));
  greedy.temperature = 0;
  OK(pith_sampler_create(&greedy, &sampler));
  OK(pith_sampler_accept(sampler, prompt, prompt_count));
  pith_token token = PITH_NO_TOKEN;
  OK(pith_sampler_choose(sampler, outputs[0].logits, outputs[0].vocab_size, &token));
  pith_sampler_free(sampler);

  // A fork and its origin give the same; what was taken back, too.
  OK(pith_session_fork(session, sequence, &twin));
  CHECK(twin != sequence);
  OK(pith_session_push(session, sequence, &token, 1, PITH_LOGITS_LAST));
  OK(pith_session_push(session, twin, &token, 1, PITH_LOGITS_LAST));
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 2);
  const size_t row = outputs[0].vocab_size * sizeof(float);
  CHECK(memcmp(outputs[0].logits, outputs[1].logits, row) == 0);
  OK(pith_session_mark(session, sequence));
  float* const before = malloc(row);
  for (int turn = 0; turn < 2; ++turn) {
    OK(pith_session_push(session, sequence, prompt, 3, PITH_LOGITS_ALL));
    OK(pith_session_step(session, NULL, &outputs, &count));
    CHECK(count == 3);
    if (turn == 0) {
      memcpy(before, outputs[2].logits, row);
      OK(pith_session_rewind(session, sequence, prompt_count + 1));
    }
  }
  CHECK(memcmp(before, outputs[2].logits, row) == 0);
  OK(pith_session_commit(session, sequence));
  free(before);
  FAILS(pith_session_rewind(session, sequence, 1), PITH_ERROR_STATE, "mark");

  seen.done = 0;
  OK(pith_session_prompt(session, sequence, prompt, prompt_count, PITH_LOGITS_NONE));
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 0);
  OK(pith_session_length(session, sequence, &length));
  CHECK(length == 2 * prompt_count + 4);
  FAILS(pith_session_push(session, sequence, &token, 1, 3), PITH_ERROR_ARGUMENT, "logits is 3");

  const int32_t positions[] = {1, 2};
  OK(pith_session_set_tau(session, twin, 100));
  OK(pith_session_keep(session, twin, positions, 2));
  OK(pith_session_forget(session, twin, 0, positions, 2));
  const int32_t far = 1000000;
  FAILS(pith_session_keep(session, twin, &far, 1), PITH_ERROR_ARGUMENT, "1000000");

  int32_t* drop_at = NULL;
  size_t layers = 0, lanes = 0;
  OK(pith_session_drop_at(session, sequence, &drop_at, &layers, &lanes, &length));
  CHECK(layers == 5 && lanes > 0 && length == 2 * prompt_count + 4);
  size_t dropped = 0;
  for (size_t i = 0; i < layers * lanes * length; ++i) dropped += drop_at[i] >= 0;
  pith_free(drop_at);
  pith_stats *all = NULL, *own = NULL;
  OK(pith_session_stats(session, &all));
  OK(pith_session_sequence_stats(session, sequence, &own));
  CHECK(dropped > 0 && own->dropped_rows >= dropped && all->dropped_rows > own->dropped_rows);
  CHECK(own->seen_rows == layers * lanes * length && all->bytes_used > own->bytes_used);
  CHECK(own->live_rows[0] + own->live_rows[1] > 0 && own->bytes_dense > own->bytes_used);
  pith_stats_free(all);
  pith_stats_free(own);

  OK(pith_session_finish(session, sequence));
  FAILS(pith_session_push(session, sequence, &token, 1, 0), PITH_ERROR_STATE, "finished");
  OK(pith_session_finish(session, twin));
  size_t given_back = 0;
  OK(pith_session_trim(session, &given_back));
  CHECK(given_back > 0);
  pith_session_free(session);
  pith_free(prompt);
}

static void a_saved_sequence_goes_on_elsewhere(void) {
  pith_session *here = NULL, *there = NULL;
  OK(pith_session_create(model, NULL, &here));
  OK(pith_session_create(model, NULL, &there));
  pith_token* prompt = NULL;
  size_t prompt_count = 0, count = 0, length = 0;
  encode(story, &prompt, &prompt_count);
  pith_sequence sequence = 0, again[2] = {PITH_NO_SEQUENCE, PITH_NO_SEQUENCE};
  const pith_output *expected = NULL, *outputs = NULL;
  OK(pith_session_add(here, prompt, prompt_count, PITH_LOGITS_NONE, &sequence));
  OK(pith_session_step(here, NULL, &outputs, &count));

  char path[200];
  snprintf(path, sizeof path, "%s/c_api.saved", scratch);
  void* bytes = NULL;
  char* note = NULL;
  OK(pith_session_save(here, sequence, &bytes, &length));
  OK(pith_session_save_file(here, sequence, path, "page 3"));
  OK(pith_session_push(here, sequence, prompt, 1, PITH_LOGITS_LAST));
  OK(pith_session_step(here, NULL, &expected, &count));
  CHECK(count == 1);

  OK(pith_session_restore(there, bytes, length, &again[0]));
  OK(pith_session_restore_file(there, path, &again[1], &note));
  CHECK(strcmp(note, "page 3") == 0);
  pith_free(note);
  for (int i = 0; i < 2; ++i) {
    OK(pith_session_push(there, again[i], prompt, 1, PITH_LOGITS_LAST));
    OK(pith_session_step(there, NULL, &outputs, &count));
    CHECK(count == 1 && outputs[0].sequence == again[i]);
    CHECK(memcmp(outputs[0].logits, expected[0].logits, expected[0].vocab_size * sizeof(float)) == 0);
  }
  ((unsigned char*)bytes)[length / 2] ^= 1;
  CHECK(pith_session_restore(there, bytes, length, &again[0]) == PITH_ERROR_FORMAT);
  CHECK(pith_session_restore(there, bytes, 5, &again[0]) == PITH_ERROR_FORMAT);
  CHECK(pith_session_restore_file(there, "/no/such/file", &again[0], NULL) == PITH_ERROR_FILE);
  CHECK(pith_session_save_file(here, sequence, "/no/such/folder/file", NULL) == PITH_ERROR_FILE);
  pith_free(bytes);
  CHECK(remove(path) == 0);
  pith_session_free(here);
  pith_session_free(there);
  pith_free(prompt);
}

static void a_budget_that_is_spent_is_an_error_to_go_on_from(void) {
  pith_session_options options;
  OK(pith_session_options_init(&options, sizeof options));
  options.policy = "none";
  options.kv_budget = 1 << 18;
  pith_session* session = NULL;
  OK(pith_session_create(model, &options, &session));
  pith_token* prompt = NULL;
  size_t prompt_count = 0, count = 0;
  encode(story, &prompt, &prompt_count);
  const pith_output* outputs = NULL;
  pith_sequence last = 0;
  pith_status status = PITH_OK;
  int fed = 0;
  for (; status == PITH_OK && fed < 1000; ++fed) {
    OK(pith_session_add(session, prompt, prompt_count, PITH_LOGITS_LAST, &last));
    status = pith_session_step(session, NULL, &outputs, &count);
  }
  CHECK(status == PITH_ERROR_BUDGET && fed > 1);
  OK(pith_session_finish(session, 0));
  OK(pith_session_step(session, NULL, &outputs, &count));
  CHECK(count == 1 && outputs[0].sequence == last);
  pith_session_free(session);
  pith_free(prompt);
}

static void a_handle_keeps_what_it_was_made_of(void) {
  pith_model* mine = NULL;
  pith_tokenizer* reader = NULL;
  pith_generator* generator = NULL;
  OK(pith_model_load(folder, NULL, &mine));
  OK(pith_tokenizer_load(folder, &reader));
  OK(pith_generator_create(mine, reader, NULL, 0, &generator));
  pith_model_free(mine);
  pith_tokenizer_free(reader);
  pith_request request;
  OK(pith_request_init(&request, sizeof request));
  request.prompt = story;
  request.max_tokens = 2;
  pith_generation* generation = NULL;
  OK(pith_generator_generate(generator, &request, NULL, &generation));
  CHECK(generation->token_count == 2);
  pith_generator_free(generator);
  pith_generation_free(generation);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: api MODEL SCRATCH\n");
    return 2;
  }
  folder = argv[1];
  scratch = argv[2];
  before_any_error_there_is_no_message();
  OK(pith_model_load(folder, NULL, &model));
  OK(pith_tokenizer_load(folder, &tokenizer));
  if (failures > 0) return 1;
  statuses_have_names();
  what_fails_leaves_results_alone();
  null_is_refused_wherever_it_may_not_be();
  free_functions_take_null();
  structs_of_other_versions();
  options_out_of_range_are_named();
  models_say_what_they_are();
  texts_come_back();
  policies_by_name();
  requests_run_side_by_side();
  what_prompts_begin_with_is_kept();
  conversations_go_on();
  what_is_asked_to_stop_stops();
  a_session_is_driven_by_hand();
  a_saved_sequence_goes_on_elsewhere();
  a_budget_that_is_spent_is_an_error_to_go_on_from();
  a_handle_keeps_what_it_was_made_of();
  pith_tokenizer_free(tokenizer);
  pith_model_free(model);
  printf("%d checks, %d failed\n", checks, failures);
  return failures > 0;
}
