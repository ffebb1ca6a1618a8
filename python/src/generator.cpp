// SPDX-License-Identifier: MIT
// Generators and conversations: prompts in, pieces of text out.
#include <filesystem>
#include <variant>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/variant.h>

#include "bindings.hpp"

namespace pith::python {
namespace {

/// A piece whose views are its own.
struct PyPiece {
  std::uint64_t request = 0;
  std::optional<Token> token;
  std::string text;
  std::optional<float> logprob;
  std::vector<TokenLogprob> top;
  std::optional<std::string> finish;
  std::optional<CacheStats> stats;
  std::vector<std::vector<std::vector<std::int32_t>>> drop_at;
  DraftCount drafts;
  std::exception_ptr error;
};

PyPiece piece_of(const Piece& piece) {
  PyPiece mine{.request = static_cast<std::uint64_t>(piece.request),
               .token = piece.token,
               .text = std::string(piece.text),
               .logprob = piece.logprob,
               .top = {piece.top.begin(), piece.top.end()},
               .drafts = piece.drafts,
               .error = piece.error};
  if (piece.finish) mine.finish = name(*piece.finish);
  return mine;
}

std::vector<std::pair<Token, float>> pairs_of(const std::vector<TokenLogprob>& top) {
  std::vector<std::pair<Token, float>> all;
  for (const TokenLogprob& one : top) all.emplace_back(one.token, one.logprob);
  return all;
}

Dict prefixes_of(const PrefixStats& stats) {
  Dict all;
  all["prompts"] = stats.prompts;
  all["hits"] = stats.hits;
  all["tokens_reused"] = stats.tokens_reused;
  all["not_kept"] = stats.not_kept;
  all["policy_looks_ahead"] = stats.policy_looks_ahead;
  all["read_whole"] = stats.read_whole;
  all["dropped"] = stats.dropped;
  all["kept"] = stats.kept;
  all["bytes"] = stats.bytes;
  return all;
}

class PyGenerator {
 public:
  PyGenerator(const Model& model, const std::optional<Tokenizer>& tokenizer, const PyOptions& options,
              std::size_t at_once, std::size_t prefix_bytes)
      : options_(options), generator_(model, tokenizer, options.session, at_once, {.bytes = prefix_bytes}) {}

  std::uint64_t submit(const std::variant<std::string, Ids>& prompt, const Request& how,
                       std::optional<std::uint64_t> conversation) {
    Request request = how;
    if (conversation) request.conversation = ConversationId{*conversation};
    if (const auto* const text = std::get_if<std::string>(&prompt))
      request.prompt = *text;
    else
      request.prompt = vector_of(std::get<Ids>(prompt));
    request.on_piece = [this](const Piece& piece) {
      PyPiece mine = piece_of(piece);
      if (piece.finish && piece.sequence) {
        mine.stats = generator_.session().stats(*piece.sequence);
        if (options_.session.record_drops) mine.drop_at = generator_.session().drop_at(*piece.sequence);
      }
      const std::lock_guard lock(mutex_);
      pieces_.push_back(std::move(mine));
    };
    return static_cast<std::uint64_t>(generator_.submit(std::move(request)));
  }

  /// One pass; the pieces that came of it. Nothing is left to do where it says so.
  std::pair<std::vector<PyPiece>, bool> step() {
    hear_signals();
    bool more = false;
    {
      const nb::gil_scoped_release release;
      more = generator_.step();
    }
    options_.raise_failures();
    const std::lock_guard lock(mutex_);
    return {std::exchange(pieces_, {}), more};
  }

  std::uint64_t open() { return static_cast<std::uint64_t>(generator_.open()); }

  std::uint64_t restore(const std::filesystem::path& file) {
    const nb::gil_scoped_release release;
    return static_cast<std::uint64_t>(generator_.restore(file).first);
  }

  void save(std::uint64_t conversation, const std::filesystem::path& file) {
    const nb::gil_scoped_release release;
    generator_.save(ConversationId{conversation}, file);
  }

  void close(std::uint64_t conversation) { generator_.close(ConversationId{conversation}); }
  void cancel(std::uint64_t request) { generator_.cancel(RequestId{request}); }
  std::size_t pending() const { return generator_.pending(); }
  Dict stats() const { return stats_of(generator_.load().cache); }
  Dict prefixes() const { return prefixes_of(generator_.prefixes()); }
  std::vector<Token> encode(const std::string& text) const { return generator_.encode(text); }

 private:
  PyOptions options_;
  std::mutex mutex_;
  std::vector<PyPiece> pieces_;
  Generator generator_;  // last: its requests end before what they write to
};

/// A conversation, whose answers end at a signal.
class PyChat {
 public:
  PyChat(const Model& model, const Tokenizer& tokenizer, PyOptions options, const std::optional<ChatTemplate>& by,
         const std::string& tools, const std::string& variables)
      : options_(std::move(options)),
        chat_(model, tokenizer, listening(options_.session), by, {.tools = tools, .variables = variables}) {}

  Answer say(const std::string& message, const Request& how, const std::optional<nb::object>& on_text) {
    const InUse use(in_use_, "chat");
    Request request = how;
    stop_ = {};
    raised_ = nullptr;
    request.on_piece = [&](const Piece& piece) {
      const nb::gil_scoped_acquire lock;
      listen();
      if (!on_text || piece.text.empty() || raised_) return;
      try {
        (*on_text)(nb::str(piece.text.data(), piece.text.size()));
      } catch (...) {
        stop(std::current_exception());
      }
    };
    Answer answer;
    {
      const nb::gil_scoped_release release;
      answer = chat_.say(message, std::move(request), stop_.get_token());
    }
    if (raised_) std::rethrow_exception(std::exchange(raised_, nullptr));
    options_.raise_failures();
    return answer;
  }

  template <class F>
  auto use(F&& f) {
    const InUse use(in_use_, "chat");
    return f(chat_);
  }

 private:
  void stop(std::exception_ptr error) {
    raised_ = std::move(error);
    stop_.request_stop();
  }

  /// With the interpreter's lock.
  void listen() {
    if (!raised_ && PyErr_CheckSignals() != 0) stop(std::make_exception_ptr(nb::python_error()));
  }

  SessionOptions listening(SessionOptions options) {
    options.on_prefill = [this](const Progress&) {
      const nb::gil_scoped_acquire lock;
      listen();
    };
    return options;
  }

  bool in_use_ = false;
  std::stop_source stop_;
  std::exception_ptr raised_;
  PyOptions options_;
  Chat chat_;
};

std::vector<std::pair<std::string, std::string>> messages_of(const Chat& chat) {
  std::vector<std::pair<std::string, std::string>> all;
  for (const Message& one : chat.messages()) all.emplace_back(one.role, one.content);
  return all;
}

}  // namespace

void bind_generator(nb::module_& module) {
  nb::class_<Request>(module, "Request", "What is wanted of a generation, but for its prompt.")
      .def(
          "__init__",
          [](Request* self, std::optional<std::size_t> max_tokens, std::vector<std::string> stop,
             std::optional<std::vector<Token>> ends, std::optional<std::size_t> logprobs, float temperature, int top_k,
             float top_p, float min_p, float repetition_penalty, float frequency_penalty, float presence_penalty,
             int repetition_window, const std::map<Token, float>& logit_bias, std::vector<Token> banned,
             std::vector<Token> allowed, std::uint64_t seed, std::size_t draft, std::size_t draft_layers,
             std::optional<float> tau, std::size_t pinned, std::size_t prefix) {
            SamplerOptions sampler{.temperature = temperature,
                                   .top_k = top_k,
                                   .top_p = top_p,
                                   .min_p = min_p,
                                   .repetition_penalty = repetition_penalty,
                                   .frequency_penalty = frequency_penalty,
                                   .presence_penalty = presence_penalty,
                                   .repetition_window = repetition_window,
                                   .banned = std::move(banned),
                                   .allowed = std::move(allowed),
                                   .seed = seed};
            for (const auto& [token, bias] : logit_bias) sampler.logit_bias.push_back({token, bias});
            new (self) Request{.max_tokens = max_tokens,
                               .stops = std::move(stop),
                               .ends = std::move(ends),
                               .logprobs = logprobs,
                               .sampler = std::move(sampler),
                               .draft = {.tokens = draft, .layers = draft_layers},
                               .tau = tau,
                               .pinned = pinned,
                               .prefix = prefix};
          },
          nb::kw_only(), "max_tokens"_a = nb::none(), "stop"_a = std::vector<std::string>(), "ends"_a = nb::none(),
          "logprobs"_a = nb::none(), "temperature"_a = 1.0f, "top_k"_a = 0, "top_p"_a = 1.0f, "min_p"_a = 0.0f,
          "repetition_penalty"_a = 1.0f, "frequency_penalty"_a = 0.0f, "presence_penalty"_a = 0.0f,
          "repetition_window"_a = 64, "logit_bias"_a = std::map<Token, float>(), "banned"_a = std::vector<Token>(),
          "allowed"_a = std::vector<Token>(), "seed"_a = 0, "draft"_a = 0, "draft_layers"_a = 0, "tau"_a = nb::none(),
          "pinned"_a = 0, "prefix"_a = 0);

  nb::class_<PyPiece>(module, "Piece", "What the choice of one token adds.")
      .def_ro("request", &PyPiece::request)
      .def_ro("token", &PyPiece::token)
      .def_ro("text", &PyPiece::text)
      .def_ro("logprob", &PyPiece::logprob)
      .def_prop_ro("top", [](const PyPiece& self) { return pairs_of(self.top); })
      .def_ro("finish", &PyPiece::finish)
      .def_prop_ro("drafts", [](const PyPiece& self) { return std::pair(self.drafts.drafted, self.drafts.accepted); })
      .def_prop_ro("stats",
                   [](const PyPiece& self) { return self.stats ? std::optional(stats_of(*self.stats)) : std::nullopt; })
      .def_prop_ro(
          "drop_at", [](const PyPiece& self) { return drops_of(self.drop_at); }, nb::rv_policy::automatic)
      .def("raise_error", [](const PyPiece& self) {
        if (self.error) std::rethrow_exception(self.error);
      });

  nb::class_<PyGenerator>(module, "Generator", "Many generations side by side over one session.")
      .def(nb::init<const Model&, const std::optional<Tokenizer>&, const PyOptions&, std::size_t, std::size_t>(),
           "model"_a, "tokenizer"_a.none(), "options"_a, "at_once"_a = 16, "prefix_bytes"_a = 0)
      .def("submit", &PyGenerator::submit, "prompt"_a, "request"_a, "conversation"_a = nb::none())
      .def("open", &PyGenerator::open)
      .def("restore", &PyGenerator::restore, "file"_a)
      .def("close", &PyGenerator::close, "conversation"_a)
      .def("save", &PyGenerator::save, "conversation"_a, "file"_a)
      .def("step", &PyGenerator::step)
      .def("cancel", &PyGenerator::cancel, "request"_a)
      .def("encode", &PyGenerator::encode, "text"_a)
      .def_prop_ro("pending", &PyGenerator::pending)
      .def_prop_ro("stats", &PyGenerator::stats)
      .def_prop_ro("prefixes", &PyGenerator::prefixes);

  nb::class_<ChatTemplate>(module, "ChatTemplate", "The chat templates of a model.")
      .def(
          "__init__",
          [](ChatTemplate* self, const std::string& source, const std::map<std::string, std::string>& special_tokens) {
            new (self) ChatTemplate(ChatTemplate::parse(source, special_tokens));
          },
          "source"_a, "special_tokens"_a = std::map<std::string, std::string>());

  nb::class_<Answer>(module, "Answer")
      .def_prop_ro("text", [](const Answer& self) { return self.generation.text; })
      .def_prop_ro("tokens", [](const Answer& self) { return self.generation.tokens; })
      .def_prop_ro("logprobs", [](const Answer& self) { return self.generation.logprobs; })
      .def_prop_ro("finish", [](const Answer& self) { return std::string(name(self.generation.finish)); })
      .def_ro("prompt_tokens", &Answer::prompt_tokens)
      .def_prop_ro("stats", [](const Answer& self) { return stats_of(self.stats); })
      .def_prop_ro(
          "drop_at", [](const Answer& self) { return drops_of(self.drop_at); }, nb::rv_policy::automatic);

  nb::class_<PyChat>(module, "Chat", "A conversation.")
      .def(nb::init<const Model&, const Tokenizer&, PyOptions, const std::optional<ChatTemplate>&, const std::string&,
                    const std::string&>(),
           "model"_a, "tokenizer"_a, "options"_a, "template_"_a.none(), "tools"_a = "", "variables"_a = "")
      .def("say", &PyChat::say, "message"_a, "request"_a, "on_text"_a = nb::none())
      .def(
          "set_system", [](PyChat& self, const std::string& text) { self.use([&](Chat& c) { c.set_system(text); }); },
          "text"_a)
      .def(
          "restore",
          [](PyChat& self, const std::vector<std::pair<std::string, std::string>>& messages) {
            std::vector<Message> all;
            for (const auto& [role, content] : messages) all.push_back({role, content});
            self.use([&](Chat& c) { c.restore(std::move(all)); });
          },
          "messages"_a)
      .def(
          "save", [](PyChat& self, const std::filesystem::path& file) { self.use([&](Chat& c) { c.save(file); }); },
          "file"_a)
      .def(
          "restore_file",
          [](PyChat& self, const std::filesystem::path& file) { self.use([&](Chat& c) { c.restore(file); }); },
          "file"_a)
      .def("reset", [](PyChat& self) { self.use([](Chat& c) { c.reset(); }); })
      .def_prop_ro("messages", [](PyChat& self) { return self.use([](Chat& c) { return messages_of(c); }); })
      .def_prop_ro("left_out", [](PyChat& self) { return self.use([](Chat& c) { return c.left_out(); }); });
}

}  // namespace pith::python
