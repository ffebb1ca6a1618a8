// SPDX-License-Identifier: MIT
#include "pith/chat.hpp"

#include <algorithm>
#include <exception>
#include <span>
#include <string_view>
#include <utility>

#include "files/bytes.hpp"
#include "pith/error.hpp"

namespace pith {

namespace {

/// How many messages stand before the user's first.
std::size_t systems_in(const std::vector<Message>& messages) {
  return !messages.empty() && messages.front().role == "system" ? 1 : 0;
}

/// A stretch of what a template wrote.
ChatText slice(const ChatText& chat, std::size_t begin, std::size_t end) {
  ChatText out{chat.text.substr(begin, end - begin), {}, chat.begins_text && begin == 0};
  for (const ChatText::Range range : chat.data) {
    const std::size_t first = std::max(range.begin, begin), past = std::min(range.end, end);
    if (first < past) out.data.push_back({first - begin, past - begin});
  }
  return out;
}

/// Whether two texts differ in more than their blanks, which templates trim.
bool differ(std::string_view a, std::string_view b) {
  constexpr std::string_view blanks = " \t\r\n";
  std::size_t i = 0, j = 0;
  for (;;) {
    i = std::min(a.find_first_not_of(blanks, i), a.size());
    j = std::min(b.find_first_not_of(blanks, j), b.size());
    if (i == a.size() || j == b.size()) return i != a.size() || j != b.size();
    if (a[i++] != b[j++]) return true;
  }
}

/// What is given to the model next.
struct Reading {
  std::string text;
  std::vector<Token> tokens;
  std::size_t pinned = 0;
};

}  // namespace

struct Chat::Impl {
  Impl(Model model, Tokenizer some_tokenizer, SessionOptions session, std::optional<ChatTemplate> some_template,
       ChatOptions some_options)
      : tokenizer(std::move(some_tokenizer)),
        by(some_template ? *some_template : tokenizer.chat_template()),
        options(std::move(some_options)),
        records_drops(session.record_drops),
        generator(std::move(model), tokenizer, std::move(session), 1) {
    options.add_generation_prompt = true;
  }

  std::size_t context() const { return generator.session().context(); }
  std::size_t systems() const { return systems_in(messages); }

  // --- What the template writes -------------------------------------------------------------------------------------

  /// The conversation from a message on, the system prompt before it.
  ChatText render(std::size_t from, const Message* in_place_of = nullptr, const std::string& stand_in = {}) const {
    std::vector<Message> some(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(systems()));
    for (std::size_t i = from; i < messages.size(); ++i) {
      some.push_back(messages[i]);
      if (&messages[i] == in_place_of) some.back().content = stand_in;
    }
    return by.render(some, options);
  }

  /// A word that no message holds, and that no template finds anything in.
  std::string stand_in() const {
    std::string word = "StandsForAMessage";
    const auto holds = [&](const Message& m) { return m.content.find(word) != std::string::npos; };
    while (std::ranges::any_of(messages, holds)) word += 'x';
    return word;
  }

  /// All from a message on.
  Reading whole(std::size_t from) const {
    const ChatText chat = render(from);
    return {chat.text, tokenizer.encode(chat, by)};
  }

  /// What a whole reading begins with, up to the user's first words: so many of its tokens.
  std::size_t tokens_before_user(const Reading& reading) const {
    const std::string word = stand_in();
    const ChatText chat = render(first, &messages[first], word);
    const std::size_t begin = std::min(chat.text.find(word), chat.text.size());
    if (begin == chat.text.size() || !std::string_view(reading.text).starts_with(chat.text.substr(0, begin))) return 0;
    const std::vector<Token> tokens = tokenizer.encode(slice(chat, 0, begin), by);
    return static_cast<std::size_t>(std::ranges::mismatch(tokens, reading.tokens).in1 - tokens.begin());
  }

  /// What follows the model's latest answer, which stays as the model wrote it: a word stands for it, so that nothing
  /// depends on what a template makes of an answer. None where the template does not write it.
  std::optional<Reading> continuation() {
    const std::string word = stand_in();
    const ChatText chat = render(first, &messages[messages.size() - 2], word);
    const std::size_t at = chat.text.rfind(word);
    if (at == std::string::npos) return std::nullopt;
    rewrites = rewrites || differ(std::string_view(chat.text).substr(0, at), before_answer);
    const ChatText rest = slice(chat, at + word.size(), chat.text.size());
    Reading reading{rest.text, tokenizer.encode(rest, by)};
    if (reading.tokens.empty()) return std::nullopt;
    before_answer += messages[messages.size() - 2].content + rest.text;
    return reading;
  }

  // --- What is read -------------------------------------------------------------------------------------------------

  void forget() {
    if (!conversation) return;
    try {
      generator.close(*conversation);
    } catch (const Error&) {  // of a step that threw: its request ends with the next one, and gives way to others
    }
    conversation.reset();
    holds_turns = false;
  }

  /// A conversation of its own for the latest messages that have at most so many tokens; the last one always counts.
  Reading read_again(std::size_t most) {
    forget();
    std::vector<std::size_t> starts;  // the user's messages
    for (std::size_t i = std::max(first, systems()); i < messages.size(); i += 2) starts.push_back(i);
    first = *std::partition_point(starts.begin(), starts.end() - 1,
                                  [&](std::size_t start) { return whole(start).tokens.size() > most; });
    Reading reading = whole(first);
    if (reading.tokens.size() >= context())
      fail(ErrorCode::argument, "message", "fewer tokens than the context's " + std::to_string(context()),
           std::to_string(reading.tokens.size()));
    reading.pinned = tokens_before_user(reading);
    conversation = generator.open();
    before_answer = reading.text;
    return reading;
  }

  Reading next(Answer& answer) {
    std::size_t most = context() - context() / 4;
    if (conversation) {
      if (std::optional<Reading> reading = continuation()) {
        if (generator.length(*conversation) + reading->tokens.size() < context()) return std::move(*reading);
        most = context() / 2;
      }
    }
    ++answer.readings;
    return read_again(most);
  }

  /// The latest messages and what there is of an answer, in at most so many tokens. None where they have more.
  std::optional<Reading> shortened(std::size_t most, std::span<const Token> answer) {
    if (answer.size() < most) {
      Reading reading = read_again(most - answer.size());
      reading.tokens.insert(reading.tokens.end(), answer.begin(), answer.end());
      if (reading.tokens.size() <= most) return reading;
    }
    forget();
    return std::nullopt;
  }

  // --- What is answered ---------------------------------------------------------------------------------------------

  Answer say(std::string&& message, const Request& how, const std::stop_token& stop) {
    messages.push_back({"user", std::move(message)});
    const std::string before = before_answer;
    try {
      Answer answer = reply(how, stop);
      messages.push_back({"assistant", answer.generation.text});
      return answer;
    } catch (...) {
      messages.pop_back();
      before_answer = before;
      if (!holds_turns) forget();
      throw;
    }
  }

  Answer reply(const Request& how, const std::stop_token& stop) {
    Answer answer;
    Reading reading = next(answer);
    for (;;) {
      answer.prompt_tokens += reading.tokens.size();
      const Attempt attempt = generate(reading, how, stop, answer);
      if (answer.generation.finish != Finish::context) return answer;
      std::optional<Reading> half = shortened(attempt.length / 2, answer.generation.tokens);
      if (!half) {
        if (attempt.no_room && answer.generation.tokens.empty()) std::rethrow_exception(attempt.no_room);
        return answer;
      }
      reading = std::move(*half);
      ++answer.readings;
    }
  }

  struct Attempt {
    std::size_t length = 0;  // that the sequence had in the end
    std::exception_ptr no_room = {};
  };

  /// Adds to the answer what comes until it ends or there is no room.
  Attempt generate(const Reading& reading, const Request& how, const std::stop_token& stop, Answer& answer) {
    Generation& all = answer.generation;
    Attempt attempt;
    Request request = how;
    request.prompt = reading.tokens;
    request.pinned = reading.pinned;
    request.conversation = conversation;
    if (how.max_tokens) request.max_tokens = *how.max_tokens - all.tokens.size();
    request.sampler.seed += all.tokens.size();  // going on is no repetition
    request.on_piece = [&](const Piece& piece) {
      if (piece.token) all.tokens.push_back(*piece.token);
      all.text += piece.text;
      if (piece.logprob) all.logprobs.push_back(*piece.logprob);
      if (piece.token && how.logprobs.value_or(0) > 0) all.top.emplace_back(piece.top.begin(), piece.top.end());
      if (piece.finish && piece.sequence) {
        attempt.length = generator.session().length(*piece.sequence);
        all.drafts.drafted += piece.drafts.drafted;
        all.drafts.accepted += piece.drafts.accepted;
        answer.stats = generator.session().stats(*piece.sequence);
        if (records_drops) answer.drop_at = generator.session().drop_at(*piece.sequence);
      }
      if (!how.on_piece) return;
      Piece part = piece;
      part.finish.reset();
      part.error = nullptr;
      how.on_piece(part);
    };
    try {
      all.finish = generator.generate(std::move(request), stop).finish;
      holds_turns = true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::budget) throw;
      attempt.no_room = std::current_exception();
      all.finish = Finish::context;
    }
    return attempt;
  }

  // --- What outlives the process -------------------------------------------------------------------------------------

  static constexpr std::string_view noted = "pith chat";

  void save(const std::filesystem::path& file) {
    if (!conversation || !holds_turns)
      fail(ErrorCode::state, "chat", "an answer, whose rows are held", "none since it was begun or changed");
    ByteWriter note;
    note.text(noted);
    note.count(first);
    note.text(before_answer);
    note.number(static_cast<std::uint8_t>(rewrites));
    note.count(messages.size());
    for (const Message& message : messages)
      for (const std::string* const text : {&message.role, &message.content, &message.more}) note.text(*text);
    generator.save(*conversation, file, note.written());
  }

  void restore(const std::filesystem::path& file) {
    const auto restored = generator.restore(file);
    try {
      ByteReader note(std::as_bytes(std::span(restored.second)), file.string() + ": note");
      note.expect(note.left() > 0 && note.text() == noted, "a chat");
      const auto given = static_cast<std::size_t>(note.number<std::uint64_t>());
      std::string text = note.text();
      const bool rewritten = note.number<std::uint8_t>() != 0;
      std::vector<Message> all(note.count(3 * sizeof(std::uint64_t)));
      for (Message& message : all)
        for (std::string* const part : {&message.role, &message.content, &message.more}) *part = note.text();
      note.expect(given <= all.size() && all.size() >= 2 && note.left() == 0, "a chat's messages");
      forget();
      first = given;
      before_answer = std::move(text);
      rewrites = rewritten;
      messages = std::move(all);
      conversation = restored.first;
      holds_turns = true;
    } catch (...) {
      generator.close(restored.first);
      throw;
    }
  }

  const Tokenizer tokenizer;
  const ChatTemplate by;
  ChatOptions options;
  const bool records_drops;
  Generator generator;
  std::optional<ConversationId> conversation;
  bool holds_turns = false;  // the conversation: a request of it has ended well

  std::vector<Message> messages;
  std::size_t first = 0;      // of the messages that the model has been given, the system prompt aside
  std::string before_answer;  // all text that the model has been given up to its latest answer
  bool rewrites = false;
};

Chat::Chat(Model model, Tokenizer tokenizer, SessionOptions session, std::optional<ChatTemplate> by,
           ChatOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(tokenizer), std::move(session), std::move(by),
                                   std::move(options))) {}
Chat::~Chat() = default;
Chat::Chat(Chat&&) noexcept = default;
Chat& Chat::operator=(Chat&&) noexcept = default;

Answer Chat::say(std::string message, Request how, std::stop_token stop) {
  return impl_->say(std::move(message), how, stop);
}

void Chat::set_system(const std::string& text) {
  Impl& chat = *impl_;
  chat.forget();
  if (chat.systems() > 0) {
    chat.messages.erase(chat.messages.begin());
    --chat.first;
  }
  if (text.empty()) return;
  chat.messages.insert(chat.messages.begin(), {"system", text});
  ++chat.first;
}

std::string Chat::system() const { return impl_->systems() > 0 ? impl_->messages.front().content : std::string(); }

const std::vector<Message>& Chat::messages() const { return impl_->messages; }

void Chat::restore(std::vector<Message> messages) {
  Impl& chat = *impl_;
  const std::size_t systems = systems_in(messages);
  for (std::size_t i = systems; i < messages.size(); ++i)
    if (const char* expected = (i - systems) % 2 == 0 ? "user" : "assistant"; messages[i].role != expected)
      fail(ErrorCode::argument, "message " + std::to_string(i), "the role \"" + std::string(expected) + "\"",
           "\"" + messages[i].role + "\"");
  if ((messages.size() - systems) % 2 != 0) fail(ErrorCode::argument, "messages", "the assistant's last", "the user's");
  chat.forget();
  chat.messages = std::move(messages);
  chat.first = systems;
}

void Chat::save(const std::filesystem::path& file) { impl_->save(file); }
void Chat::restore(const std::filesystem::path& file) { impl_->restore(file); }

void Chat::reset() {
  Impl& chat = *impl_;
  chat.forget();
  chat.first = chat.systems();
  chat.messages.resize(chat.first);
}

std::size_t Chat::left_out() const { return impl_->first - impl_->systems(); }

bool Chat::rewrites() const { return impl_->rewrites; }

const Session& Chat::session() const { return impl_->generator.session(); }

}  // namespace pith
