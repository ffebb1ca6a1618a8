// SPDX-License-Identifier: MIT
// Sequences in the making: feeds tokens through a model and keeps, for each sequence, what its policy lets it remember.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/error.hpp"
#include "pith/model.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/tensor.hpp"
#include "pith/tensor/view.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

/// How the learned gate's keys are stored. It judges in f32 either way.
enum class GateKeys : std::uint8_t { f32, f16 };

enum class SequenceId : std::uint32_t {};

/// A sequence that cannot go on, and can only be finished; the others of the session can.
class PITH_API SequenceError : public Error {
 public:
  SequenceError(ErrorCode code, const std::string& message, SequenceId sequence)
      : Error(code, message), sequence_(sequence) {}
  SequenceId sequence() const { return sequence_; }

 private:
  SequenceId sequence_;
};

/// Logits after one token of one sequence, [vocab_size]; valid until the next call of step() or pass().
struct Output {
  SequenceId sequence;
  std::span<const float> logits;
};

/// After which tokens of a call there are to be logits.
enum class Logits {
  last,  // its last
  all,   // every one, one Output each, in order (evaluation)
  none,  // it is only to be remembered
};

/// How far the prompt of a sequence has come.
struct Progress {
  SequenceId sequence;
  std::size_t done = 0, total = 0;  // tokens
};

/// A forward pass that is done, as far as one sequence had a part in it.
struct PassInfo {
  SequenceId sequence;
  Position first = 0;                      // of `tokens`: those from there on that were there are taken back
  std::span<const Token> tokens;           // fed; -1 for an embedding
  std::size_t kv_bytes = 0;                // pages the sequence holds now
  std::span<const std::size_t> live_rows;  // per layer, over lanes
  /// With record_focus: [layer * n_heads + head] the token to which the last of `tokens` attends most.
  std::span<const Position> focus;
};

/// The callbacks run between passes and may not call the session. What one throws comes out of step(); the next step
/// goes on with the callbacks that were left, and gives the logits that this one could not.
struct SessionOptions {
  std::optional<prune::AnyPolicy> policy = {};                // default: what the model has, gate or dms, else none
  KvPair kv = KvFormat::f32;                                  // how keys are stored, and how values
  std::optional<GateKeys> gate_keys = {};                     // default: f32 in a cache of f32, else f16
  std::optional<Threads> threads = {};                        // a count, or some to share; default: one per core
  int chunk = 256;                                            // tokens of a prompt that are seen and judged together
  int ahead = 0;                                              // of prompts, in a pass that decodes nothing; 0: a chunk
  int context = 0;                                            // longest sequence, 0 = what the model was made for
  std::size_t kv_budget = 0;                                  // bytes of key-value pages, 0 = unlimited
  bool record_drops = false;                                  // keep drop_at()
  bool record_focus = false;                                  // find PassInfo::focus
  std::function<void(const Progress&)> on_prefill = {};       // after each pass of a prompt
  std::function<void(SequenceId, const Drop&)> on_drop = {};  // after each pass, for what it dropped, by layer
  std::function<void(const PassInfo&)> on_pass = {};          // after each pass
};

/// How a context that will be asked many times is shortened: the model is made to write it down again, and of all rows
/// those stay to which it has attended most (KVzip, Kim et al., arXiv 2505.23416).
struct Replay {
  float share = 0.3f;           // of all rows, over layers and kv-heads together
  int sinks = 4;                // first tokens, which always stay
  int chunk = 2048;             // tokens that are written again at a time
  std::vector<Token> all = {};  // asks for the context from its beginning: "Repeat the previous context exactly."
  /// Asks for a later part of it, "…, starting with"; the last `overlap` tokens before that part follow.
  std::vector<Token> part = {};
  int overlap = 8;
  std::vector<Token> answer = {};  // behind either: where a chat template has the model's answer begin
};

/// Bytes and rows of a session's cache. A row is one token in one lane (a layer, or a kv-head of a layer).
struct CacheStats {
  std::size_t bytes_used = 0;          // pages that hold rows; one that is shared counts once
  std::size_t bytes_shared = 0;        // of one sequence: in pages that others hold, too; of several: that they save so
  std::size_t bytes_reserved = 0;      // pages held from the operating system
  std::size_t bytes_high_water = 0;    // the most bytes_used has been
  std::size_t bytes_dense = 0;         // what bytes_used would be had nothing been dropped
  std::size_t bytes_state = 0;         // that the policy remembers beside pages, which no budget counts
  std::vector<std::size_t> live_rows;  // per layer, over lanes and sequences
  std::uint64_t seen_rows = 0;         // appended so far, over layers, lanes and live sequences
  std::uint64_t dropped_rows = 0;      // of these, dropped
  std::string policy;                  // that dropped them: prune::AnyPolicy::describe
};

/// What a saved sequence is made again.
struct Restored {
  SequenceId sequence;
  std::string note;  // that was saved beside it
};

/// Not thread-safe: one thread at a time drives a session. Sessions share a model freely. A sequence's logits depend on
/// its own tokens and the options alone, bit for bit, whatever else is in the session.
/// Any call throws Error (argument) for a sequence that never was, Error (state) for one that is finished.
/// std::bad_alloc comes out of any call: add, prompt, push and fork have then done nothing; of those that change what a
/// sequence holds, and of steps, see broken().
class PITH_API Session {
 public:
  /// Throws Error (argument, unsupported), e.g. for a gate policy on a model without gates, or one of layers or heads
  /// that the model lacks.
  explicit Session(Model model, SessionOptions options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Starts a sequence with its prompt (at least one token). Throws Error (argument): a token out of range, a prompt
  /// longer than the context.
  SequenceId add(std::span<const Token> prompt, Logits logits = Logits::last);

  /// A prompt of embeddings [tokens, d_model] in place of tokens: rows as the model's own table has them, so that a
  /// token's row is as good as the token, bit for bit. Prompts and pushes of either kind follow each other freely.
  /// Throws Error (argument) for rows of another length, or numbers that are not finite.
  SequenceId add(View<const float> embeddings, Logits logits = Logits::last);

  /// One more prompt, behind all that the sequence was given: it is read in chunks of its own, and policies that act at
  /// the end of a prompt act at its end. Throws Error (argument) as add().
  void prompt(SequenceId sequence, std::span<const Token> tokens, Logits logits = Logits::last);
  void prompt(SequenceId sequence, View<const float> embeddings, Logits logits = Logits::last);

  /// One decoded token: what was chosen from the logits after all before it. Throws Error (argument) as add(), Error
  /// (state) where the sequence has tokens pending.
  void push(SequenceId sequence, Token token, Logits logits = Logits::last);

  /// Several decoded tokens: logits and drops are those of tokens pushed one after another, bit for bit, but weights
  /// are read once for all.
  void push(SequenceId sequence, std::span<const Token> tokens, Logits logits = Logits::last);
  void push(SequenceId sequence, View<const float> embeddings, Logits logits = Logits::last);

  /// From here on what the sequence is fed can be taken back, until it is marked again or commit() lets go of what that
  /// takes: memory for what is dropped meanwhile, whose on_drop is called by commit(). Throws Error (state) where
  /// tokens are pending. Meanwhile keep, forget, set_tau and fork throw Error (state).
  void mark(SequenceId sequence);
  void commit(SequenceId sequence);

  /// The sequence is what it was when it had `length` tokens: its rows, with all that they carry, are bitwise what they
  /// were, what is pending is gone, and so are prompts that were begun since. Without a mark it goes back as far as
  /// no row has been dropped since, where the policy looks back alone (prune::looks_back_alone; dms judges a token by
  /// the next) and keeps no columns; else no further than it is. Throws Error (state) where that is not far enough;
  /// Error (argument) for a length before the mark, beyond what was fed, or, with a mark, within a prompt.
  void rewind(SequenceId sequence, std::size_t length);

  /// Early exit (LayerSkip, Elhoushi et al., arXiv 2404.16710): one decoded token goes through the first `layers`
  /// layers, and its logits are what the model's last norm and head make of that. verify() lets all tokens that were so
  /// drafted go on through the other layers, with logits after each, as push() of all of them would have had.
  /// Throw as push(), and Error (argument) for layers that are not some of the model's, or others than those of drafted
  /// tokens that wait; Error (state) for a sequence that has none to verify; Error (unsupported) where the policy
  /// judges all layers together.
  void draft(SequenceId sequence, Token token, std::size_t layers);
  void verify(SequenceId sequence);

  /// Feeds what is pending, all sequences together, until at least one of them has logits that were asked for. Empty
  /// when there are none to come.
  /// Throws Error (budget) before anything is changed when no sequence has room for its next chunk: finish one and call
  /// again; SequenceError (unsupported) when a key or value is too large for the cache's format, naming the layer;
  /// Error (cancelled) when `stop` is asked to: between two layers, and the next call goes on from there. What else
  /// comes out of a pass (std::bad_alloc, what a policy of the host's throws) leaves its sequences halfway: broken()
  /// says so, they can only be finished, and the others go on.
  std::span<const Output> step(std::stop_token stop = {});

  /// As step(), but one forward pass alone. Of prompts it takes at most a chunk, so that who decodes waits no longer
  /// than that takes; where nobody does, as many whole chunks, of one sequence or of several, as SessionOptions::ahead
  /// and `most` have room for. Which of them are taken changes nothing, bit for bit. Empty where it gave no logits.
  std::span<const Output> pass(std::stop_token stop = {}, std::size_t most = SIZE_MAX);

  /// The memory of the latest outputs, [outputs, vocab_size], as the caller's own: their spans stay good as long as it
  /// lives, and the next pass makes another.
  Tensor<float> take_logits();

  bool idle() const;  // nothing is pending, and no logits or callbacks are left by one that threw

  /// How many sequences the latest pass left out, as the budget had no room for their next chunk.
  std::size_t waiting() const;

  /// Forgets the sequence; its pages go back to the pool.
  void finish(SequenceId sequence);

  /// A new sequence with the same past (and the same pending tokens). They share pages: one is copied when a sequence
  /// changes it that others hold, too; where the policy keeps columns, with the sequence's next pass. Throws Error
  /// (state) in the middle of a step that was cancelled.
  SequenceId fork(SequenceId sequence);

  /// All that fork() would copy, in bytes that another session of the same model, policy and cache formats makes the
  /// sequence of again, in another process, too: what it is fed then has, bit for bit, the logits and drops that it
  /// would have had here. `note`: the caller's own text, which is kept beside it. A file is replaced as a whole or
  /// stays as it was; saved bytes are a text of no meaning to others, and a checksum finds what damaged them, not who
  /// forged them. Throws Error (state) as fork(), Error (file).
  std::string save(SequenceId sequence) const;
  void save(SequenceId sequence, const std::filesystem::path& file, std::string_view note = {}) const;

  /// A new sequence, which was saved. Nothing of the session changes unless all of it is in order. Throws Error: file;
  /// format, for bytes that are no saved sequence, or cut short, or damaged; model, for another one; unsupported, for
  /// another policy, cache format or format of gate keys, or a record of drops that is wanted and not there; argument,
  /// for a sequence longer than the context; budget.
  Restored restore(std::span<const std::byte> saved);
  Restored restore(const std::filesystem::path& file);

  /// Strength of the learned gate for this sequence from its next token on, in place of the policy's own tau; what is
  /// dropped stays so. Throws Error (argument) for NaN, Error (unsupported) where the policy asks no gate, Error
  /// (state) as fork().
  void set_tau(SequenceId sequence, float tau);

  /// keep: these tokens stay from now on, in all layers, where they are still there, whatever the policy does; those to
  /// come stay from their first moment. A sliding window that is the architecture's own still ends them. forget: these
  /// tokens leave one layer now, as if the next token had dropped them, kept ones too; tokens that are not there are
  /// passed over. Throws Error (argument) for a position or layer out of range, Error (state) as fork().
  void keep(SequenceId sequence, std::span<const Position> positions);
  void forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions);

  /// Of the tokens [begin, end) only the pins stay, in all layers, from the token on that follows them; positions go
  /// on. The pins are kept, as by keep(). Where some of the tokens are yet to come, this takes place once the last of
  /// them is read. For demonstrations, of which the labels and what formats them carry what a model makes of them (Wang
  /// et al., arXiv 2305.14160). Throws Error (argument) unless begin <= end <= the context and all pins are in between,
  /// Error (state) as fork().
  void compress(SequenceId sequence, Position begin, Position end, std::span<const Position> pins);

  /// `tokens`: all of the sequence's so far. The passes that write them again are forgotten, and no policy acts in
  /// them; they need room for a copy of the sequence and of a chunk. Layers with a sliding window of their own keep
  /// what they have. Throws Error (argument) for numbers out of range, for tokens as add(), and where a chunk with what
  /// asks for it has no room in the context; Error (budget); Error (state) where tokens are pending, and as fork().
  /// Deviation: heads whose lanes are shared (no policy asked for them apart) leave together, by the best of them.
  void compress(SequenceId sequence, std::span<const Token> tokens, const Replay& how);

  /// A step failed halfway, with something else than an Error: the sequence can only be finished.
  bool broken(SequenceId sequence) const;

  std::size_t context() const;                               // the longest that a sequence may become, in tokens
  std::size_t length(SequenceId sequence) const;             // tokens fed so far
  std::span<const Token> tokens(SequenceId sequence) const;  // those; -1 for an embedding
  CacheStats stats() const;                                  // of the whole session
  CacheStats stats(SequenceId sequence) const;               // bytes_reserved and bytes_high_water are the session's
  CacheStats stats(std::span<const SequenceId> some) const;  // of these together; a page that they share counts once

  /// With record_drops: [layer][lane][position] = the first position that did not see it, -1 = not dropped so far.
  std::vector<std::vector<std::vector<std::int32_t>>> drop_at(SequenceId sequence) const;

  /// With record_drops: [position] how many of the token's rows are gone, over layers and lanes; those that went before
  /// the sequence was forked or restored are among them.
  std::vector<std::uint32_t> rows_gone(SequenceId sequence) const;

  /// Gives the memory of free pages back to the operating system; returns the bytes given back.
  std::size_t trim();

  const Model& model() const;
  const prune::AnyPolicy& policy() const;  // the one in use

 private:
  struct PITH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pith
