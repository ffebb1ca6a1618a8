// SPDX-License-Identifier: MIT
#include "pith/generator.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "pith/error.hpp"
#include "pith/stop_sequences.hpp"

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
  std::vector<Token> prompt;
  std::vector<Token> ends;  // ascending
  Sampler sample;
  StopSequences stops;
  std::optional<TextStream> stream;
  std::vector<TokenLogprob> top;

  std::vector<Token> tokens = {};  // chosen
  std::size_t rows_told = 0;       // of the prompt's logits

  // Of the sequence that it has now.
  std::optional<SequenceId> sequence = {};
  std::size_t row = 0;  // of the prompt that the next logits follow
  std::size_t fed = 0;  // of `tokens`

  std::size_t length() const { return prompt.size() + tokens.size(); }
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
  Impl(Model model, std::optional<Tokenizer> some_tokenizer, SessionOptions options, std::size_t most)
      : tokenizer(std::move(some_tokenizer)),
        at_once(most),
        ends(end_tokens(model.config(), tokenizer)),
        has_gate(asks_gate(model.config(), options)),
        session(std::move(model), std::move(options)) {
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

  std::unique_ptr<Job> make(Request&& request) const {
    const auto* const text = std::get_if<std::string>(&request.prompt);
    std::vector<Token> prompt =
        text != nullptr ? encode(*text, Specials::add_only) : std::get<std::vector<Token>>(std::move(request.prompt));
    if (prompt.empty()) fail(ErrorCode::argument, "prompt", "at least one token", "none");
    if (prompt.size() > session.context())
      fail(ErrorCode::argument, "prompt", "at most the context's " + std::to_string(session.context()) + " tokens",
           std::to_string(prompt.size()));
    check_ids(prompt, "prompt");
    for (const TokenBias& bias : request.sampler.logit_bias) check_ids(std::span(&bias.token, 1), "logit_bias");
    check_ids(request.sampler.banned, "banned");
    check_ids(request.sampler.allowed, "allowed");
    if (!request.stops.empty()) require(tokenizer.has_value(), ErrorCode::argument, "stops: the generator has no text");
    if (request.tau) {
      require(!std::isnan(*request.tau), ErrorCode::argument, "tau: expected a number, found NaN");
      require(has_gate, ErrorCode::unsupported, "tau: expected a policy with the learned gate, found none");
    }

    std::vector<Token> job_ends = request.ends.value_or(ends);
    std::ranges::sort(job_ends);
    Sampler sample(request.sampler);
    sample.accept(prompt);
    StopSequences stops(request.stops);
    std::optional<TextStream> stream;
    if (tokenizer) {
      stream.emplace(*tokenizer);
      for (const Token token : prompt) stream->push(token);  // the text goes on from there
    }
    const std::size_t top = std::min(request.logprobs.value_or(0), static_cast<std::size_t>(config().vocab_size));
    return std::make_unique<Job>(Job{.request = std::move(request),
                                     .prompt = std::move(prompt),
                                     .ends = std::move(job_ends),
                                     .sample = std::move(sample),
                                     .stops = std::move(stops),
                                     .stream = std::move(stream),
                                     .top = std::vector<TokenLogprob>(top)});
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
      start();
      if (!active.empty()) advance(stop);
    }
    const std::lock_guard lock(mutex);
    return !unfinished.empty();
  }

  /// What other threads have asked for since the last step.
  void take() {
    std::vector<RequestId> ids;
    {
      const std::lock_guard lock(mutex);
      std::ranges::move(arrived, std::back_inserter(waiting));
      arrived.clear();
      ids.swap(cancelled);
      if (interrupt.stop_requested()) interrupt = std::stop_source();
    }
    for (const RequestId id : ids)
      for (Jobs* const jobs : {&waiting, &active})
        if (const auto found = find(*jobs, id); found != jobs->end()) end(**found, {.finish = Finish::cancelled});
  }

  void start() {
    while (!waiting.empty() && active.size() < at_once && (active.empty() || (!crowded && session.waiting() == 0))) {
      active.push_back(std::move(waiting.front()));
      waiting.pop_front();
      Job& job = *active.back();
      guarded(job, [&] { begin(job); });
    }
  }

  void begin(Job& job) {
    const bool tells = job.request.on_prompt && job.rows_told < job.prompt.size();
    const Logits logits = tells ? Logits::all : job.tokens.empty() ? Logits::last : Logits::none;
    job.row = tells ? 0 : job.tokens.empty() ? job.prompt.size() - 1 : job.prompt.size();
    job.fed = 0;
    job.sequence = session.add(job.prompt, logits);
    if (job.request.tau) session.set_tau(*job.sequence, *job.request.tau);
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
      outputs = session.pass(source.get_token());
    } catch (const SequenceError& error) {
      const auto owner =
          std::ranges::find_if(active, [&](const auto& job) { return job->sequence == error.sequence(); });
      if (owner == active.end()) throw;
      return end(**owner, {.finish = Finish::error, .error = std::current_exception()});
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled) return;  // the next step sees to who was cancelled, and goes on
      if (error.code() != ErrorCode::budget) throw;
      return give_way(std::current_exception());
    }
    for (const Output& output : outputs) {
      const auto owner =
          std::ranges::find_if(active, [&](const auto& job) { return job->sequence == output.sequence; });
      if (owner == active.end()) continue;  // it has ended with an earlier one of these
      Job& job = **owner;
      guarded(job, [&] { receive(job, output.logits); });
    }
    for (const auto& job : active) feed(*job);
  }

  /// The latest makes room for those before it, which thus come to their end.
  void give_way(const std::exception_ptr& budget) {
    Job& latest = *active.back();
    if (active.size() == 1) return end(latest, {.finish = Finish::error, .error = budget});
    session.finish(*std::exchange(latest.sequence, {}));
    waiting.push_front(std::move(active.back()));
    active.pop_back();
    crowded = true;
  }

  /// The next token that was chosen, once those before it are fed; the latest one's logits choose another.
  void feed(Job& job) {
    if (job.fed == job.tokens.size() || session.length(*job.sequence) < job.prompt.size() + job.fed) return;
    const Token token = job.tokens[job.fed++];
    session.push(*job.sequence, token, job.fed == job.tokens.size() ? Logits::last : Logits::none);
  }

  void receive(Job& job, std::span<const float> logits) {
    if (job.row < job.prompt.size()) {
      const std::size_t row = job.row++;
      if (job.request.on_prompt && row == job.rows_told) {
        ++job.rows_told;
        job.request.on_prompt(*job.sequence, row, logits);
      }
      if (job.row < job.prompt.size()) return;
    }
    choose(job, logits);
  }

  void choose(Job& job, std::span<const float> logits) {
    Piece piece{.logits = logits};
    const std::size_t most = job.request.max_tokens.value_or(SIZE_MAX);
    std::string text;
    if (most > 0) {
      const Token token = job.sample(logits);
      job.sample.accept(token);
      job.tokens.push_back(token);
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
    else if (!piece.finish && job.tokens.size() >= most)
      piece.finish = Finish::length;
    else if (!piece.finish && job.length() >= session.context())
      piece.finish = Finish::context;
    if (piece.finish) return end(job, std::move(piece), std::move(text));
    piece.text = text;
    hand_over(job, piece);
  }

  void hand_over(const Job& job, Piece& piece) {
    piece.request = job.id;
    piece.sequence = job.sequence;
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
    if (job.sequence) session.finish(*job.sequence);
    for (Jobs* const jobs : {&waiting, &active})
      if (const auto found = find(*jobs, id); found != jobs->end()) jobs->erase(found);
    crowded = false;
    const std::lock_guard lock(mutex);
    unfinished.erase(id);
  }

  const std::optional<Tokenizer> tokenizer;
  const std::size_t at_once;
  const std::vector<Token> ends;
  const bool has_gate;

  // Of the thread whose turn it is. Jobs are in the order of their ids, those that wait behind those that run.
  Session session;
  Jobs waiting, active;
  bool crowded = false;  // one had to give way: none starts before another has ended

  // Of all threads, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable_any changed;
  Jobs arrived;
  std::vector<RequestId> cancelled;
  std::set<RequestId> unfinished;
  std::uint64_t next_id = 0;
  std::optional<std::thread::id> driver;  // whose turn it is
  std::stop_source interrupt;             // of the pass in work
};

Generator::Generator(Model model, std::optional<Tokenizer> tokenizer, SessionOptions options, std::size_t at_once)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(tokenizer), std::move(options), at_once)) {}
Generator::~Generator() = default;
Generator::Generator(Generator&&) noexcept = default;
Generator& Generator::operator=(Generator&&) noexcept = default;

RequestId Generator::submit(Request request) {
  std::unique_ptr<Job> job = impl_->make(std::move(request));
  const std::lock_guard lock(impl_->mutex);
  const RequestId id{impl_->next_id++};
  job->id = id;
  impl_->arrived.push_back(std::move(job));
  impl_->unfinished.insert(id);
  impl_->changed.notify_all();
  return id;
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

std::vector<Token> Generator::encode(std::string_view text, Specials specials) const {
  return impl_->encode(text, specials);
}

const std::vector<Token>& Generator::ends() const { return impl_->ends; }

const Session& Generator::session() const { return impl_->session; }

}  // namespace pith
