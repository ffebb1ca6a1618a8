// SPDX-License-Identifier: MIT
// pith for C, and for every language that calls C. Each handle is a face of the C++ class of its name, whose header
// says more (pith_session: pith/session.hpp). What stays as it is: docs/versioning.md.
//
// Errors. A function that can fail returns a pith_status and gives through its last parameters; where it fails, those
// are left alone and pith_error_message() says what was wrong. A pointer that is NULL and may not be is
// PITH_ERROR_ARGUMENT, and so is a number out of range. After any error every handle can be used on.
//
// Memory. What X_create() or X_load() gave goes back by X_free(); other arrays and texts that the caller gets as his
// own (char**, pith_token**) go back by pith_free(). Everything else that is pointed to is the library's, for as long
// as is said. Free functions take NULL. A handle keeps what it was made of: a model may be freed before its sessions.
//
// Texts are UTF-8 and end with a NUL; where a length stands beside one, it may hold others.
//
// Structs that begin with their `size` may grow at their end. Those that the caller fills are given their defaults by
// X_init(&x, sizeof x), which also says which version of them he was compiled with; NULL in their place means defaults.
// Those that come from the library have at least `size` bytes. Structs without a size never change.
//
// Threads. Models and tokenizers: any number of threads. Generators: any thread, any call, at any time, but to be freed
// when no other call is on its way. Sessions, samplers and text streams: one thread at a time.
//
// Callbacks run in the thread that steps, and are given the `user` pointer of their struct. They return: neither a
// longjmp nor an exception of C++ may leave them.
#ifndef PITH_H
#define PITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PITH_C_API __attribute__((visibility("default")))
#else
#define PITH_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pith_model pith_model;
typedef struct pith_tokenizer pith_tokenizer;
typedef struct pith_text_stream pith_text_stream;
typedef struct pith_sampler pith_sampler;
typedef struct pith_generator pith_generator;
typedef struct pith_session pith_session;
typedef struct pith_stop pith_stop;

typedef int32_t pith_token;          // an entry of the vocabulary
typedef uint32_t pith_sequence;      // of one session
typedef uint64_t pith_request_id;    // of one generator
typedef uint64_t pith_conversation;  // of one generator

#define PITH_NO_TOKEN (-1)
#define PITH_NO_SEQUENCE UINT32_MAX
#define PITH_NO_CONVERSATION UINT64_MAX
#define PITH_NO_LIMIT SIZE_MAX

// --- Errors ----------------------------------------------------------------------------------------------------------

typedef int32_t pith_status;
enum {
  PITH_OK = 0,
  PITH_ERROR_FILE = 1,         // cannot be opened, read, mapped or written
  PITH_ERROR_FORMAT = 2,       // the bytes of a file break its format
  PITH_ERROR_MODEL = 3,        // well-formed files that do not make a model, logits that are no distribution
  PITH_ERROR_UNSUPPORTED = 4,  // valid, but beyond what this library does
  PITH_ERROR_ARGUMENT = 5,     // a call with a value out of range, or with NULL
  PITH_ERROR_STATE = 6,        // a call at the wrong time
  PITH_ERROR_BUDGET = 7,       // the byte budget of a key-value cache is exhausted
  PITH_ERROR_CANCELLED = 8,    // a pith_stop asked to stop
  PITH_ERROR_MEMORY = 9,       // the system has no more
  PITH_ERROR_INTERNAL = 10     // anything else that came out of the C++ library
};

/// "file", "format", …; "unknown" for a number that is none.
PITH_C_API const char* pith_status_name(pith_status status);

/// What was wrong with the latest call of this thread that failed; "" before there is one. Valid until the next call
/// that fails in this thread.
PITH_C_API const char* pith_error_message(void);

/// The sequence that cannot go on, and is to be finished, where the latest failure of this thread was one sequence's;
/// else PITH_NO_SEQUENCE.
PITH_C_API pith_sequence pith_error_sequence(void);

/// "0.1.0": of the library that runs.
PITH_C_API const char* pith_version(void);

/// Frees an array or a text that the library allocated for the caller.
PITH_C_API void pith_free(void* memory);

/// Asks calls that were given it to stop, from whichever thread (but not from a signal's handler). It stays asked.
PITH_C_API pith_status pith_stop_create(pith_stop** stop);
PITH_C_API pith_status pith_stop_request(pith_stop* stop);
PITH_C_API void pith_stop_free(pith_stop* stop);

// --- Models ----------------------------------------------------------------------------------------------------------

typedef struct pith_load_options {
  size_t size;
  const char* gates;  // a sidecar safetensors with gates, laid over the model's own [NULL: none]
} pith_load_options;
PITH_C_API pith_status pith_load_options_init(pith_load_options* options, size_t size);

/// From a Hugging Face directory or a .gguf file. Weights are mapped, not read. `options`: may be NULL.
PITH_C_API pith_status pith_model_load(const char* path, const pith_load_options* options, pith_model** model);
PITH_C_API void pith_model_free(pith_model* model);

typedef struct pith_model_info {
  size_t size;
  const char* architecture;  // "llama"
  int32_t vocab_size;        // of its logits
  int32_t d_model;           // width of the residual stream
  int32_t layers, heads, kv_heads;
  int32_t context;  // tokens that it was made for
  bool gates;       // it has learned gates
  uint64_t parameters;
  uint64_t bytes;  // of all weights
} pith_model_info;

/// `info`: valid as long as the handle.
PITH_C_API pith_status pith_model_describe(const pith_model* model, const pith_model_info** info);

// --- Tokenizers ------------------------------------------------------------------------------------------------------

/// Which special tokens encoding adds, and whether it recognises those that are written in the text.
typedef int32_t pith_specials;
enum {
  PITH_SPECIALS_ADD_ONLY = 0,    // the tokenizer adds its own (a BOS, say); what looks like a special token stays text
  PITH_SPECIALS_AS_TRAINED = 1,  // the same are added; special tokens in the text are recognised
  PITH_SPECIALS_PARSE_ONLY = 2,  // none are added; those written in the text are recognised
  PITH_SPECIALS_PLAIN = 3        // none are added; what looks like a special token stays text
};

/// From a Hugging Face directory, one of its tokenizer's files, or a .gguf file.
PITH_C_API pith_status pith_tokenizer_load(const char* path, pith_tokenizer** tokenizer);
PITH_C_API void pith_tokenizer_free(pith_tokenizer* tokenizer);

/// `length`: bytes of the text. `tokens`: [count], for pith_free(); bytes that are no UTF-8 are read as U+FFFD.
PITH_C_API pith_status pith_tokenizer_encode(const pith_tokenizer* tokenizer, const char* text, size_t length,
                                             pith_specials specials, pith_token** tokens, size_t* count);

/// `text`: for pith_free(); ends with a NUL behind its `length` bytes. `length`: may be NULL.
PITH_C_API pith_status pith_tokenizer_decode(const pith_tokenizer* tokenizer, const pith_token* tokens, size_t count,
                                             bool with_specials, char** text, size_t* length);

typedef struct pith_message {
  const char* role;     // "system", "user", "assistant", "tool", … as the template knows them
  const char* content;  // text, whatever it looks like
} pith_message;

typedef struct pith_chat_options {
  size_t size;
  bool add_generation_prompt;  // end where the assistant is to begin [true]
  const char* tools;           // a JSON array of the functions that the model may call [NULL: none]
  const char* variables;       // a JSON object of what else the template may ask for [NULL: none]
  const char* name;            // of the template [NULL: "tool_use" where there are tools and it, else "default"]
} pith_chat_options;
PITH_C_API pith_status pith_chat_options_init(pith_chat_options* options, size_t size);

/// A conversation by the model's own chat template. `options`: may be NULL; `tokens`: [token_count], for pith_free().
/// Nothing in a message becomes a special token.
PITH_C_API pith_status pith_tokenizer_chat(const pith_tokenizer* tokenizer, const pith_message* messages, size_t count,
                                           const pith_chat_options* options, pith_token** tokens, size_t* token_count);

/// The same for a JSON array of objects with "role", "content" and whatever else the template knows.
PITH_C_API pith_status pith_tokenizer_chat_json(const pith_tokenizer* tokenizer, const char* messages,
                                                const pith_chat_options* options, pith_token** tokens,
                                                size_t* token_count);

PITH_C_API pith_status pith_tokenizer_vocab_size(const pith_tokenizer* tokenizer, int32_t* vocab_size);
PITH_C_API pith_status pith_tokenizer_bos(const pith_tokenizer* tokenizer, pith_token* bos);  // or PITH_NO_TOKEN
PITH_C_API pith_status pith_tokenizer_is_end(const pith_tokenizer* tokenizer, pith_token token, bool* is_end);

/// The id of a token as the vocabulary spells it, or PITH_NO_TOKEN.
PITH_C_API pith_status pith_tokenizer_id(const pith_tokenizer* tokenizer, const char* token, pith_token* id);

/// Turns tokens, as they come, into text that never ends inside a character. `text`: `length` bytes and a NUL, valid
/// until the stream's next call; `length`: may be NULL. flush() gives what was held back and starts afresh.
PITH_C_API pith_status pith_text_stream_create(const pith_tokenizer* tokenizer, pith_text_stream** stream);
PITH_C_API pith_status pith_text_stream_push(pith_text_stream* stream, pith_token token, const char** text,
                                             size_t* length);
PITH_C_API pith_status pith_text_stream_flush(pith_text_stream* stream, const char** text, size_t* length);
PITH_C_API void pith_text_stream_free(pith_text_stream* stream);

// --- Choosing tokens -------------------------------------------------------------------------------------------------

typedef struct pith_token_bias {
  pith_token token;
  float bias;  // added to its logit; -INFINITY forbids it
} pith_token_bias;

typedef struct pith_token_logprob {
  pith_token token;
  float logprob;  // in nats
} pith_token_logprob;

/// The defaults draw from the model's own distribution. pith/sampler.hpp has the sources and the order in which they
/// act.
typedef struct pith_sampler_options {
  size_t size;
  float temperature;          // 0: the likeliest token [1]
  int32_t top_k;              // keep the k likeliest [0: all]
  float top_p;                // keep the likeliest until they hold this probability [1]
  float min_p;                // keep those at least min_p times as likely as the likeliest [0]
  float repetition_penalty;   // divides the positive logits of recent tokens, multiplies the negative ones [1]
  float frequency_penalty;    // taken from a logit for each time that its token is a recent one [0]
  float presence_penalty;     // taken from it once [0]
  int32_t repetition_window;  // how many of the latest tokens are recent [64]
  const pith_token_bias* logit_bias;
  size_t logit_bias_count;
  const pith_token* banned;  // never chosen
  size_t banned_count;
  const pith_token* allowed;  // if there are any, no other is chosen
  size_t allowed_count;
  uint64_t seed;  // the same seed, options and logits give the same tokens [0]
} pith_sampler_options;
PITH_C_API pith_status pith_sampler_options_init(pith_sampler_options* options, size_t size);

/// For who drives a session by hand. `options`: may be NULL; nothing of it is pointed to afterwards.
PITH_C_API pith_status pith_sampler_create(const pith_sampler_options* options, pith_sampler** sampler);
PITH_C_API void pith_sampler_free(pith_sampler* sampler);

/// The next token, given logits [vocab_size].
PITH_C_API pith_status pith_sampler_choose(pith_sampler* sampler, const float* logits, size_t vocab_size,
                                           pith_token* token);

/// Tokens of the sequence so far, prompt and choices, for the penalties.
PITH_C_API pith_status pith_sampler_accept(pith_sampler* sampler, const pith_token* tokens, size_t count);

/// log p(token), in nats, by logits [vocab_size].
PITH_C_API pith_status pith_logprob(const float* logits, size_t vocab_size, pith_token token, float* logprob);

/// The likeliest tokens, in descending order: min(capacity, vocab_size) of them into `top`.
PITH_C_API pith_status pith_top_logprobs(const float* logits, size_t vocab_size, pith_token_logprob* top,
                                         size_t capacity);

// --- What generators and sessions share ------------------------------------------------------------------------------

/// A row that was dropped: one token in one lane of one layer.
typedef struct pith_drop {
  size_t layer, lane;
  int32_t position;  // of the token
  int32_t until;     // the first position that does not see it
  float gate_score;  // of the learned gate at the drop; 0 where none judged the row
} pith_drop;

typedef struct pith_session_options {
  size_t size;
  const char* policy;     // "gate,h2o(rows=1024)"; `pith policies` lists them [NULL: the model's gates, or "none"]
  float tau;              // strength of a gate in it that does not name its own: 0 as trained, higher forgets more [0]
  const char* kv;         // how keys and values are stored: "f16", "k=q8_0,v=q4_0" [NULL: "f32"]
  const char* gate_keys;  // how the gate's keys are: "f32", "f16" [NULL: "f32" in a cache of f32, else "f16"]
  int32_t threads;        // [0: one per core]
  int32_t chunk;          // tokens of a prompt that are seen and judged together [256]
  int32_t context;        // longest sequence, in tokens [0: what the model was made for]
  size_t kv_budget;       // bytes of key-value pages [0: no limit]
  bool record_drops;      // for pith_session_drop_at() [false]
  size_t prefix_bytes;    // of what prompts begin with, that a generator keeps for those that begin alike [0]
  void (*on_prefill)(void* user, pith_sequence sequence, size_t done, size_t total);  // tokens of a prompt, each pass
  void (*on_drop)(void* user, pith_sequence sequence, const pith_drop* drop);         // after each pass
  void* user;
} pith_session_options;
PITH_C_API pith_status pith_session_options_init(pith_session_options* options, size_t size);

/// Whether a policy's text is one; `canonical`: all of it spelled out, for pith_free(). May be NULL.
PITH_C_API pith_status pith_policy_parse(const char* policy, float tau, char** canonical);

typedef struct pith_stats {
  size_t size;
  size_t bytes_used;        // pages that hold rows
  size_t bytes_shared;      // of one sequence: in pages that others hold, too; of several: that they save so
  size_t bytes_reserved;    // pages held from the operating system
  size_t bytes_high_water;  // the most bytes_used has been
  size_t bytes_dense;       // what bytes_used would be had nothing been dropped
  size_t bytes_state;       // that the policy remembers beside pages
  uint64_t seen_rows;       // appended so far, over layers, lanes and live sequences
  uint64_t dropped_rows;    // of these
  const size_t* live_rows;  // [layers], over lanes and sequences
  size_t layers;
  const char* policy;  // that dropped them
} pith_stats;
PITH_C_API void pith_stats_free(pith_stats* stats);

// --- Generators: requests in, text out -------------------------------------------------------------------------------

/// Why a request ended.
typedef int32_t pith_finish;
enum {
  PITH_FINISH_NONE = 0,     // it goes on
  PITH_FINISH_END = 1,      // the model chose a token that ends the text
  PITH_FINISH_STOP = 2,     // a stop text came
  PITH_FINISH_LENGTH = 3,   // there are as many tokens as were asked for
  PITH_FINISH_CONTEXT = 4,  // there is no room for another token
  PITH_FINISH_CANCELLED = 5,
  PITH_FINISH_ERROR = 6  // something failed, for this request alone
};

/// "none", "end", "stop", …; "unknown" for a number that is none.
PITH_C_API const char* pith_finish_name(pith_finish finish);

/// What the choice of one token adds to a request. All of it is valid during the callback alone.
typedef struct pith_piece {
  size_t size;
  pith_request_id request;
  pith_sequence sequence;         // PITH_NO_SEQUENCE: it never began
  pith_token token;               // PITH_NO_TOKEN in a last piece for which there was nothing to choose
  const char* text;               // that has become certain: whole characters, without the stop text; ends with a NUL
  size_t length;                  // of it, in bytes
  float logprob;                  // of the token, in nats; NaN where none was asked for
  const pith_token_logprob* top;  // [top_count], the likeliest in descending order
  size_t top_count;
  const float* logits;  // [vocab_size] that the token was chosen from; NULL: none
  size_t vocab_size;
  size_t drafted, accepted;   // guesses so far that were fed, and those that were right
  pith_finish finish;         // other than none: this is the last piece
  pith_status error;          // with PITH_FINISH_ERROR
  const char* error_message;  // "" but for that
} pith_piece;

typedef struct pith_request {
  size_t size;
  const char* prompt;        // a text (that may not be NULL unless there are tokens);
  const pith_token* tokens;  // or, where that is NULL, tokens
  size_t token_count;
  size_t max_tokens;         // to be chosen [PITH_NO_LIMIT: until the text ends or the context is full]
  const char* const* stops;  // the text ends before the first of them
  size_t stop_count;
  const pith_token* ends;  // tokens that end the text [NULL: those of tokenizer and model; others: these alone]
  size_t end_count;
  int32_t logprobs;                     // of each token, and of so many likeliest [-1: none at all]
  const pith_sampler_options* sampler;  // [NULL: its defaults]
  size_t draft_tokens;                  // guesses that are fed with a token, 0 to 8 [0]
  size_t draft_layers;                  // that guess [0: the text before does]
  float tau;                            // strength of the learned gate [NaN: the policy's]
  size_t pinned;                        // so many of the prompt's first tokens stay, whatever the policy does [0]
  size_t prefix;                        // so many of them are a prompt of their own, which others begin with, too [0]
  pith_conversation conversation;       // behind whose requests it goes on [PITH_NO_CONVERSATION]
  void (*on_piece)(void* user, const pith_piece* piece);
  /// Logits after each token of the prompt, by its position (evaluation).
  void (*on_prompt)(void* user, pith_sequence sequence, size_t position, const float* logits, size_t vocab_size);
  void* user;
} pith_request;
PITH_C_API pith_status pith_request_init(pith_request* request, size_t size);

/// `tokenizer`: NULL: prompts are tokens, pieces have no text, and stop texts are refused. `options`: may be NULL.
/// `at_once`: requests that run side by side, 0: 16; the others wait their turn.
PITH_C_API pith_status pith_generator_create(const pith_model* model, const pith_tokenizer* tokenizer,
                                             const pith_session_options* options, size_t at_once,
                                             pith_generator** generator);
/// Requests on their way end without another word. Not within a callback.
PITH_C_API void pith_generator_free(pith_generator* generator);

/// Nothing of the request is pointed to afterwards. `id`: may be NULL.
PITH_C_API pith_status pith_generator_submit(pith_generator* generator, const pith_request* request,
                                             pith_request_id* id);

/// The request ends with PITH_FINISH_CANCELLED, between two layers of a pass. One that has ended stays as it is.
PITH_C_API pith_status pith_generator_cancel(pith_generator* generator, pith_request_id id);

/// One forward pass for all requests. `more`: false when nothing is left to do; may be NULL. `stop`, here and below:
/// may be NULL; when it is asked to, the call returns PITH_OK between two layers, and the next one goes on from there.
/// Callbacks may submit and cancel, but not step.
PITH_C_API pith_status pith_generator_step(pith_generator* generator, const pith_stop* stop, bool* more);

/// Steps until nothing is left to do, or `stop`.
PITH_C_API pith_status pith_generator_run(pith_generator* generator, const pith_stop* stop);

/// Steps until `stop`, and sleeps while there is nothing to do: for a thread of its own. `stop` may not be NULL.
PITH_C_API pith_status pith_generator_serve(pith_generator* generator, const pith_stop* stop);

/// What came of a request.
typedef struct pith_generation {
  size_t size;
  const pith_token* tokens;  // [token_count], with the one that ended the text
  size_t token_count;
  const char* text;               // ends with a NUL
  size_t length;                  // of it, in bytes
  const float* logprobs;          // [token_count]; NULL where none were asked for
  const pith_token_logprob* top;  // [token_count, top_count]; NULL where none were asked for
  size_t top_count;
  size_t drafted, accepted;
  pith_finish finish;
} pith_generation;

/// Submits and steps until the request has ended; `stop` cancels it. Fails with what the request ended in.
PITH_C_API pith_status pith_generator_generate(pith_generator* generator, const pith_request* request,
                                               const pith_stop* stop, pith_generation** generation);
PITH_C_API void pith_generation_free(pith_generation* generation);

/// Requests that have not ended.
PITH_C_API pith_status pith_generator_pending(const pith_generator* generator, size_t* count);

/// A conversation outlives its requests: its sequence stays, and only what is new is fed. Closing it forgets it.
PITH_C_API pith_status pith_generator_open(pith_generator* generator, pith_conversation* conversation);
PITH_C_API pith_status pith_generator_close(pith_generator* generator, pith_conversation conversation);

/// The conversation, to go on with in another generator of the same model, policy and cache formats. `note`: the
/// caller's own text, kept in the file; may be NULL. Restoring, `note`: for pith_free(); may be NULL.
PITH_C_API pith_status pith_generator_save(pith_generator* generator, pith_conversation conversation, const char* path,
                                           const char* note);
PITH_C_API pith_status pith_generator_restore(pith_generator* generator, const char* path,
                                              pith_conversation* conversation, char** note);

/// As the latest step left them. `stats`: for pith_stats_free().
PITH_C_API pith_status pith_generator_stats(const pith_generator* generator, pith_stats** stats);

// --- Sessions: tokens in, logits out ---------------------------------------------------------------------------------

/// After which tokens of a call there are to be logits.
typedef int32_t pith_logits;
enum {
  PITH_LOGITS_LAST = 0,  // its last
  PITH_LOGITS_ALL = 1,   // every one, an output each, in order
  PITH_LOGITS_NONE = 2   // it is only to be remembered
};

/// Logits after one token of one sequence.
typedef struct pith_output {
  pith_sequence sequence;
  const float* logits;  // [vocab_size]
  size_t vocab_size;
} pith_output;

/// `options`: may be NULL.
PITH_C_API pith_status pith_session_create(const pith_model* model, const pith_session_options* options,
                                           pith_session** session);
PITH_C_API void pith_session_free(pith_session* session);

/// Starts a sequence with its prompt, at least one token.
PITH_C_API pith_status pith_session_add(pith_session* session, const pith_token* tokens, size_t count,
                                        pith_logits logits, pith_sequence* sequence);

/// One more prompt, behind all that the sequence was given: policies that act at a prompt's end act at its end.
PITH_C_API pith_status pith_session_prompt(pith_session* session, pith_sequence sequence, const pith_token* tokens,
                                           size_t count, pith_logits logits);

/// Tokens that were chosen, one or more: logits and drops are those of tokens pushed one after another.
PITH_C_API pith_status pith_session_push(pith_session* session, pith_sequence sequence, const pith_token* tokens,
                                         size_t count, pith_logits logits);

/// Feeds what is pending, all sequences together, until at least one of them has logits that were asked for. `outputs`:
/// [count], none when there are none to come; valid until the next step. `stop`: may be NULL; when it is asked to, the
/// call fails with PITH_ERROR_CANCELLED between two layers, and the next one goes on from there.
PITH_C_API pith_status pith_session_step(pith_session* session, const pith_stop* stop, const pith_output** outputs,
                                         size_t* count);

/// Whether nothing is pending.
PITH_C_API pith_status pith_session_idle(const pith_session* session, bool* idle);

/// Forgets the sequence; its pages go back to the pool.
PITH_C_API pith_status pith_session_finish(pith_session* session, pith_sequence sequence);

/// A new sequence with the same past, and the same pending tokens.
PITH_C_API pith_status pith_session_fork(pith_session* session, pith_sequence sequence, pith_sequence* fork);

/// All that fork() would copy, as bytes that another session of the same model, policy and cache formats makes the
/// sequence of again, in another process, too: what it is fed then has, bit for bit, the logits and drops that it would
/// have had here. `bytes`: [length], for pith_free(). A file is replaced as a whole or stays as it was; `note`: the
/// caller's own text, kept in it; may be NULL.
PITH_C_API pith_status pith_session_save(const pith_session* session, pith_sequence sequence, void** bytes,
                                         size_t* length);
PITH_C_API pith_status pith_session_save_file(const pith_session* session, pith_sequence sequence, const char* path,
                                              const char* note);

/// A new sequence, which was saved; where it fails, nothing of the session has changed. `note`: for pith_free(); may be
/// NULL.
PITH_C_API pith_status pith_session_restore(pith_session* session, const void* bytes, size_t length,
                                            pith_sequence* sequence);
PITH_C_API pith_status pith_session_restore_file(pith_session* session, const char* path, pith_sequence* sequence,
                                                 char** note);

/// From mark() on what the sequence is fed can be taken back, to any length since, until commit().
PITH_C_API pith_status pith_session_mark(pith_session* session, pith_sequence sequence);
PITH_C_API pith_status pith_session_rewind(pith_session* session, pith_sequence sequence, size_t length);
PITH_C_API pith_status pith_session_commit(pith_session* session, pith_sequence sequence);

/// Strength of the learned gate for this sequence from its next token on.
PITH_C_API pith_status pith_session_set_tau(pith_session* session, pith_sequence sequence, float tau);

/// These tokens stay, whatever the policy does; or leave one layer now.
PITH_C_API pith_status pith_session_keep(pith_session* session, pith_sequence sequence, const int32_t* positions,
                                         size_t count);
PITH_C_API pith_status pith_session_forget(pith_session* session, pith_sequence sequence, size_t layer,
                                           const int32_t* positions, size_t count);

/// Tokens fed so far.
PITH_C_API pith_status pith_session_length(const pith_session* session, pith_sequence sequence, size_t* length);

/// Of the session, or of one sequence. `stats`: for pith_stats_free().
PITH_C_API pith_status pith_session_stats(const pith_session* session, pith_stats** stats);
PITH_C_API pith_status pith_session_sequence_stats(const pith_session* session, pith_sequence sequence,
                                                   pith_stats** stats);

/// With record_drops: [layers, lanes, length] the first position that did not see a token, -1: not dropped so far. For
/// pith_free().
PITH_C_API pith_status pith_session_drop_at(const pith_session* session, pith_sequence sequence, int32_t** drop_at,
                                            size_t* layers, size_t* lanes, size_t* length);

/// Gives the memory of free pages back to the operating system. `bytes`: given back; may be NULL.
PITH_C_API pith_status pith_session_trim(pith_session* session, size_t* bytes);

#ifdef __cplusplus
}
#endif

#endif
