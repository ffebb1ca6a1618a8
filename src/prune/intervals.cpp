// SPDX-License-Identifier: MIT
#include "pith/prune/intervals.hpp"

#include <algorithm>

#include "pith/prune/spelling.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

constexpr Position together = 16;  // queries judged at once
constexpr std::size_t capacity = PageLayout::capacity;

/// Whether any of a page's rows is another than it was.
bool changed(const Position* until, std::span<const Position> before) {
  int any = 0;
  for (std::size_t i = 0; i < before.size(); ++i) any |= int{until[i] != before[i]};
  return any != 0;
}

/// One gate and the queries of a pass.
struct Judge {
  /// Gate `number` of the layer's.
  Judge(const Moment& moment, float tau, std::size_t number)
      : queries(of(moment.gate, number)),
        scale(moment.gate.scale),
        bias(moment.gate.bias[number]),
        cut(moment.gate.threshold + moment.gate.tau.value_or(tau)),
        recent(moment.gate.recent),
        sinks(moment.gate.sinks),
        first(moment.first),
        next(moment.next) {}

  static View<const float> of(const GateQueries& gates, std::size_t number) {
    const std::size_t dim = gates.queries.cols / gates.bias.size();
    return gates.queries.cols_from(number * dim, dim);
  }

  View<const float> queries;  // [next - first, gate_dim]
  float scale, bias, cut;
  int recent, sinks;
  Position first, next;  // the queries

  /// Whether query n has a say on the row of token `born`.
  bool judges(Position n, Position born) const { return born >= sinks && born + recent <= n; }

  /// scores[query][row] of a page with the queries [begin, end).
  void score(const Page& page, Position begin, Position end, float* scores, const std::byte* ahead = nullptr) const {
    ops::dots(page.layout().shape().gate_keys, queries[static_cast<std::size_t>(begin - first)].data(),
              static_cast<std::size_t>(end - begin), queries.stride, page.gate(), page.rows(), queries.cols, scores,
              capacity, ahead);
    for (Position n = begin; n < end; ++n, scores += capacity)
      for (std::size_t i = 0; i < page.rows(); ++i) scores[i] = scores[i] * scale + bias;
  }

  /// Judges the rows of one page, seen up to until[row], by all queries: the first that drops a row ends it there.
  /// logits[row], where wanted: of the last query that judged the row. `ahead`: gate keys read soon, or null.
  void operator()(const Page& page, Position* until, float* logits, const std::byte* ahead) const {
    const Position* const born = page.born().data();
    const std::size_t rows = page.rows();
    float scores_of_page[static_cast<std::size_t>(together) * capacity];  // [query][row]
    for (Position begin = first; begin < next; begin += together) {
      const Position end = std::min(begin + together, next);
      // Numbers rather than branches, here and below, so that compilers take several rows at once.
      int any = 0;
      for (std::size_t i = 0; i < rows; ++i)
        any |= int{until[i] > begin} & int{born[i] >= sinks} & int{born[i] < end - recent};
      if (any == 0) continue;
      score(page, begin, end, scores_of_page, ahead);
      ahead = nullptr;
      for (Position n = begin; n < end; ++n) {
        const float* const scores = scores_of_page + static_cast<std::size_t>(n - begin) * capacity;
        if (logits != nullptr)
          for (std::size_t i = 0; i < rows; ++i)
            if (judges(n, born[i]) && until[i] > n) logits[i] = scores[i] - cut;
        int closes[capacity], some = 0;
        for (std::size_t i = 0; i < rows; ++i) {
          closes[i] = int{born[i] >= sinks} & int{born[i] <= n - recent} & int{until[i] > n} & int{!(scores[i] > cut)};
          some |= closes[i];
        }
        if (some == 0) continue;
        for (std::size_t i = 0; i < rows; ++i)
          if (closes[i] != 0) until[i] = n;
      }
    }
  }
};

/// The gate's keys lie in the lane whose rows it closes.
void judge_lane(const Lane& lane, const Judge& judge, const Threads& threads, std::size_t work) {
  const Slot wanted = lane.slot(column::gate_logit);
  threads.run(lane.pages(), work, [&](std::size_t p) {
    const Page page = lane.page(p);
    Position until[capacity];
    std::ranges::copy(page.until(), until);
    judge(page, until, wanted ? page.evidence(wanted).data() : nullptr,
          p + 1 < lane.pages() ? lane.page(p + 1).gate() : nullptr);
    if (!changed(until, page.until())) return;
    for (std::size_t i = 0; i < page.rows(); ++i)
      if (until[i] != page.until()[i]) page.set_until(i, until[i]);
  });
}

/// The gate's keys lie in a lane of their own: judged once, there, for the rows of the same tokens in the others.
void judge_apart(const KvLayer& layer, const Judge& judge, const Moment& moment, std::size_t work) {
  const Lane& keys = layer.gate();
  const auto lanes = layer.lanes();
  const bool wanted = static_cast<bool>(lanes[0].slot(column::gate_logit));
  auto& until = moment.scratch->until;    // [row of keys]
  auto& logits = moment.scratch->values;  // [row of keys]
  until.resize(keys.pages() * capacity);
  if (wanted) logits.resize(keys.pages() * capacity);
  moment.threads.run(keys.pages(), work, [&](std::size_t p) {
    const Page page = keys.page(p);
    std::ranges::copy(page.until(), &until[p * capacity]);
    judge(page, &until[p * capacity], wanted ? &logits[p * capacity] : nullptr,
          p + 1 < keys.pages() ? keys.page(p + 1).gate() : nullptr);
  });
  bool any = wanted;
  for (std::size_t p = 0; p < keys.pages() && !any; ++p) any = changed(&until[p * capacity], keys.page(p).until());
  if (!any) return;

  const auto row_of = layer.gate_rows();
  // The last query that judges a row which is seen up to `end`, and which the gate ends at `drop`.
  const auto last_judge = [&](Position end, Position drop) {
    return drop < end ? drop : std::min(end, judge.next) - 1;
  };
  moment.threads.run(lanes.size(), lanes.size() * keys.rows(), [&](std::size_t l) {
    const Lane& lane = lanes[l];
    const Slot slot = lane.slot(column::gate_logit);
    for (std::size_t p = 0; p < lane.pages(); ++p) {
      const Page page = lane.page(p);
      for (std::size_t i = 0; i < page.rows(); ++i) {
        const Position born = page.born()[i], end = page.until()[i];
        const std::size_t key = row_of[static_cast<std::size_t>(born)];
        if (wanted) {
          const Position n = last_judge(end, until[key]);
          if (n == last_judge(keys.until(key), until[key])) {
            if (n >= judge.first && judge.judges(n, born)) page.evidence(slot)[i] = logits[key];
          } else if (n >= judge.first && judge.judges(n, born)) {
            // Closed by another before the gate was done with the token.
            float scores[capacity];
            judge.score(keys.page(key / capacity), n, n + 1, scores);
            page.evidence(slot)[i] = scores[key % capacity] - judge.cut;
          }
        }
        if (until[key] < end) page.set_until(i, until[key]);
      }
    }
  });
}

}  // namespace

void LearnedGate::before_attention(const KvLayer& layer, const Moment& moment) const {
  const auto work = [&](const Lane& keys, const Judge& judge) {
    return keys.rows() * static_cast<std::size_t>(moment.next - moment.first) * judge.queries.cols;
  };
  if (layer.gate_is_apart()) {
    const Judge judge(moment, tau, 0);
    return judge_apart(layer, judge, moment, work(layer.gate(), judge));
  }
  const auto lanes = layer.lanes();
  for (std::size_t l = 0; l < lanes.size(); ++l) {
    const Judge judge(moment, tau, lanes.number(l));
    judge_lane(lanes[l], judge, moment.threads, work(lanes[l], judge));
  }
}

std::string LearnedGate::describe() const { return spell("gate", {{"tau", tau}}); }

void SlidingWindow::before_attention(const KvLayer& layer, const Moment& moment) const {
  for (const Lane& lane : layer.lanes())
    // The rows of this pass were appended last.
    for (std::size_t row = lane.rows(); row-- > 0 && lane.born(row) >= moment.first;)
      if (lane.born(row) >= sinks) lane.close(row, lane.born(row) + recent);
}

void TaughtDecisions::before_attention(const KvLayer& layer, const Moment& moment) const {
  const auto& logits = moment.decisions.logits;
  const int behind = window > 0 ? window : moment.decisions.window;
  const auto lanes = layer.lanes();
  for (std::size_t l = 0; l < lanes.size(); ++l) {
    const Lane& lane = lanes[l];
    const auto leaves = [&, head = lanes.number(l)](Position token) {
      return token + 1 < moment.next && logits[static_cast<std::size_t>(token + 1 - moment.first)][head] > 0;
    };
    // The rows of this pass were appended last; that of the token before them may be anywhere by now.
    std::size_t row = lane.rows();
    for (; row-- > 0 && lane.born(row) >= moment.first;)
      if (leaves(lane.born(row))) lane.close(row, lane.born(row) + behind + 1);
    const Position before = moment.first - 1;
    if (before < 0 || !leaves(before)) continue;
    for (row = lane.rows(); row-- > 0;)
      if (lane.born(row) == before) lane.close(row, before + behind + 1);
  }
}

std::string TaughtDecisions::describe() const { return spell("dms", {{"window", window}}); }

std::string SlidingWindow::describe() const { return spell("streaming", {{"sinks", sinks}, {"recent", recent}}); }

}  // namespace pith::prune
