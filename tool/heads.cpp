// SPDX-License-Identifier: MIT
// pith heads: which heads look things up (Wu et al., arXiv 2404.15574).
//
// A needle is put into a text at depths from 0 to 100 %, and the model is asked for it. What a head has found in a
// trial is said in pith/retrieval.hpp. A trial counts only if the model has found the needle, too: if more than half of
// the needle's words are in its answer (ROUGE-1 recall).
#include <algorithm>
#include <cctype>
#include <cmath>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.hpp"
#include "files/output_file.hpp"
#include "haystack.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "pith/retrieval.hpp"

namespace pith::tool {
namespace {

struct HeadsOptions {
  ModelOptions model;
  TextOptions text;
  CacheOptions cache = {.policy = "none"};
  std::vector<int> lengths = {1024};
  int depths = 11;
  int tokens = 50;
  bool plain = false;
  std::string output;  // empty = not written
};

/// Sentences of a text, its blanks and ends of lines made one blank.
std::vector<std::string> sentences_of(std::string_view text) {
  std::vector<std::string> all(1);
  for (const char c : text) {
    std::string& last = all.back();
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      last += c;
    } else if (!last.empty() && std::string_view(".!?").find(last.back()) != std::string_view::npos) {
      all.emplace_back();
    } else if (!last.empty() && last.back() != ' ') {
      last += ' ';
    }
  }
  std::erase(all, "");
  return all;
}

std::map<std::string, int> words_of(std::string_view text) {
  std::map<std::string, int> words;
  std::string word;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const auto c = i < text.size() ? static_cast<unsigned char>(text[i]) : static_cast<unsigned char>(' ');
    if (std::isalnum(c) != 0 || c >= 0x80) {
      word += static_cast<char>(std::tolower(c));
    } else if (!word.empty()) {
      ++words[std::exchange(word, {})];
    }
  }
  return words;
}

/// ROUGE-1: the part of the needle's words that are in the answer.
double recall(std::string_view needle, std::string_view answer) {
  const auto there = words_of(answer);
  int all = 0, found = 0;
  for (const auto& [word, count] : words_of(needle)) {
    all += count;
    if (const auto at = there.find(word); at != there.end()) found += std::min(count, at->second);
  }
  return static_cast<double>(found) / all;
}

/// Makes prompts of about so many tokens.
class Trials {
 public:
  Trials(const Tokenizer& tokenizer, std::string_view text, bool chat)
      : tokenizer_(tokenizer), sentences_(sentences_of(text)), chat_(chat) {
    if (sentences_.empty()) fail(ErrorCode::argument, "heads", "a text of at least one sentence", "none");
    for (const std::string& sentence : sentences_)
      counts_.push_back(tokenizer.encode(" " + sentence, Specials::plain).size());
  }

  /// Throws Error (unsupported) where the tokenizer makes other tokens of the needle in its text than by itself.
  NeedleTrial make(const Needle& needle, int length, int depth, int depths) const {
    std::vector<std::string_view> hay;
    for (std::size_t tokens = 0, i = 0; tokens < static_cast<std::size_t>(length); ++i) {
      hay.push_back(sentences_[i % sentences_.size()]);
      tokens += counts_[i % sentences_.size()];
    }
    const std::size_t at = depths > 1
                               ? hay.size() * static_cast<std::size_t>(depth) / static_cast<std::size_t>(depths - 1)
                               : hay.size() / 2;
    hay.insert(hay.begin() + static_cast<std::ptrdiff_t>(at), needle.sentence);
    std::string text = "Here is a text.\n\n";
    for (const std::string_view sentence : hay) text.append(" ").append(sentence);
    text.append("\n\nAnswer in a whole sentence, by what the text says. ").append(needle.question);
    NeedleTrial trial;
    trial.prompt =
        chat_ ? tokenizer_.chat({{"user", text}}) : tokenizer_.encode(text + "\nAnswer:", Specials::as_trained);
    const auto tokens = tokenizer_.encode(" " + std::string(needle.sentence), Specials::plain);
    const auto found = std::search(trial.prompt.begin(), trial.prompt.end(), tokens.begin(), tokens.end());
    if (found == trial.prompt.end())
      fail(ErrorCode::unsupported, "heads", "a tokenizer that cuts a sentence in a text as it does alone", "another");
    trial.begin = static_cast<std::size_t>(found - trial.prompt.begin());
    trial.end = trial.begin + tokens.size();
    return trial;
  }

 private:
  const Tokenizer& tokenizer_;
  std::vector<std::string> sentences_;
  std::vector<std::size_t> counts_;  // tokens of each
  bool chat_;
};

std::vector<Token> ends_of(const Model& model, const Tokenizer& tokenizer) {
  std::vector<Token> ends = model.config().end_tokens;
  for (Token token = 0; token < tokenizer.vocab_size(); ++token)
    if (tokenizer.is_end(token)) ends.push_back(token);
  return ends;
}

nlohmann::ordered_json to_json(const prune::HeadScores& heads) {
  nlohmann::ordered_json json;
  for (std::size_t layer = 0; layer < heads.layers(); ++layer)
    for (std::size_t head = 0; head < heads.kv_heads(); ++head)
      json[std::to_string(layer) + "-" + std::to_string(head)] = heads.scores[layer][head];
  return json;
}

void print_table(const prune::HeadScores& heads) {
  struct Line {
    float score;
    std::size_t layer, head;
  };
  std::vector<Line> lines;
  for (std::size_t layer = 0; layer < heads.layers(); ++layer)
    for (std::size_t head = 0; head < heads.kv_heads(); ++head)
      if (const float score = heads.scores[layer][head]; std::isfinite(score)) lines.push_back({score, layer, head});
  std::ranges::stable_sort(lines, std::ranges::greater{}, &Line::score);
  constexpr float looks_up = 0.1f;  // what the paper calls a retrieval head
  std::cout << std::ranges::count_if(lines, [](const Line& line) { return line.score >= looks_up; }) << " of "
            << lines.size() << " kv-heads score 0.1 or more\n";
  constexpr std::size_t most = 20;
  for (std::size_t i = 0; i < std::min(most, lines.size()); ++i)
    std::cout << "layer " << lines[i].layer << " head " << lines[i].head << "  " << number_text(lines[i].score, 3)
              << '\n';
}

Exit heads(const HeadsOptions& options, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const bool chat = !options.plain && ChatTemplate::find(options.model.path).has_value();
  const Trials trials(tokenizer, options.text.given() ? options.text.read() : std::string(haystack), chat);
  const std::vector<Token> ends = ends_of(model, tokenizer);
  const SessionOptions session = session_options(options.cache, model, tool);
  const Interrupt interrupt;

  const std::size_t all = options.lengths.size() * static_cast<std::size_t>(options.depths) * std::size(needles);
  std::size_t done = 0;
  std::vector<NeedleAnswer> counted;
  {
    Progress progress(tool);
    for (const int length : options.lengths)
      for (int depth = 0; depth < options.depths; ++depth)
        for (const Needle& needle : needles) {
          const NeedleTrial trial = trials.make(needle, length, depth, options.depths);
          NeedleAnswer one =
              answer(model, trial, static_cast<std::size_t>(options.tokens), ends, session, interrupt.token());
          const std::string text = tokenizer.decode(one.tokens);
          const double found = recall(needle.sentence, text);
          tool.detail(std::to_string(trial.prompt.size()) + " tokens, needle at " + std::to_string(trial.begin) +
                      ", recall " + number_text(found, 2) + ": " + text);
          if (found > 0.5) counted.push_back(std::move(one));
          progress.show("trial " + std::to_string(++done) + " of " + std::to_string(all) + ", " +
                        std::to_string(counted.size()) + " answered");
        }
  }
  tool.note(std::to_string(counted.size()) + " of " + std::to_string(all) + " trials were answered, and count");
  if (counted.empty())
    fail(ErrorCode::unsupported, "heads", "a model that finds a needle at least once",
         "one that found it in none of " + std::to_string(all) + " trials");
  const prune::HeadScores scores = mean_by_kv_head(model.config(), counted);
  const auto json = to_json(scores);
  if (!options.output.empty()) {
    OutputFile file(options.output);
    file.write(json.dump(1) + "\n");
    file.finish();
  }
  if (tool.json)
    print(json);
  else
    print_table(scores);
  return Exit::ok;
}

}  // namespace

void add_heads(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<HeadsOptions>(app, tool, "heads", "Which heads look things up", heads);
  add_model_path(command, options.model);
  add_no_mmap(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.text, "The text in which needles are hidden [one that comes with pith]");
  command.numbers("--lengths", options.lengths, {1, 1 << 24}, "Tokens of the text, one or more numbers [1024]");
  command.number("--depths", options.depths, {1, 1001}, "In how many places of it a needle is hidden [11]");
  command.number("-n,--predict", options.tokens, at_least(1), "Tokens of an answer at most [50]");
  command.add_flag("--plain", options.plain, "Ask without the model's chat template");
  command.writes("-o,--output", options.output, "Write the scores there, for protect(file=…)");
  add_options(command, options.cache);
}

}  // namespace pith::tool
