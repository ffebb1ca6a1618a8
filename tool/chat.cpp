// SPDX-License-Identifier: MIT
// pith chat: a conversation with a model, on the terminal or from a script.
//
// Answers go to stdout, all else to stderr. At a terminal there is a prompt, and a line after each answer that says
// what is held; piped input is one message a line, and nothing is asked or told.
#include "pith/chat.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat_form.hpp"
#include "command.hpp"
#include "files/output_file.hpp"
#include "input.hpp"
#include "interrupt.hpp"
#include "kept.hpp"
#include "options.hpp"
#include "pith/tensor/ops.hpp"
#include "wrap.hpp"

namespace pith::tool {
namespace {

struct ChatCommand {
  ModelOptions model;
  CacheOptions cache;
  SamplingOptions sampling;
  int tokens = -1;
  DraftOptions draft;
  std::vector<std::string> stops;
  std::string system, form, variables, load, save;
  std::optional<double> kv_budget;  // MiB
};

std::vector<Message> messages_of(const std::string& bytes, const std::string& path) {
  const auto json = nlohmann::json::parse(bytes, nullptr, false);
  if (!json.is_array())
    fail(ErrorCode::format, path, "a JSON array of messages, or a saved conversation", "something else");
  std::vector<Message> messages;
  for (const auto& message : json) {
    const auto text = [&](const char* member) {
      const auto found = message.is_object() ? message.find(member) : message.end();
      if (!message.is_object() || found == message.end() || !found->is_string())
        fail(ErrorCode::format, path + ": message " + std::to_string(messages.size()),
             "an object with the texts \"role\" and \"content\"", message.dump().substr(0, 60));
      return found->get<std::string>();
    };
    messages.push_back({text("role"), text("content")});
  }
  return messages;
}

std::string with_commas(std::size_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

/// Escape sequences of stderr, or nothing.
struct Colours {
  explicit Colours(bool shown) : shown_(shown) {}
  std::string prompt() const { return shown_ ? "\x1b[1;32m" : ""; }
  std::string typed() const { return shown_ ? "\x1b[0;1m" : ""; }
  std::string aside() const { return shown_ ? "\x1b[2m" : ""; }
  std::string error() const { return shown_ ? "\x1b[31m" : ""; }
  std::string end() const { return shown_ ? "\x1b[0m" : ""; }

 private:
  bool shown_;
};

class Conversation {
 public:
  Conversation(const ChatCommand& command, const Tool& tool)
      : tool_(tool),
        cache_(command.cache),
        how_{.stops = command.stops, .sampler = sampler_options(command.sampling), .draft = command.draft},
        budget_(static_cast<std::size_t>(command.kv_budget.value_or(0) * 1024 * 1024)),
        save_(command.save),
        model_(load(command.model)),
        tokenizer_(load_tokenizer(command.model, tool)),
        template_(template_of(command.form, command.model, tokenizer_, tool, options_)),
        terminal_(Input::is_terminal() && !tool.json),
        colours_(terminal_ && has_colour(Stream::err)),
        progress_(tool) {
    options_.variables = command.variables;
    if (command.tokens >= 0) how_.max_tokens = static_cast<std::size_t>(command.tokens);
    chat_.emplace(open());
    if (!command.load.empty()) go_on_from(command.load);
    if (!command.system.empty()) chat_->set_system(command.system);
    name_ = std::filesystem::path(command.model.path).lexically_normal().string();
  }

  Exit run() {
    if (terminal_) greet();
    bool asked_to_leave = false;
    for (;;) {
      if (terminal_) std::cerr << colours_.prompt() << "> " << colours_.typed() << std::flush;
      const std::optional<std::string> line = input_.line(interrupt_.token());
      if (terminal_) std::cerr << colours_.end() << std::flush;
      if (!line && interrupt_.requested()) {
        if (terminal_) std::cerr << '\n';
        if (!terminal_ || asked_to_leave || interrupt_.signal() != SIGINT) return leave(Exit::interrupted);
        aside("Ctrl-C again leaves, and so does /quit");
        asked_to_leave = true;
        interrupt_.renew();
        continue;
      }
      asked_to_leave = false;
      if (!line) {
        if (terminal_) std::cerr << '\n';
        return leave(Exit::ok);
      }
      try {
        if (!take(*line)) return leave(Exit::ok);
      } catch (const Error& error) {
        progress_.clear();
        if (!terminal_) throw;
        std::cerr << colours_.error() << in_flags(error.what()) << colours_.end() << "\n\n";
      }
      if (!interrupt_.requested()) continue;
      if (!terminal_ || interrupt_.signal() != SIGINT) return leave(Exit::interrupted);
      interrupt_.renew();
    }
  }

 private:
  struct Command {
    const char *name, *argument, *what;
    void (Conversation::*act)(const std::string& argument);
  };
  static const std::vector<Command>& commands() {
    static const std::vector<Command> all = {
        {"system", "TEXT", "The system prompt; - removes it, nothing shows it", &Conversation::set_system},
        {"reset", "", "Forget all but the system prompt", &Conversation::reset},
        {"save", "FILE", "Write the conversation, with all that is held; .json: its messages alone",
         &Conversation::save},
        {"policy", "SPEC", "What is forgotten; the conversation is read again", &Conversation::set_policy},
        {"tau", "X", "Strength of the learned gate from now on: higher forgets more", &Conversation::set_tau},
        {"stats", "", "What is held, by layer", &Conversation::show_stats},
        {"help", "", "This list", &Conversation::show_help},
        {"quit", "", "Leave, as Ctrl-D does", nullptr},
    };
    return all;
  }

  Chat open() const {
    SessionOptions session = session_options(cache_, model_, tool_);
    session.kv_budget = budget_;
    // A file that has no record of drops is of no use to who wants one.
    session.record_drops = tool_.json || !save_.empty();
    session.on_prefill = [this](const pith::Progress& at) {
      if (at.done < at.total) progress_.show("reading " + std::to_string(at.done) + " of " + std::to_string(at.total));
    };
    return {model_, tokenizer_, std::move(session), template_, options_};
  }

  void go_on_from(const std::string& path) {
    const std::string bytes = read_file(path);
    if (bytes.starts_with("pithsess"))  // as saved sequences do
      chat_->restore(std::filesystem::path(path));
    else
      chat_->restore(messages_of(bytes, path));
  }

  void aside(std::string_view text) const {
    if (terminal_ && tool_.verbosity != Verbosity::quiet)
      std::cerr << colours_.aside() << text << colours_.end() << '\n';
  }

  void greet() const {
    aside(name_ + ": " + std::string(pith::name(model_.config().architecture)) + ", " +
          number_text(static_cast<double>(model_.parameters()) / 1e6, 1) + " million parameters, context of " +
          with_commas(chat_->session().context()) + "; policy " + chat_->session().policy().describe());
    aside("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves\n");
  }

  /// A line of the user's; false: the last one.
  bool take(const std::string& line) {
    if (line.find_first_not_of(" \t") == std::string::npos) return true;
    if (!line.starts_with('/')) return say(line), true;
    if (line.starts_with("//")) return say(line.substr(1)), true;
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::size_t begin = std::min(line.find_first_not_of(" \t", end), line.size());
    const std::string name = line.substr(1, end - 1);
    for (const Command& command : commands()) {
      if (command.name != name) continue;
      if (command.act == nullptr) return false;
      (this->*command.act)(line.substr(begin, line.find_last_not_of(" \t") + 1 - begin));
      return true;
    }
    fail(ErrorCode::argument, "command", "one that /help lists (a message that begins with / is written with two)",
         "/" + name);
  }

  void say(const std::string& message) {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
    const auto begin = Clock::now();
    std::optional<Clock::time_point> first;
    Wrap wrap(terminal_ ? terminal_columns() : 0);
    bool begun = false;  // at a terminal, with the first word
    char last = 0;       // shown
    Request how = how_;
    how.sampler.seed += turns_;  // each answer draws anew, and the same conversation the same way
    how.on_piece = [&](const Piece& piece) {
      progress_.clear();
      if (!first && piece.token) first = Clock::now();
      std::string_view text = piece.text;
      if (terminal_ && !begun) text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
      if (text.empty()) return;
      begun = true;
      last = text.back();
      if (!tool_.json) std::cout << wrap.push(text) << std::flush;
    };
    const std::size_t left_out = chat_->left_out();
    const Answer answer = chat_->say(message, std::move(how), interrupt_.token());
    ++turns_;
    const auto end = Clock::now();
    Result result{answer, seconds(first.value_or(end) - begin), seconds(end - first.value_or(end))};
    stats_ = answer.stats;
    if (tool_.json)
      print_json(result);
    else
      std::cout << wrap.flush() << (terminal_ && last == '\n' ? "" : "\n");
    std::cout.flush();
    require(std::cout.good(), ErrorCode::file, "standard output: cannot be written");
    if (terminal_) show_status(result, left_out);
    if (chat_->rewrites() && !std::exchange(told_, true))
      tool_.note(
          "the chat template writes earlier answers otherwise than the model did (without their thinking, say); "
          "they stay in its memory as they were");
  }

  struct Result {
    const Answer& answer;
    double prefill_seconds, decode_seconds;

    double decoded_per_second() const {
      const auto tokens = static_cast<double>(answer.generation.tokens.size());
      return decode_seconds > 0 ? std::max(tokens - 1, 0.0) / decode_seconds : 0;
    }
    double read_per_second() const {
      return prefill_seconds > 0 ? static_cast<double>(answer.prompt_tokens) / prefill_seconds : 0;
    }
  };

  static std::size_t rows(const CacheStats& stats) {
    return std::accumulate(stats.live_rows.begin(), stats.live_rows.end(), std::size_t{0});
  }
  static double forgotten(const CacheStats& stats) {
    return stats.seen_rows > 0 ? static_cast<double>(stats.dropped_rows) / static_cast<double>(stats.seen_rows) : 0;
  }
  static std::string size(std::size_t bytes) { return bytes_text(static_cast<double>(bytes)); }

  static std::string_view why(Finish finish) {
    switch (finish) {
      case Finish::cancelled:
        return "stopped; ";
      case Finish::length:
        return "as long as -n allows; ";
      case Finish::context:
        return "no room for more; ";
      default:
        return "";
    }
  }

  void show_status(const Result& result, std::size_t left_out) const {
    const CacheStats& stats = result.answer.stats;
    if (chat_->left_out() > left_out)
      aside("(no room for all of it: read again without the first " + std::to_string(chat_->left_out()) + " messages)");
    aside(std::string(why(result.answer.generation.finish)) + with_commas(rows(stats)) + " rows, " +
          size(stats.bytes_used) + " of " + size(budget_ > 0 ? budget_ : stats.bytes_dense) +
          (budget_ > 0 ? " allowed" : "") + ", " +
          (stats.dropped_rows > 0 ? percent_text(forgotten(stats)) : "nothing") + " forgotten; " +
          number_text(result.decoded_per_second(), 1) + " tokens/s\n");
  }

  void print_json(const Result& result) const {
    const Generation& g = result.answer.generation;
    const CacheStats& stats = result.answer.stats;
    Kept kept;
    kept.add(result.answer.drop_at);
    print({{"prompt_tokens", result.answer.prompt_tokens},
           {"tokens", g.tokens},
           {"text", g.text},
           {"stop", g.finish == Finish::stop        ? "stop_string"
                    : g.finish == Finish::cancelled ? "interrupted"
                                                    : pith::name(g.finish)},
           {"kept", kept.mean()},
           {"rows", rows(stats)},
           {"kv_bytes", stats.bytes_used},
           {"kv_bytes_dense", stats.bytes_dense},
           {"prefill_tokens_per_s", result.read_per_second()},
           {"decode_tokens_per_s", result.decoded_per_second()},
           {"drafted", g.drafts.drafted},
           {"accepted", g.drafts.accepted},
           {"readings", result.answer.readings},
           {"left_out", chat_->left_out()},
           {"seed", how_.sampler.seed},
           {"policy", chat_->session().policy().describe()},
           {"kv", name(cache_.kv)},
           {"isa", isa()}});
  }

  void set_system(const std::string& text) {
    if (text.empty()) {
      const std::string system = chat_->system();
      return show(system.empty() ? "There is no system prompt but what the template may write." : system);
    }
    chat_->set_system(text == "-" ? "" : text);
    aside("The conversation goes on under it.\n");
  }

  void reset(const std::string& /*argument*/) {
    chat_->reset();
    stats_.reset();
    aside("Forgotten.\n");
  }

  void save(const std::string& path) {
    if (path.empty()) fail(ErrorCode::argument, "/save", "a file", "none");
    if (std::filesystem::path(path).extension() != ".json" && save_held(path))
      return aside("Written to " + path + ".\n");
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const Message& message : chat_->messages())
      json.push_back({{"role", message.role}, {"content", message.content}});
    OutputFile file(path);
    file.write(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    file.finish();
    aside("Written to " + path + ".\n");
  }

  /// False: nothing is held, or what is held is to be read again, so that messages say it all.
  bool save_held(const std::string& path) {
    try {
      chat_->save(path);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::state) throw;
      return false;
    }
    return true;
  }

  void set_policy(const std::string& spec) {
    if (spec.empty()) return show(chat_->session().policy().describe());
    CacheOptions changed = cache_;
    changed.policy = spec;
    std::swap(cache_, changed);
    try {
      Chat other = open();
      other.restore(chat_->messages());
      *chat_ = std::move(other);
    } catch (...) {
      std::swap(cache_, changed);
      throw;
    }
    how_.tau.reset();  // the policy has it
    stats_.reset();
    aside("The conversation is read again under " + chat_->session().policy().describe() + ".\n");
  }

  void set_tau(const std::string& word) {
    const auto tau = number<float>(word, {});
    if (!tau) fail(ErrorCode::argument, "/tau", Range<float>{}.text(), "'" + word + "'");
    if (!chat_->session().policy().needs().gate)
      fail(ErrorCode::unsupported, "/tau", "a policy with the learned gate", chat_->session().policy().describe());
    cache_.tau = how_.tau = *tau;
    aside("From the next message on.\n");
  }

  void show_stats(const std::string& /*argument*/) {
    if (!stats_) return show("Nothing has been read yet.");
    const CacheStats& s = *stats_;
    const auto lanes = static_cast<double>(s.live_rows.size());
    std::string text = "messages   " + std::to_string(chat_->messages().size()) +
                       (chat_->left_out() > 0 ? ", " + std::to_string(chat_->left_out()) + " of them left out" : "") +
                       "\npolicy     " + s.policy + "\nrows       " + with_commas(rows(s)) + " of " +
                       with_commas(std::max(rows(s), static_cast<std::size_t>(s.seen_rows))) + " seen, " +
                       percent_text(forgotten(s)) + " forgotten\nbytes      " + size(s.bytes_used) + " (dense " +
                       size(s.bytes_dense) + (budget_ > 0 ? ", allowed " + size(budget_) : "") + "), " +
                       size(s.bytes_high_water) + " at most\nby layer  ";
    for (const std::size_t live : s.live_rows) text += " " + std::to_string(live);
    text += " (mean " + number_text(static_cast<double>(rows(s)) / lanes, 1) + ")";
    show(text);
  }

  void show_help(const std::string& /*argument*/) {
    std::string text;
    for (const Command& command : commands()) {
      const std::string head = "/" + std::string(command.name) + " " + command.argument;
      text += head + std::string(16 - head.size(), ' ') + command.what + "\n";
    }
    show(text + "Anything else is a message; one that begins with / is written with two.");
  }

  /// What was asked for, on stderr: stdout has answers alone.
  void show(const std::string& text) const { std::cerr << text << (terminal_ ? "\n\n" : "\n"); }

  Exit leave(Exit exit) {
    if (!save_.empty()) save(save_);
    return exit;
  }

  const Tool& tool_;
  CacheOptions cache_;
  Request how_;
  const std::size_t budget_;  // bytes, 0: none
  const std::string save_;
  const Model model_;
  const Tokenizer tokenizer_;
  ChatOptions options_;
  const ChatTemplate template_;
  const bool terminal_;
  const Colours colours_;
  mutable Progress progress_;
  Input input_;
  Interrupt interrupt_{Interrupt::Second::asks};
  std::optional<Chat> chat_;
  std::string name_;
  std::optional<CacheStats> stats_;
  std::uint64_t turns_ = 0;
  bool told_ = false;
};

Exit chat(const ChatCommand& command, const Tool& tool) { return Conversation(command, tool).run(); }

}  // namespace

void add_chat(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<ChatCommand>(app, tool, "chat", "Talk with a model", chat);
  command.footer(
      "At a terminal, /help lists what can be changed while talking, and Ctrl-C stops an answer. Piped input is one "
      "message a line; answers alone go to stdout, with --json an object for each.");
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_tokenizer(command, options.model);
  command.add_option("--system", options.system, "The system prompt, which is never forgotten")->type_name("TEXT");
  add_template(command, options.form);
  command
      .add_option("--variables", options.variables,
                  "What else the template may ask for, as a JSON object such as {\"enable_thinking\": false}")
      ->type_name("JSON");
  add_count(command, options.tokens);
  add_options(command, options.draft);
  command.add_option("--stop", options.stops, "End an answer before this text; may be given again")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  command.reads("--load", options.load, "Go on with a conversation that was saved");
  command.writes("--save", options.save,
                 "Write the conversation when leaving, with all that is held of it; FILE.json: its messages alone");
  command
      .number("--kv-budget", options.kv_budget, Range<double>{.least = 0, .above = true},
              "Most MiB of keys and values; where the policy keeps more, the oldest messages are left out [no limit]")
      .type_name("MIB");
  add_options(command, options.sampling);
  add_options(command, options.cache);
}

}  // namespace pith::tool
