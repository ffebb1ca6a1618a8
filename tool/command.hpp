// SPDX-License-Identifier: MIT
// The subcommands, and the command line of one: it knows which options are numbers and which are files, so that every
// subcommand treats them alike.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flags.hpp"
#include "numbers.hpp"
#include "tool.hpp"

namespace pith::tool {

void add_run(CLI::App& app, Tool& tool);
void add_chat(CLI::App& app, Tool& tool);
void add_eval(CLI::App& app, Tool& tool);
void add_perplexity(CLI::App& app, Tool& tool);
void add_tokenize(CLI::App& app, Tool& tool);
void add_detokenize(CLI::App& app, Tool& tool);
void add_inspect(CLI::App& app, Tool& tool);
void add_policies(CLI::App& app, Tool& tool);
void add_heads(CLI::App& app, Tool& tool);
void add_bench(CLI::App& app, Tool& tool);
void add_quantize(CLI::App& app, Tool& tool);
void add_trace(CLI::App& app, Tool& tool);
void add_serve(CLI::App& app, Tool& tool);

/// The flags that the program and all its subcommands have.
void add_common_flags(CLI::App& app, Tool& tool);

/// The options of one subcommand. Numbers are decimal and keep to their range; files are declared as what becomes of
/// them, so that nothing that is read is written to.
class CommandLine : public CLI::App {
 public:
  CommandLine(const std::string& name, const std::string& description) : CLI::App(description, name) {}

  template <class T>
  CLI::Option& number(const std::string& flags, T& value, const Range<T>& range, const std::string& what) {
    return words(flags, what, [=, &value](const auto& words) { value = read(flags, words.front(), range); });
  }
  template <class T>
  CLI::Option& number(const std::string& flags, std::optional<T>& value, const Range<T>& range,
                      const std::string& what) {
    return words(flags, what, [=, &value](const auto& words) { value = read(flags, words.front(), range); });
  }
  /// A whole number of 64 bits, or -1 for none.
  CLI::Option& seed(const std::string& flags, std::optional<std::uint64_t>& value, const std::string& what);
  /// One or more, between commas.
  template <class T>
  CLI::Option& numbers(const std::string& flags, std::vector<T>& values, const Range<T>& range,
                       const std::string& what) {
    const auto read_all = [=, &values](const auto& words) {
      values.clear();
      for (const std::string& word : words)
        for (const std::string& one : between_commas(word)) values.push_back(read(flags, one, range));
    };
    return *words(flags, what, read_all).expected(1, CLI::detail::expected_max_vector_size);
  }

  /// Options that name a file to be read ("-" is stdin), a model, and a file to be written.
  template <class T>
  CLI::Option& reads(const std::string& flags, T& path, const std::string& what) {
    return file(*add_option(flags, path, what)->type_name("FILE"), Use::read);
  }
  template <class T>
  CLI::Option& reads_model(const std::string& flags, T& path, const std::string& what) {
    return file(*add_option(flags, path, what)->type_name("PATH"), Use::model);
  }
  template <class T>
  CLI::Option& writes(const std::string& flags, T& path, const std::string& what) {
    return file(*add_option(flags, path, what)->type_name("FILE"), Use::written);
  }

  /// Throws Error (argument) where a file to be written is one that is read, or written under another flag, too: by
  /// whatever names, nothing having been opened.
  void check_files() const;

 private:
  enum class Use { read, model, written };
  struct File {
    CLI::Option* option;
    Use use;
  };

  /// All pieces, empty ones too.
  static std::vector<std::string> between_commas(const std::string& word);
  [[noreturn]] static void refuse(const std::string& flags, const std::string& expected, const std::string& word);
  template <class T>
  static T read(const std::string& flags, const std::string& word, const Range<T>& range) {
    const std::optional<T> value = pith::number<T>(word, range);
    if (!value) refuse(flags, range.text(), word);
    return *value;
  }
  template <class F>
  CLI::Option& words(const std::string& flags, const std::string& what, F read) {
    const auto callback = [read](const std::vector<std::string>& words) { return read(words), true; };
    return *add_option(flags, CLI::callback_t(callback), what)->type_name("N");
  }
  CLI::Option& file(CLI::Option& option, Use use) {
    files_.push_back({&option, use});
    return option;
  }

  std::vector<File> files_;
};

template <class Options>
struct Command {
  CommandLine& line;
  Options& options;  // to be bound to the flags
};

/// Adds a subcommand: run(options, tool) is called once the whole command line is read.
template <class Options>
Command<Options> add_command(CLI::App& app, Tool& tool, const char* name, const char* description,
                             Exit (*run)(const Options&, const Tool&)) {
  auto line = std::make_shared<CommandLine>(name, description);
  auto options = std::make_shared<Options>();
  app.add_subcommand(line);
  add_common_flags(*line, tool);
  line->callback([&tool, &line = *line, options, run] {
    tool.command = [&, options, run] {
      line.check_files();
      return run(*options, tool);
    };
  });
  return {*line, *options};
}

}  // namespace pith::tool
