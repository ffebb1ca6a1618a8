// SPDX-License-Identifier: MIT
#include "pith/generator.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <utility>

#include "drafting.hpp"
#include "files/bytes.hpp"
#include "history.hpp"
#include "pith/error.hpp"
#include "pith/stop_sequences.hpp"
#include "prefixes.hpp"
#include "session/setup.hpp"

namespace pith {

std::string_view name(Finish finish) {
  switch (finish) {
    case Finish::end:
      return "end";
    case Finish::stop:
      return "stop";
    case Finish::length:
      return "length";
    case Finish::context:
      return "context";
    case Finish::cancelled:
      return "cancelled";
    case Finish::error:
      return "error";
  }
  return "unknown";
}

namespace {

/// A request on its way.
struct Job {
  RequestId id{};
  Request request;
  Exchange own;
  std::vector<Token> ends;  // ascending
  Sampler sample;
  StopSequences stops;
  std::optional<TextStream> stream;
  std::vector<TokenLogprob> top;
  Drafter drafter;
  std::shared_ptr<History> history = {};
  std::vector<std::size_t> keeps = {};  // lengths of its prompt that are to be kept as the beginnings of others

  std::size_t rows_told = 0;  // of the prompt's logits
  std::size_t row = 0;        // of the prompt that the sequence's next logits follow

  const std::optional<SequenceId>& sequence() const { return history->sequence; }
  std::size_t length() const { return history->length + own.length(); }
  bool tells_prompt() const { return request.on_prompt && rows_told < own.prompt.size(); }

  /// After which tokens of its prompt it wants logits.
  Logits of_prompt() const { return tells_prompt() ? Logits::all : own.tokens.empty() ? Logits::last : Logits::none; }
};

using Jobs = std::deque<std::unique_ptr<Job>>;

Jobs::iterator find(Jobs& jobs, RequestId id) {
  return std::ranges::find_if(jobs, [&](const auto& job) { return job->id == id; });
}

std::vector<Token> end_tokens(const Config& config, const std::optional<Tokenizer>& tokenizer) {
  std::vector<Token> ends;
  for (Token token = 0; token < config.vocab_size; ++token)
    if ((tokenizer && tokenizer->is_end(token)) || std::ranges::count(config.end_tokens, token) > 0)
      ends.push_back(token);
  return ends;
}

bool asks_gate(const Config& config, const SessionOptions& options) {
  return options.policy ? options.policy->needs().gate : config.gate.has_value();
}

}  // namespace

struct Generator::Impl {
  Impl(Model model, std::optional<Tokenizer> some_tokenizer, const SessionOptions& options, std::size_t most,
       PrefixOptions own_prefixes)
      : tokenizer(std::move(some_tokenizer)),
        at_once(most),
        ends(end_tokens(model.config(), tokenizer)),
        has_gate(asks_gate(model.config(), options)),
        session(std::move(model), options),
        prefixes(session, options, own_prefixes) {
    if (at_once < 1) fail(ErrorCode::argument, "at_once", "at least 1", std::to_string(at_once));
  }

  const Config& config() const { return session.model().config(); }

  // --- From any thread ----------------------------------------------------------------------------------------------

  void check_ids(std::span<const Token> ids, const char* what) const {
    for (const Token id : ids)
      if (id < 0 || id >= config().vocab_size)
        fail(ErrorCode::argument, what, "an id from 0 to " + std::to_string(config().vocab_size - 1),
             std::to_string(id));
  }

  std::vector<Token> encode(std::string_view text, Specials specials) const {
    if (!tokenizer) fail(ErrorCode::argument, "prompt", "tokens, as the generator has no tokenizer", "text");
    std::vector<Token> tokens = tokenizer->encode(text, specials);
    if (!tokens.empty()) return tokens;
    const std::optional<Token> bos = tokenizer->bos() ? tokenizer->bos() : config().bos;
    if (!bos) fail(ErrorCode::argument, "prompt", "text, as this tokenizer has no token to begin with", "none");
    return {*bos};
  }

  /// All of a job but its history.
  std::unique_ptr<Job> make(Request&& request) const {
    const auto* const text = std::get_if<std::string>(&request.prompt);
    std::vector<Token> prompt =
        text != nullptr ? encode(*text, Specials::add_only) : std::get<std::vector<Token>>(std::move(request.prompt));
    if (prompt.empty()) fail(ErrorCode::argument, "prompt", "at least one token", "none");
    check_ids(prompt, "prompt");
    if (request.pinned > prompt.size())
      fail(ErrorCode::argument, "pinned", "at most the prompt's " + std::to_string(prompt.size()) + " tokens",
           std::to_string(request.pinned));
    if (request.anchors.end > prompt.size())
      fail(ErrorCode::argument, "anchors", "an end within the prompt's " + std::to_string(prompt.size()) + " tokens",
           std::to_string(request.anchors.end));
    for (const std::size_t anchor : request.anchors.tokens)
      if (anchor >= request.anchors.end)
        fail(ErrorCode::argument, "anchors", "tokens below " + std::to_string(request.anchors.end),
             std::to_string(anchor));
    if (request.prefix > prompt.size())
      fail(ErrorCode::argument, "prefix", "at most the prompt's " + std::to_string(prompt.size()) + " tokens",
           std::to_string(request.prefix));
    for (const TokenBias& bias : request.sampler.logit_bias) check_ids(std::span(&bias.token, 1), "logit_bias");
    check_ids(request.sampler.banned, "banned");
    check_ids(request.sampler.allowed, "allowed");
    if (!request.stops.empty()) require(tokenizer.has_value(), ErrorCode::argument, "stops: the generator has no text");
    if (request.tau) {
      require(!std::isnan(*request.tau), ErrorCode::argument, "tau: expected a number, found NaN");
      require(has_gate, ErrorCode::unsupported, "tau: expected a policy with the learned gate, found none");
    }

    check(request.draft, config());
    if (request.draft.layers > 0) require_early_exit(config(), session.policy().needs());

    std::vector<Token> job_ends = request.ends.value_or(ends);
    std::ranges::sort(job_ends);
    Sampler sample(request.sampler);
    StopSequences stops(request.stops);
    std::optional<TextStream> stream;
    if (tokenizer) {
      stream.emplace(*tokenizer);
      for (const Token token : prompt) stream->push(token);  // the text goes on from there
    }
    const std::size_t top = std::min(request.logprobs.value_or(0), static_cast<std::size_t>(config().vocab_size));
    Exchange own{.prompt = std::move(prompt),
                 .prefix = request.prefix,
                 .pinned = request.pinned,
                 .anchors = request.anchors,
                 .tau = request.tau};
    if (own.prefix == own.prompt.size()) own.prefix = 0;
    Drafter drafter(request.draft);
    return std::make_unique<Job>(Job{.request = std::move(request),
                                     .own = std::move(own),
                                     .ends = std::move(job_ends),
                                     .sample = std::move(sample),
                                     .stops = std::move(stops),
                                     .stream = std::move(stream),
                                     .top = std::vector<TokenLogprob>(top),
                                     .drafter = std::move(drafter)});
  }

  /// Under the mutex: a conversation whose requests have all ended.
  std::shared_ptr<History> resting(ConversationId id) const {
    const auto found = conversations.find(id);
    const auto number = static_cast<std::uint64_t>(id);
    if (found == conversations.end())
      fail(number < next_conversation ? ErrorCode::state : ErrorCode::argument, "conversation", "one that is open",
           std::to_string(number) + (number < next_conversation ? ", which is closed" : ", which never was"));
    if (const auto last = found->second->last; last && unfinished.contains(*last))
      fail(ErrorCode::state, "conversation", "no other request of it on its way", "one");
    return found->second;
  }

  /// Under the mutex: what the job goes on behind.
  void attach(Job& job) const {
    const auto& conversation = job.request.conversation;
    job.history = conversation ? resting(*conversation) : std::make_shared<History>();
    if (job.length() > session.context())
      fail(ErrorCode::argument, "prompt", "at most the context's " + std::to_string(session.context()) + " tokens",
           std::to_string(job.length()));
    const auto accept = [&](std::span<const Token> tokens) {
      job.sample.accept(tokens);
      job.drafter.accept(tokens);
    };
    for (const Exchange& exchange : job.history->past) {
      accept(exchange.prompt);
      accept(exchange.tokens);
    }
    accept(job.own.prompt);
  }

  void refuse_callbacks() const {
    if (driver == std::this_thread::get_id())
      fail(ErrorCode::state, "generator", "no step from within a callback", "one");
  }

  // --- From the thread whose turn it is -----------------------------------------------------------------------------

  /// While it lives, this thread steps and no other does.
  class Turn {
   public:
    explicit Turn(Impl& impl) : impl_(impl) {
      std::unique_lock lock(impl.mutex);
      impl.refuse_callbacks();
      impl.changed.wait(lock, [&] { return !impl.driver; });
      impl.driver = std::this_thread::get_id();
    }
    ~Turn() {
      const std::lock_guard lock(impl_.mutex);
      impl_.driver.reset();
      impl_.changed.notify_all();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Impl& impl_;
  };

  bool step(const std::stop_token& stop) {
    const Turn turn(*this);
    take();
    if (!stop.stop_requested()) {
      if (!halfway) start();
      if (!active.empty() || (halfway && !waiting.empty())) advance(stop);
    }
    return take_stock();
  }

  /// For load(). False: nothing is left to do.
  bool take_stock() {
    Load now{.cache = session.stats(), .kept = prefixes.held(), .prefixes = prefixes.stats()};
    const std::lock_guard lock(mutex);
    running = active.size();
    stock = std::move(now);
    return !unfinished.empty();
  }

  /// What other threads have asked for since the last step.
  void take() {
    std::vector<RequestId> ids;
    std::vector<std::shared_ptr<History>> histories;
    {
      const std::lock_guard lock(mutex);
      std::ranges::move(arrived, std::back_inserter(waiting));
      arrived.clear();
      ids.swap(cancelled);
      histories.swap(closed);
      if (interrupt.stop_requested()) interrupt = std::stop_source();
    }
    for (const auto& history : histories) lose(*history);
    for (const RequestId id : ids)
      for (Jobs* const jobs : {&waiting, &active})
        if (const auto found = find(*jobs, id); found != jobs->end()) end(**found, {.finish = Finish::cancelled});
  }

  void start() {
    while (!waiting.empty() && active.size() < at_once && (active.empty() || (!crowded && session.waiting() == 0))) {
      if (is_being_read(*waiting.front())) break;
      active.push_back(std::move(waiting.front()));
      waiting.pop_front();
      Job& job = *active.back();
      guarded(job, [&] { begin(job); });
    }
  }

  // --- What prompts have in common ----------------------------------------------------------------------------------

  /// Of a job whose prompt begins a sequence.
  std::optional<Beginning> beginning(const Job& job) const {
    if (!prefixes.on() || !job.history->past.empty() || !job.own.tokens.empty()) return {};
    return job.own.beginning(job.of_prompt());
  }

  /// Another job is reading what the prompt begins with, and more of it than is kept: it will be kept.
  bool is_being_read(const Job& job) {
    const auto one = beginning(job);
    if (!one) return false;
    for (const auto& other : active) {
      const auto its = beginning(*other);
      if (!its || !other->sequence()) continue;
      const std::size_t shared = prefixes.shared(*one, *its);
      if (shared <= prefixes.kept(*one) || session.length(*other->sequence()) >= shared) continue;
      if (std::ranges::count(other->keeps, shared) == 0) other->keeps.push_back(shared);
      return true;
    }
    return false;
  }

  /// Which lengths of its prompt are to be kept: all that others may share of it, and where it parts from what was read
  /// before.
  void choose_keeps(Job& job) const {
    const auto one = beginning(job);
    if (!one) return;
    for (const std::size_t length : {prefixes.own(*one), prefixes.common_with_kept(*one)})
      if (length > prefixes.kept(*one)) job.keeps.push_back(length);
  }

  /// Tokens of prompts up to the nearest length that is to be kept, at which a pass has to end.
  std::size_t up_to_keeps() const {
    std::size_t most = SIZE_MAX;
    for (const auto& job : active)
      for (const std::size_t length : job->keeps)
        if (const std::size_t read = job->sequence() ? session.length(*job->sequence()) : 0; length > read)
          most = std::min(most, length - read);
    return most;
  }

  void keep_beginnings() {
    for (const auto& job : active) {
      if (job->keeps.empty() || !job->sequence()) continue;
      const auto one = beginning(*job);
      const std::size_t length = session.length(*job->sequence());
      if (one && std::erase(job->keeps, length) > 0) prefixes.keep(*one, length, *job->sequence());
    }
  }

  void begin(Job& job) {
    choose_keeps(job);
    const std::size_t prompt = job.own.prompt.size();
    job.row = job.tells_prompt() ? 0 : job.own.tokens.empty() ? prompt - 1 : prompt;
    feed(job);
  }

  void advance(const std::stop_token& stop) {
    std::stop_source source;
    {
      const std::lock_guard lock(mutex);
      source = interrupt;
    }
    std::span<const Output> outputs;
    try {
      const std::stop_callback relay(stop, [&] { source.request_stop(); });
      halfway = true;
      outputs = session.pass(source.get_token(), up_to_keeps());
      halfway = false;
    } catch (const SequenceError& error) {
      return fail_sequence(error.sequence(), std::current_exception());
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled) return;  // the next step sees to who was cancelled, and goes on
      halfway = false;
      if (error.code() != ErrorCode::budget) throw;
      return give_way(std::current_exception());
    } catch (...) {  // of the session's callbacks, after a pass; or memory ran out halfway
      halfway = false;
      begin_broken_again();
      throw;
    }
    keep_beginnings();
    for (const auto& job : active) job->history->draft.settled = false;
    for (const Output& output : outputs) {
      const auto owner = owner_of(output.sequence);
      if (owner == active.end()) continue;  // it has ended with an earlier one of these
      Job& job = **owner;
      if (session.length(output.sequence) <= job.history->length) continue;  // what a cancelled request had asked for
      if (job.history->draft.settled) continue;                              // of guesses that were wrong
      guarded(job, [&] { receive(job, output.logits); });
    }
    for (const auto& job : active) feed(*job);
    if (session.waiting() > 0) release();
  }

  /// Sees to what was asked for since the last step, and ends a pass that was stopped halfway, however often it is
  /// stopped again meanwhile.
  void come_between_passes() {
    do {
      take();
      if (halfway) advance({});
    } while (halfway);
  }

  Jobs::iterator owner_of(SequenceId sequence) {
    return std::ranges::find_if(active, [&](const auto& job) { return job->sequence() == sequence; });
  }

  void fail_sequence(SequenceId sequence, const std::exception_ptr& error) {
    if (const auto owner = owner_of(sequence); owner != active.end())
      return end(**owner, {.finish = Finish::error, .error = error});
    const std::lock_guard lock(mutex);
    for (const auto& [id, history] : conversations)
      if (history->sequence == sequence) return lose(*history);
    std::rethrow_exception(error);
  }

  /// The latest makes room for those before it, which thus come to their end.
  void give_way(const std::exception_ptr& budget) {
    if (release()) return;
    Job& latest = *active.back();
    if (active.size() == 1) return end(latest, {.finish = Finish::error, .error = budget});
    begin_again(std::prev(active.end()));
    crowded = true;
  }

  /// An active job waits to start again, fed what it had chosen before. Returns the one behind it.
  Jobs::iterator begin_again(Jobs::iterator job) {
    lose(*(*job)->history);
    waiting.push_front(std::move(*job));
    return active.erase(job);
  }

  /// Those whose sequences a failed step has broken begin again.
  void begin_broken_again() {
    const auto is_broken = [&](const auto& history) { return history->sequence && session.broken(*history->sequence); };
    for (auto job = active.end(); job != active.begin();) {
      --job;
      if (!is_broken((*job)->history)) continue;
      job = begin_again(job);
    }
    const std::lock_guard lock(mutex);
    for (const auto& [id, history] : conversations)
      if (is_broken(history)) lose(*history);
  }

  /// A beginning that is kept goes, or else the conversation that has rested longest loses its sequence. False: there
  /// is neither.
  bool release() {
    if (prefixes.drop()) return true;
    const std::lock_guard lock(mutex);
    History* longest = nullptr;
    for (const auto& [id, history] : conversations)
      if (history->sequence && owner_of(*history->sequence) == active.end() &&
          (longest == nullptr || *history->last < *longest->last))
        longest = history.get();
    if (longest != nullptr) lose(*longest);
    return longest != nullptr;
  }

  void lose(History& history) {
    if (history.sequence) session.finish(*std::exchange(history.sequence, {}));
    history.given = history.next = history.calls = history.reused = 0;
    history.draft = {};
  }

  /// The prompt or the chosen token that comes next, once the sequence has all before it; the latest token's logits
  /// choose another.
  void feed(Job& job) {
    History& history = *job.history;
    if (history.draft.open() || (history.sequence && session.length(*history.sequence) < history.given)) return;
    while (history.next < history.past.size() && history.calls > history.past[history.next].tokens.size()) {
      ++history.next;
      history.calls = 0;
    }
    const bool own = history.next == history.past.size();
    const Exchange& next = own ? job.own : history.past[history.next];
    if (history.calls == 0) return feed_prompt(history, next, own ? job.of_prompt() : Logits::none);
    if (history.calls > next.tokens.size()) return;
    const Token token = next.tokens[history.calls - 1];
    const bool latest = own && history.calls == next.tokens.size();
    if (latest && guess(job, token)) return;
    session.push(*history.sequence, token, latest ? Logits::last : Logits::none);
    ++history.calls;
    ++history.given;
  }

  /// The latest token is given with guesses behind it. False: there are none.
  bool guess(Job& job, Token token) {
    History& history = *job.history;
    // No more than the request could still choose, or the context holds.
    const std::size_t chosen = job.own.tokens.size(), room = session.context() - job.length();
    const std::size_t most = std::min(job.request.max_tokens.value_or(SIZE_MAX) - chosen - 1, room);
    Draft draft = job.drafter.begin(token, most);
    if (!draft.open()) return false;
    session.mark(*history.sequence);
    if (draft.layers > 0)
      session.draft(*history.sequence, token, draft.layers);
    else
      session.push(*history.sequence, draft.tokens, Logits::all);
    history.draft = std::move(draft);
    return true;
  }

  /// Logits of early layers: another guess, or all of them are to be verified.
  void go_on_guessing(History& history, std::span<const float> logits) {
    Draft& draft = history.draft;
    if (draft.tokens.size() > draft.most) {
      draft.guessing = false;
      return session.verify(*history.sequence);
    }
    draft.tokens.push_back(static_cast<Token>(std::ranges::max_element(logits) - logits.begin()));
    session.draft(*history.sequence, draft.tokens.back(), draft.layers);
  }

  /// `token` was chosen from the latest row of a draft. Where it is not what was guessed, or there are no more guesses,
  /// the sequence goes back to what is right.
  void judge(Job& job, Token token) {
    Draft& draft = job.history->draft;
    if (!draft.open()) return;
    if (draft.next() == token)
      ++draft.right;
    else
      settle(job);
  }

  /// What was fed of guesses stays as far as it was right.
  void settle(Job& job) {
    History& history = *job.history;
    if (!history.draft.open()) return;
    const Draft draft = std::exchange(history.draft, {});
    history.draft.settled = true;
    job.drafter.learn(draft);
    history.given += draft.rows;
    history.calls += draft.rows;
    session.rewind(*history.sequence, history.given);
    session.commit(*history.sequence);
  }

  void feed_prompt(History& history, const Exchange& next, Logits logits) {
    std::span<const Token> rest = next.prompt;
    if (!history.sequence)
      if (history.sequence = prefixes.fork(next.beginning(logits)); history.sequence) {
        const std::size_t read = session.length(*history.sequence);
        session.prompt(*history.sequence, rest.subspan(read), logits);
        history.given += next.prompt.size();
        history.calls = 1;
        history.reused = read;
        return;
      }
    const auto add = [&](std::span<const Token> tokens, Logits wanted) {
      if (history.sequence)
        session.prompt(*history.sequence, tokens, wanted);
      else
        history.sequence = session.add(tokens, wanted);
    };
    if (next.prefix > 0) add(rest.first(next.prefix), logits == Logits::all ? Logits::all : Logits::none);
    add(rest.subspan(next.prefix), logits);
    if (next.tau) session.set_tau(*history.sequence, *next.tau);
    std::vector<Position> pinned(next.pinned);
    std::iota(pinned.begin(), pinned.end(), static_cast<Position>(history.given));
    session.keep(*history.sequence, pinned);
    if (next.anchors.end > 0) {
      const auto given = static_cast<Position>(history.given);
      std::vector<Position> pins;
      for (const std::size_t anchor : next.anchors.tokens) pins.push_back(given + static_cast<Position>(anchor));
      session.compress(*history.sequence, given, given + static_cast<Position>(next.anchors.end), pins);
    }
    history.given += next.prompt.size();
    history.calls = 1;
  }

  void receive(Job& job, std::span<const float> logits) {
    if (const std::size_t prompt = job.own.prompt.size(); job.row < prompt) {
      const std::size_t row = job.row++;
      if (job.request.on_prompt && row == job.rows_told) {
        ++job.rows_told;
        job.request.on_prompt(*job.sequence(), job.history->length + row, logits);
      }
      if (job.row < prompt) return;
    }
    if (job.history->draft.guessing) return go_on_guessing(*job.history, logits);
    if (job.history->draft.open()) ++job.history->draft.rows;
    choose(job, logits);
  }

  void choose(Job& job, std::span<const float> logits) {
    Piece piece{.logits = logits};
    const std::size_t most = job.request.max_tokens.value_or(SIZE_MAX);
    std::string text;
    if (most > 0) {
      const Token token = job.sample(logits);
      job.sample.accept(token);
      job.drafter.accept(std::span(&token, 1));
      job.own.tokens.push_back(token);
      judge(job, token);
      piece.token = token;
      if (job.request.logprobs) {
        const Logprobs logprobs(logits);
        piece.logprob = logprobs[token];
        piece.top = logprobs.top(job.top);
      }
      if (std::ranges::binary_search(job.ends, token))
        piece.finish = Finish::end;
      else if (job.stream)
        text = job.stops.push(job.stream->push(token));
    }
    if (job.stops.stopped())
      piece.finish = Finish::stop;
    else if (!piece.finish && job.own.tokens.size() >= most)
      piece.finish = Finish::length;
    else if (!piece.finish && job.length() >= session.context())
      piece.finish = Finish::context;
    if (piece.finish) return end(job, std::move(piece), std::move(text));
    piece.text = text;
    hand_over(job, piece);
  }

  void hand_over(const Job& job, Piece& piece) {
    piece.request = job.id;
    piece.sequence = job.sequence();
    piece.drafts = job.drafter.count();
    piece.reused = job.history->past.empty() ? job.history->reused : 0;
    if (job.request.on_piece) job.request.on_piece(piece);
  }

  /// Calls f for a job that is active; what it throws ends the job.
  template <class F>
  void guarded(Job& job, F&& f) {
    try {
      f();
    } catch (...) {
      end(job, {.finish = Finish::error, .error = std::current_exception()});
    }
  }

  /// Hands over the last piece, with the text that was held back, and forgets the job.
  void end(Job& job, Piece piece, std::string text = {}) {
    // Within a pass that was stopped halfway no sequence can go back: it is fed again if it goes on.
    const bool midway = halfway && job.history->draft.open();
    if (!midway) settle(job);
    if (job.stream && piece.finish != Finish::stop) text += job.stops.push(job.stream->flush()) + job.stops.flush();
    piece.text = text;
    try {
      hand_over(job, piece);
    } catch (...) {
      Piece again{.finish = Finish::error, .error = std::current_exception()};
      try {
        if (piece.finish != Finish::error) hand_over(job, again);
      } catch (...) {  // it has been told
      }
    }
    const RequestId id = job.id;
    if (job.request.conversation && piece.finish != Finish::error) remember(job, *piece.finish);
    if (midway || !job.request.conversation || piece.finish == Finish::error) lose(*job.history);
    for (Jobs* const jobs : {&waiting, &active})
      if (const auto found = find(*jobs, id); found != jobs->end()) jobs->erase(found);
    crowded = false;
    const std::lock_guard lock(mutex);
    unfinished.erase(id);
  }

  /// What came of the job becomes a part of its conversation.
  void remember(Job& job, Finish finish) {
    History& history = *job.history;
    if (finish == Finish::end) job.own.tokens.pop_back();
    const std::lock_guard lock(mutex);
    history.length += job.own.length();
    history.past.push_back(std::move(job.own));
  }

  // --- Conversations that outlive the process -----------------------------------------------------------------------

  void save(ConversationId id, const std::filesystem::path& file, std::string_view note) {
    const Turn turn(*this);
    come_between_passes();
    std::shared_ptr<History> history;
    {
      const std::lock_guard lock(mutex);
      history = resting(id);
    }
    if (!history->sequence)
      fail(ErrorCode::state, "conversation", "one whose rows are held", "one that has none, or lost them to others");
    ByteWriter out;
    history->write(out);
    out.text(note);
    session.save(*history->sequence, file, out.written());
  }

  std::pair<ConversationId, std::string> restore(const std::filesystem::path& file) {
    const Turn turn(*this);
    const Restored restored = session.restore(file);
    try {
      ByteReader in(std::as_bytes(std::span(restored.note)), file.string() + ": note");
      auto history = std::make_shared<History>(History::read(in, session.context()));
      std::string note = in.text();
      in.expect(in.left() == 0, "a conversation of this library's");
      history->sequence = restored.sequence;
      const std::lock_guard lock(mutex);
      history->last = RequestId{next_id++};
      const ConversationId id{next_conversation++};
      conversations.emplace(id, std::move(history));
      return {id, std::move(note)};
    } catch (...) {
      session.finish(restored.sequence);
      throw;
    }
  }

  const std::optional<Tokenizer> tokenizer;
  const std::size_t at_once;
  const std::vector<Token> ends;
  const bool has_gate;

  // Of the thread whose turn it is. Jobs are in the order of their ids, those that wait behind those that run.
  Session session;
  Prefixes prefixes;
  Jobs waiting, active;
  bool crowded = false;  // one had to give way: none starts before another has ended
  bool halfway = false;  // the session is in the middle of a pass that was stopped

  // Of all threads, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable_any changed;
  Jobs arrived;
  std::vector<RequestId> cancelled;
  std::vector<std::shared_ptr<History>> closed;
  std::set<RequestId> unfinished;
  std::map<ConversationId, std::shared_ptr<History>> conversations;
  std::uint64_t next_id = 0, next_conversation = 0;
  std::optional<std::thread::id> driver;  // whose turn it is
  std::stop_source interrupt;             // of the pass in work
  std::size_t running = 0;                // of the latest step,
  Load stock = {};                        // and what the session held after it
};

Generator::Generator(Model model, std::optional<Tokenizer> tokenizer, SessionOptions options, std::size_t at_once,
                     PrefixOptions prefixes)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(tokenizer), options, at_once, prefixes)) {}
Generator::~Generator() = default;
Generator::Generator(Generator&&) noexcept = default;
Generator& Generator::operator=(Generator&&) noexcept = default;

RequestId Generator::submit(Request request) {
  std::unique_ptr<Job> job = impl_->make(std::move(request));
  const std::lock_guard lock(impl_->mutex);
  impl_->attach(*job);
  const RequestId id{impl_->next_id++};
  job->id = id;
  job->history->last = id;
  impl_->arrived.push_back(std::move(job));
  impl_->unfinished.insert(id);
  impl_->changed.notify_all();
  return id;
}

ConversationId Generator::open() {
  const std::lock_guard lock(impl_->mutex);
  const ConversationId id{impl_->next_conversation++};
  impl_->conversations.emplace(id, std::make_shared<History>());
  return id;
}

void Generator::close(ConversationId conversation) {
  const std::lock_guard lock(impl_->mutex);
  impl_->closed.push_back(impl_->resting(conversation));
  impl_->conversations.erase(conversation);
}

void Generator::compress(ConversationId conversation, const Replay& how) {
  const Impl::Turn turn(*impl_);
  impl_->come_between_passes();
  std::shared_ptr<History> history;
  {
    const std::lock_guard lock(impl_->mutex);
    history = impl_->resting(conversation);
  }
  if (!history->sequence) fail(ErrorCode::state, "compress", "a conversation whose tokens are held", "none");
  std::vector<Token> tokens;
  for (const Exchange& exchange : history->past)
    for (const auto* part : {&exchange.prompt, &exchange.tokens})
      tokens.insert(tokens.end(), part->begin(), part->end());
  tokens.resize(impl_->session.length(*history->sequence));  // the last one chosen may be yet to come
  impl_->session.compress(*history->sequence, tokens, how);
}

std::size_t Generator::length(ConversationId conversation) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->resting(conversation)->length;
}

void Generator::save(ConversationId conversation, const std::filesystem::path& file, std::string_view note) {
  impl_->save(conversation, file, note);
}

std::pair<ConversationId, std::string> Generator::restore(const std::filesystem::path& file) {
  return impl_->restore(file);
}

PrefixStats Generator::prefixes() const { return impl_->prefixes.stats(); }

void Generator::drop_prefixes() {
  const Impl::Turn turn(*impl_);
  impl_->prefixes.clear();
  impl_->take_stock();
}

void Generator::cancel(RequestId request) {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->unfinished.contains(request)) return;
  impl_->cancelled.push_back(request);
  impl_->interrupt.request_stop();
}

bool Generator::step(std::stop_token stop) { return impl_->step(stop); }

void Generator::run(std::stop_token stop) {
  while (impl_->step(stop) && !stop.stop_requested()) {
  }
}

void Generator::serve(std::stop_token stop) {
  while (!stop.stop_requested()) {
    run(stop);
    std::unique_lock lock(impl_->mutex);
    impl_->changed.wait(lock, stop, [&] { return !impl_->unfinished.empty(); });
  }
}

Generation Generator::generate(Request request, std::stop_token stop) {
  struct Outcome {
    Generation generation;
    std::exception_ptr error;
  };
  // Another thread may step, and go on when this one has left with an exception.
  const auto outcome = std::make_shared<Outcome>();
  request.on_piece = [outcome, also = std::move(request.on_piece),
                      top = request.logprobs.value_or(0) > 0](const Piece& piece) {
    Generation& g = outcome->generation;
    if (piece.token) g.tokens.push_back(*piece.token);
    g.text += piece.text;
    if (piece.logprob) g.logprobs.push_back(*piece.logprob);
    if (piece.token && top) g.top.emplace_back(piece.top.begin(), piece.top.end());
    if (piece.finish) g.finish = *piece.finish;
    g.drafts = piece.drafts;
    if (piece.error) outcome->error = piece.error;
    if (also) also(piece);
  };
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->refuse_callbacks();
  }
  const RequestId id = submit(std::move(request));
  const std::stop_callback on_stop(stop, [&] { cancel(id); });
  try {
    for (;;) {
      {
        std::unique_lock lock(impl_->mutex);
        const auto ended = [&] { return !impl_->unfinished.contains(id); };
        impl_->changed.wait(lock, [&] { return ended() || !impl_->driver; });
        if (ended()) break;
      }
      step();
    }
  } catch (...) {
    cancel(id);
    throw;
  }
  if (outcome->error) std::rethrow_exception(outcome->error);
  return std::move(outcome->generation);
}

std::size_t Generator::pending() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->unfinished.size();
}

Load Generator::load() const {
  const std::lock_guard lock(impl_->mutex);
  Load now = impl_->stock;
  now.running = std::min(impl_->running, impl_->unfinished.size());
  now.waiting = impl_->unfinished.size() - now.running;
  return now;
}

std::vector<Token> Generator::encode(std::string_view text, Specials specials) const {
  return impl_->encode(text, specials);
}

const std::vector<Token>& Generator::ends() const { return impl_->ends; }

const Session& Generator::session() const { return impl_->session; }

}  // namespace pith
