// SPDX-License-Identifier: MIT
// What attention writes into columns, pass by pass, against what queries attended to in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr Column columns[] = {column::mass, column::window, column::peak,
                              column::last, column::times,  column::last_attended};
constexpr std::size_t n_columns = std::size(columns);
constexpr int window = 8;  // the queries of a prompt that column::window listens to

/// The columns of one row, in their order above.
using Values = std::array<double, n_columns>;
/// [token]
using Rows = std::map<Position, Values>;
/// [layer, lane, query]
using Story = std::map<std::tuple<std::size_t, std::size_t, Position>, Rows>;

struct Prompt {
  Position begin, end;
};

/// Columns after each query, of the rows that the next one sees.
class Attended : public reference::Visibility {
 public:
  Attended(std::size_t lanes, int recent, std::vector<Prompt> prompts)
      : lanes_(lanes), recent_(recent), prompts_(std::move(prompts)) {}

  bool sees(int, int, int n, int j) const override { return n < j + recent_; }

  void attended(int layer, int n, const reference::Rows& weights) override {
    const std::size_t heads = weights.size() / lanes_;
    for (std::size_t lane = 0; lane < lanes_; ++lane) {
      auto& rows = now_[{layer, lane}];
      bool listens = false;
      for (const Prompt& prompt : prompts_) {
        const Position begin = std::max(prompt.begin, prompt.end - window);
        if (n == begin)
          for (auto& [token, values] : rows) values[1] = values[2] = 0;
        listens |= n >= begin && n < prompt.end;
      }
      rows[n] = {0, 0, 0, 0, 1, static_cast<double>(n)};
      std::erase_if(rows, [&](const auto& row) { return n >= row.first + recent_; });
      const double even = static_cast<double>(heads) / static_cast<double>(rows.size());
      for (auto& [token, values] : rows) {
        auto& [mass, in_window, peak, last, times, last_attended] = values;
        double given = 0, most = 0;
        for (std::size_t head = lane * heads; head < (lane + 1) * heads; ++head) {
          given += weights[head][static_cast<std::size_t>(token)];
          most = std::max(most, weights[head][static_cast<std::size_t>(token)]);
        }
        mass += given;
        last = given;
        if (listens) {
          in_window += given;
          peak = std::max(peak, most);
        }
        if (token == n) continue;
        margin = std::min(margin, std::abs(given - even));
        if (given < even) continue;
        times += 1;
        last_attended = n;
      }
      auto& told = story_[{static_cast<std::size_t>(layer), lane, n}] = rows;
      std::erase_if(told, [&](const auto& row) { return n + 1 >= row.first + recent_; });
    }
  }

  /// What layers that share a lane attended to is written there together.
  Story together(const Config& config) const {
    Story all;
    for (const auto& [where, rows] : story_) {
      const auto& [layer, lane, n] = where;
      for (const auto& [token, values] : rows) {
        const auto [at, is_first] = all[{config.kv_owner(layer), lane, n}].try_emplace(token, values);
        if (is_first) continue;
        auto& [mass, in_window, peak, last, times, last_attended] = at->second;
        mass += values[0];
        in_window += values[1];
        peak = std::max(peak, values[2]);
        last += values[3];
        times += values[4] - 1;  // its own query is counted once
        last_attended = std::max(last_attended, values[5]);
      }
    }
    return all;
  }

  double margin = 1;  // between what was given and the even share

 private:
  Story story_;  // of each layer
  std::size_t lanes_;
  int recent_;
  std::vector<Prompt> prompts_;
  std::map<std::pair<int, std::size_t>, Rows> now_;
};

/// Asks for all columns, and reads them after each pass.
struct Reads {
  Story* story;

  prune::Needs needs() const {
    Columns all;
    for (const Column column : columns) all = all | column;
    return {.evidence = all, .window = window};
  }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
      const Lane& lane = layer.lanes()[l];
      Rows& rows = (*story)[{layer.layer(), l, moment.next - 1}];
      for (std::size_t row = 0; row < lane.rows(); ++row) {
        if (lane.until(row) <= moment.next) continue;
        for (std::size_t i = 0; i < n_columns; ++i)
          rows[lane.born(row)][i] = static_cast<double>(lane.evidence(lane.slot(columns[i]), row));
      }
    }
  }
};

void expect_same(const Story& found, const Story& right) {
  for (const auto& [where, rows] : found) {
    const auto& [layer, lane, n] = where;
    ASSERT_EQ(rows.size(), right.at(where).size()) << "after query " << n;
    for (const auto& [token, values] : rows)
      for (std::size_t i = 0; i < n_columns; ++i) {
        const double value = right.at(where).at(token)[i];
        ASSERT_NEAR(values[i], value, 2e-5 * (1 + std::abs(value)))
            << columns[i].name() << " of token " << token << " in layer " << layer << ", lane " << lane
            << ", after query " << n;
      }
  }
}

// Two prompts in chunks, with tokens one by one behind each.
TEST(ColumnsTest, AreWhatQueriesAttendedTo) {
  constexpr int tokens = 90, first = 50, second = 62, end = 82;
  for (const int recent : {1000, 21})
    for (const bool per_head : {false, true})
      for (const ModelSpec::Lanes lanes_of_layers : {ModelSpec::Lanes::own, ModelSpec::Lanes::shared})
        for_decided_models(
            {.window = 0, .gate = ModelSpec::Gate::no, .plans = ModelSpec::Plans::any, .lanes = lanes_of_layers},
            {.cases = 3}, [&](const Model& model, std::uint64_t seed) {
              const Config& c = model.config();
              const std::size_t lanes = per_head ? static_cast<std::size_t>(c.n_kv_heads) : 1;
              const auto text = random_tokens(seed, c, tokens);
              Attended expected(lanes, recent, {{0, first}, {second, end}});
              reference::forward(c, model.weights(), text, {.tau = std::nullopt, .visibility = &expected});
              if (expected.margin < 1e-5) return false;
              const Story right = expected.together(c);
              for (const int chunk : {64, 16, 7, 1}) {
                SCOPED_TRACE("chunks of " + std::to_string(chunk) + ", of each head " + std::to_string(per_head));
                Story found;
                const auto policy = prune::chain(prune::streaming({.sinks = 0, .recent = recent}), Reads{&found});
                Session session(model,
                                {.policy = per_head ? prune::per_head(policy) : policy, .threads = 1, .chunk = chunk});
                const std::span all(text);
                const SequenceId sequence = session.add(all.first(first), Logits::none);
                const auto push = [&](int from, int to) {
                  for (int n = from; n < to; ++n) {
                    while (!session.idle()) session.step();
                    session.push(sequence, text[static_cast<std::size_t>(n)], Logits::none);
                  }
                  while (!session.idle()) session.step();
                };
                push(first, second);
                session.prompt(sequence, all.subspan(second, end - second), Logits::none);
                push(end, tokens);
                EXPECT_GE(found.size(), lanes * (tokens - end + second - first));
                expect_same(found, right);
              }
              return true;
            });
}

}  // namespace
}  // namespace pith::testing
