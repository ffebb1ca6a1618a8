// SPDX-License-Identifier: MIT
// Requests in, text out: many generations side by side over one session, which come and go as they like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "pith/api.hpp"
#include "pith/logprobs.hpp"
#include "pith/model.hpp"
#include "pith/sampler.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

enum class RequestId : std::uint64_t {};
enum class ConversationId : std::uint64_t {};

/// Why a request ended.
enum class Finish {
  end,        // the model chose a token that ends the text
  stop,       // a stop text came
  length,     // there are as many tokens as were asked for
  context,    // there is no room for another token
  cancelled,  // by cancel()
  error,      // something failed, for this request alone: Piece::error
};
PITH_API std::string_view name(Finish finish);

/// Guessing ahead: so many tokens are fed together with the latest, and those count that the request would have chosen,
/// which is judged as ever. Its tokens and log-probabilities stay what they were, bit for bit, sampled ones too; only
/// passes become fewer. Guesses come from the text before, the prompt's and the conversation's included (what followed
/// its last tokens earlier), or from the model's own first layers.
struct DraftOptions {
  std::size_t tokens = 0;  // at most, 0 to 8; fewer while guesses fail. 0: no guesses
  std::size_t layers = 0;  // that guess (Session::draft), of a model trained for it; 0: the text does

  static constexpr std::size_t most = 8;
};

/// What requests' prompts begin with is kept, so that those that begin alike need not read it again; their tokens and
/// log-probabilities stay what they were, bit for bit. With policies that forget by the tokens so far alone (none, the
/// gate, streaming, and combinations of these but on_prefill) whole chunks are kept, wherever prompts part; with any
/// policy what ends with Request::prefix.
struct PrefixOptions {
  std::size_t bytes = 0;  // of pages, at most; what was unused for longest goes first. 0: nothing is kept
};

/// How that went.
struct PrefixStats {
  std::uint64_t prompts = 0;        // with which sequences began
  std::uint64_t hits = 0;           // of these, went on from what was kept
  std::uint64_t tokens_reused = 0;  // which were not read
  // Why the others did not:
  std::uint64_t not_kept = 0;            // nothing that they begin with, of a chunk at least
  std::uint64_t policy_looks_ahead = 0;  // what it forgets depends on more than the beginning
  std::uint64_t read_whole = 0;          // logits of the prompt were wanted, or its anchors alone
  std::uint64_t dropped = 0;             // beginnings, as there was no room
  std::size_t kept = 0;                  // now,
  std::size_t bytes = 0;                 // in pages, of which sequences that run may share some
};

/// Guesses that were fed, and how many of them were right.
struct DraftCount {
  std::size_t drafted = 0, accepted = 0;
};

/// What the choice of one token adds. The views last as long as the call that hands it over.
struct Piece {
  RequestId request{};
  std::optional<SequenceId> sequence = {};  // there until the last piece is handed over; none: it never began
  std::optional<Token> token = {};          // none in a last piece for which there was nothing to choose
  std::string_view text = {};               // that has become certain: whole characters, without the stop text
  std::optional<float> logprob = {};        // of the token, in nats, as the model gave it; where asked for
  std::span<const TokenLogprob> top = {};   // the likeliest, in descending order; where asked for
  std::span<const float> logits = {};       // [vocab_size] that the token was chosen from
  std::optional<Finish> finish = {};        // this is the last piece
  DraftCount drafts = {};                   // so far
  std::size_t reused = 0;                   // of the prompt, its first tokens, which were not read (PrefixOptions)
  std::exception_ptr error = {};            // where it ended in an error
};

/// Of so many first tokens of a prompt only these stay, once they are read (Session::compress).
struct Anchors {
  std::size_t end = 0;
  std::vector<std::size_t> tokens = {};  // below `end`
};

struct Request {
  std::variant<std::vector<Token>, std::string> prompt;  // a text as Generator::encode() reads it
  std::optional<std::size_t> max_tokens = {};            // default: until the text ends or the context is full
  std::vector<std::string> stops = {};          // the text ends before the first of them, wherever tokens begin and end
  std::optional<std::vector<Token>> ends = {};  // tokens that end the text; default: Generator::ends()
  std::optional<std::size_t> logprobs = {};     // wanted: of each token chosen, and of so many likeliest
  SamplerOptions sampler = {};
  DraftOptions draft = {};
  std::optional<float> tau = {};  // strength of the learned gate, in place of the policy's
  std::size_t pinned = 0;         // so many of the prompt's first tokens stay, whatever the policy does
  Anchors anchors = {};           // of the prompt; what is no anchor leaves, pinned or not
  /// So many of the prompt's first tokens are a prompt of their own, which other requests begin with, too: policies
  /// that act at the end of a prompt act at its end, and at the end of the rest. 0, or all of them: one prompt.
  std::size_t prefix = 0;
  /// The prompt goes on behind the conversation's requests before this one: behind their prompts and what was chosen,
  /// but for a token that ended the text, which is for the next prompt to repeat. None: a sequence of its own.
  std::optional<ConversationId> conversation = {};
  std::function<void(const Piece&)> on_piece = {};
  /// Logits after each token of the prompt (evaluation): the token's position, [vocab_size].
  std::function<void(SequenceId, std::size_t, std::span<const float>)> on_prompt = {};
};

/// What came of a request.
struct Generation {
  std::vector<Token> tokens;  // chosen, with the one that ended the text
  std::string text;
  std::vector<float> logprobs;                 // [tokens], where asked for
  std::vector<std::vector<TokenLogprob>> top;  // [tokens], where asked for
  Finish finish = Finish::error;
  DraftCount drafts;
};

/// How busy a generator is, and what its session holds, as its latest step left it.
struct Load {
  std::size_t running = 0, waiting = 0;  // requests that have not ended
  CacheStats cache = {};                 // all that is held
  CacheStats kept = {};  // of that, what is kept for others to begin with, pages that requests share too
  PrefixStats prefixes = {};
};

/// Any thread may make any call but session(), at any time. The threads that step take turns, and each step works on
/// all requests; callbacks run in the thread that steps. They may submit and cancel, but not step.
///
/// The tokens of a request, and its log-probabilities, are those it would have alone, bit for bit. What a callback
/// throws, or a row of logits that cannot be sampled, ends its own request: the callback gets one more piece, with
/// Finish::error and the exception (if it throws again, nobody hears of it).
///
/// A conversation outlives its requests: its sequence stays, so that only what is new is fed. Its tokens are those that
/// a session would give which were fed the same prompts and choices. A request that ends in an error is no part of it.
///
/// Under a byte budget (SessionOptions::kv_budget) requests wait for room. Where those that run have too little,
/// beginnings that are kept go (PrefixOptions), then conversations that rest lose their sequences, the longest unused
/// first, and are fed again when they go on; then the latest request gives way: it starts again when others have ended,
/// fed what it had chosen before. One that does not fit even alone ends in an error (budget).
class PITH_API Generator {
 public:
  /// `at_once`: how many requests run side by side; the others wait their turn. Without a tokenizer there is no text:
  /// prompts are tokens, pieces have none, and stop texts are refused. Throws Error as Session does, and Error
  /// (argument) for an `at_once` of 0.
  explicit Generator(Model model, std::optional<Tokenizer> tokenizer, SessionOptions options = {},
                     std::size_t at_once = 16, PrefixOptions prefixes = {});
  ~Generator();  // requests on their way end without another word
  Generator(Generator&&) noexcept;
  Generator& operator=(Generator&&) noexcept;

  /// Throws Error (argument, unsupported) for what cannot be: an empty prompt or one longer than the context (what the
  /// conversation holds included), a token out of range, an option of the sampler or of drafting; Error (state) where
  /// the conversation has a request that has not ended.
  RequestId submit(Request request);

  /// A conversation, for requests to go on in.
  ConversationId open();

  /// Forgets it; its pages go back at the next step. Throws as submit() where a request of it has not ended.
  void close(ConversationId conversation);

  /// Of all that the conversation holds those rows stay to which the model attends most when it writes it again
  /// (Session::compress). What is fed again later, for want of room, is whole. Throws as Session::compress and close(),
  /// Error (state) where nothing is held.
  void compress(ConversationId conversation, const Replay& how);

  /// Tokens that the conversation holds. Throws as close().
  std::size_t length(ConversationId conversation) const;

  /// The conversation, to go on with in another generator: Session::save of its sequence, with what its requests were.
  /// Throws as close() and Session::save, and Error (state) where it has no sequence: no request of it has ended, or it
  /// lost it to others under a byte budget. Waits while another thread steps; not from a callback.
  void save(ConversationId conversation, const std::filesystem::path& file, std::string_view note = {});

  /// One that was saved, and what was noted with it. Throws as Session::restore.
  std::pair<ConversationId, std::string> restore(const std::filesystem::path& file);

  /// The request ends with Finish::cancelled, between two layers of a pass. One that has ended stays as it is.
  void cancel(RequestId request);

  /// One forward pass for all that run, and a token for each that has logits. False when nothing is left to do. When
  /// `stop` is asked to, it returns between two layers, and the next step goes on from there.
  /// Throws what the session throws (memory, its own callbacks); requests stay, and the next step goes on.
  bool step(std::stop_token stop = {});

  /// Steps until nothing is left to do, or `stop`.
  void run(std::stop_token stop = {});

  /// Steps until `stop`, and sleeps while there is nothing to do: for a thread of its own.
  void serve(std::stop_token stop);

  /// Submits and steps (or leaves that to the thread that does) until the request has ended; `stop` cancels it.
  /// Throws as submit() and step(), and what the request ended in as an error.
  Generation generate(Request request, std::stop_token stop = {});

  std::size_t pending() const;  // requests that have not ended
  Load load() const;

  /// A text as a prompt; an empty one is the token that begins a text. Throws Error (argument) where there is none.
  std::vector<Token> encode(std::string_view text, Specials specials = Specials::add_only) const;

  /// Tokens that end a text, as the tokenizer's and the model's files say; ascending.
  const std::vector<Token>& ends() const;

  /// For the thread that steps, as session(); load() is for others.
  PrefixStats prefixes() const;

  /// Nothing is kept any more of what prompts began with. Waits while another thread steps; not from a callback.
  void drop_prefixes();

  /// For the thread that steps: between steps and in callbacks.
  const Session& session() const;

 private:
  struct PITH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pith
