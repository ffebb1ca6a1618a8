// SPDX-License-Identifier: MIT
#include "server/engine.hpp"

#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

namespace pith::tool {

/// What is known of a request from one part to the next.
struct Engine::Sent {
  std::size_t choice = 0;
  bool asks_drops = false;
  std::optional<SequenceId> sequence = {};
  std::vector<std::uint32_t> gone = {};  // of each token, the rows of which that was told
};

Engine::Engine(std::string name, Model model, Tokenizer tokenizer, SessionOptions options, std::size_t at_once,
               PrefixOptions prefixes, bool tells_drops, std::function<void(const std::string&)> trouble)
    : name_(std::move(name)), tells_drops_(tells_drops), trouble_(std::move(trouble)) {
  options.record_drops = tells_drops;
  generator_ =
      std::make_unique<Generator>(std::move(model), std::move(tokenizer), std::move(options), at_once, prefixes);
  const Session& session = generator_->session();
  policy_ = session.policy().describe();
  has_gate_ = session.policy().needs().gate;
  context_ = session.context();
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void Engine::work(const std::stop_token& stop) {
  while (!stop.stop_requested()) try {
      generator_->serve(stop);
    } catch (const std::exception& error) {
      // Requests are as they were, and the next step goes on; but not at full speed, if it cannot.
      trouble_(name_ + ": " + error.what());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

RequestId Engine::submit(Request request, std::size_t choice, bool asks_drops, std::shared_ptr<Mailbox> mailbox,
                         std::function<void()> ended) {
  auto sent = std::make_shared<Sent>();
  sent->choice = choice;
  sent->asks_drops = asks_drops;
  request.on_piece = [this, sent, mailbox = std::move(mailbox), ended = std::move(ended)](const Piece& piece) {
    mailbox->put(part_of(piece, *sent));
    if (piece.finish) ended();
  };
  const std::size_t prompt = std::holds_alternative<std::vector<Token>>(request.prompt)
                                 ? std::get<std::vector<Token>>(request.prompt).size()
                                 : 0;
  const RequestId id = generator_->submit(std::move(request));
  ++counts_.requests;
  counts_.prompt_tokens += prompt;
  return id;
}

std::size_t Engine::let_go() {
  constexpr std::chrono::milliseconds longest{10000}, often{5};
  const auto until = std::chrono::steady_clock::now() + longest;
  while (generator_->pending() > 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(often);
  generator_->drop_prefixes();
  return generator_->load().cache.bytes_used;
}

Part Engine::part_of(const Piece& piece, Sent& sent) {
  Part part{.choice = sent.choice,
            .text = std::string(piece.text),
            .token = piece.token,
            .logprob = piece.logprob,
            .top = {piece.top.begin(), piece.top.end()},
            .finish = piece.finish,
            .error = piece.error,
            .reused = piece.reused};
  if (piece.token) ++counts_.tokens;
  if (piece.finish == Finish::cancelled) ++counts_.cancelled;
  if (piece.finish == Finish::error) ++counts_.failed;
  if (!piece.sequence) return part;
  const Session& session = generator_->session();
  if (piece.finish) {
    const CacheStats stats = session.stats(*piece.sequence);
    part.held = Held{stats.seen_rows, stats.dropped_rows, stats.bytes_used, stats.bytes_dense};
    counts_.rows_seen += stats.seen_rows;
    counts_.rows_dropped += stats.dropped_rows;
  }
  if (sent.asks_drops) tell_drops(piece, sent, part);
  return part;
}

/// What is gone and was not told yet: of a sequence that began with what another had read, that before its time, too.
void Engine::tell_drops(const Piece& piece, Sent& sent, Part& part) const {
  const Session& session = generator_->session();
  if (sent.sequence != piece.sequence) {
    part.again = sent.sequence.has_value();
    sent.sequence = piece.sequence;
    sent.gone.clear();
    const std::size_t length = session.length(*piece.sequence);
    part.rows_per_token = length > 0 ? session.stats(*piece.sequence).seen_rows / length : 0;
  }
  std::vector<std::uint32_t> gone = session.rows_gone(*piece.sequence);
  sent.gone.resize(gone.size());
  for (std::size_t i = 0; i < gone.size(); ++i)
    if (gone[i] > sent.gone[i]) part.drops.emplace_back(static_cast<Position>(i), gone[i] - sent.gone[i]);
  sent.gone = std::move(gone);
}

}  // namespace pith::tool
