// SPDX-License-Identifier: MIT
#include "pith/prune/head_scores.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "files/input_file.hpp"
#include "files/json.hpp"
#include "numbers.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::prune {

namespace {

/// No model has as many layers or heads; what is read becomes the size of a list.
constexpr Range<std::size_t> indices{0, 65535};
constexpr Range<float> finite{};
constexpr float none = -std::numeric_limits<float>::infinity();

/// "3-1": layer 3, head 1.
std::optional<std::pair<std::size_t, std::size_t>> place_of(std::string_view key) {
  const auto dash = key.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto layer = number(key.substr(0, dash), indices), head = number(key.substr(dash + 1), indices);
  if (!layer || !head) return std::nullopt;
  return std::pair(*layer, *head);
}

HeadScores from_json(std::string_view text, const std::string& where) {
  const auto json = parse_json(text, where);
  std::size_t layers = 0, heads = 0;
  for (const auto& [key, value] : json.items()) {
    const auto place = place_of(key);
    if (!place) fail(ErrorCode::format, where, "keys such as \"3-1\", layer and kv-head", in_quotes(key));
    if (!value.is_null() && (!value.is_number() || !std::isfinite(value.get<float>())))
      fail(ErrorCode::format, where + ": " + in_quotes(key), "a number or null", printable(value.dump()));
    layers = std::max(layers, place->first + 1);
    heads = std::max(heads, place->second + 1);
  }
  // Counted first: a key may speak of millions of heads that are not there.
  if (json.empty() || json.size() != layers * heads)
    fail(ErrorCode::format, where,
         json.empty() ? "a score for each kv-head"
                      : "a score for each of " + std::to_string(heads) + " kv-heads in each of " +
                            std::to_string(layers) + " layers",
         std::to_string(json.size()) + " scores");
  HeadScores all{where, std::vector(layers, std::vector<float>(heads))};
  std::vector<char> there(layers * heads);
  for (const auto& [key, value] : json.items()) {
    const auto [layer, head] = *place_of(key);
    if (std::exchange(there[layer * heads + head], char{1}) != 0)
      fail(ErrorCode::format, where, "each kv-head once", in_quotes(key) + " twice");
    all.scores[layer][head] = value.is_null() ? none : value.get<float>();
  }
  return all;
}

HeadScores from_lines(std::string_view text, const std::string& where) {
  constexpr std::string_view blanks = " \t\r";
  HeadScores all{where, {}};
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view rest = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    std::vector<float> row;
    while (true) {
      rest.remove_prefix(std::min(rest.find_first_not_of(blanks), rest.size()));
      if (rest.empty()) break;
      const std::string_view word = rest.substr(0, rest.find_first_of(blanks));
      const std::optional<float> score = number(word, finite);
      if (!score)
        fail(ErrorCode::format, where + ": line " + std::to_string(line), "numbers between tabs", in_quotes(word));
      row.push_back(*score);
      rest.remove_prefix(word.size());
    }
    if (row.empty() && text.find_first_not_of(" \t\r\n") == std::string_view::npos) break;
    if (row.empty() || (!all.scores.empty() && row.size() != all.kv_heads()))
      fail(ErrorCode::format, where + ": line " + std::to_string(line),
           all.scores.empty() ? "a number for each kv-head" : std::to_string(all.kv_heads()) + " numbers",
           std::to_string(row.size()));
    all.scores.push_back(std::move(row));
  }
  if (all.scores.empty()) fail(ErrorCode::format, where, "a JSON object or a line for each layer", "nothing");
  return all;
}

}  // namespace

HeadScores HeadScores::read(const std::filesystem::path& file) {
  const auto opened = InputFile::open(file);
  const std::string_view text = opened->text();
  const auto first = text.find_first_not_of(" \t\r\n");
  const bool json = first != std::string_view::npos && text[first] == '{';
  return json ? from_json(text, file.string()) : from_lines(text, file.string());
}

std::vector<std::size_t> HeadScores::scored() const {
  std::vector<std::size_t> all;
  for (std::size_t layer = 0; layer < layers(); ++layer)
    if (std::ranges::any_of(scores[layer], [](float score) { return score != none; })) all.push_back(layer);
  return all;
}

std::vector<std::vector<std::size_t>> HeadScores::others(float share) const {
  std::vector<std::pair<std::size_t, std::size_t>> order;
  std::vector<std::vector<std::size_t>> out(layers());
  for (std::size_t layer = 0; layer < layers(); ++layer)
    for (std::size_t head = 0; head < kv_heads(); ++head)
      if (scores[layer][head] == none)
        out[layer].push_back(head);
      else
        order.emplace_back(layer, head);
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](const auto& place) { return scores[place.first][place.second]; });
  const auto best = std::lround(static_cast<double>(share) * static_cast<double>(order.size()));
  for (std::size_t i = static_cast<std::size_t>(best); i < order.size(); ++i)
    out[order[i].first].push_back(order[i].second);
  for (auto& heads : out) std::ranges::sort(heads);
  return out;
}

}  // namespace pith::prune
