// SPDX-License-Identifier: MIT
#include "pith/prune/intervals.hpp"

#include <algorithm>

#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

constexpr Position tile = 16;  // queries judged together

/// Judges the rows of one page by the queries [first, next). `ahead`: gate keys that will be read soon, or null.
void judge(const Page& page, const GateQueries& gate, Position first, Position next, float cut, float* evidence,
           const float* ahead) {
  const Position* const born = page.born().data();
  const Position* const until = page.until().data();
  const std::size_t rows = page.rows();
  float logits[static_cast<std::size_t>(tile) * PageLayout::capacity];  // [query][row]
  for (Position begin = first; begin < next; begin += tile) {
    const Position end = std::min(begin + tile, next);
    // Numbers rather than branches, here and below, so that compilers take several rows at once.
    int any = 0;
    for (std::size_t i = 0; i < rows; ++i) any |= int{until[i] > begin} & int{born[i] < end - gate.recent};
    if (any == 0) continue;
    ops::dots(Format::f32, gate.queries[static_cast<std::size_t>(begin - first)].data(),
              static_cast<std::size_t>(end - begin), gate.queries.stride,
              reinterpret_cast<const std::byte*>(page.gate()), rows, gate.queries.cols, logits, PageLayout::capacity,
              reinterpret_cast<const std::byte*>(ahead));
    ahead = nullptr;
    for (Position n = begin; n < end; ++n) {
      float* const scores = logits + static_cast<std::size_t>(n - begin) * PageLayout::capacity;
      for (std::size_t i = 0; i < rows; ++i) scores[i] = scores[i] * gate.scale + gate.bias;
      if (evidence != nullptr)
        for (std::size_t i = 0; i < rows; ++i)
          if (born[i] + gate.recent <= n && until[i] > n) evidence[i] = scores[i] - cut;
      int closes[PageLayout::capacity], some = 0;
      for (std::size_t i = 0; i < rows; ++i) {
        closes[i] = int{born[i] <= n - gate.recent} & int{until[i] > n} & int{!(scores[i] > cut)};
        some |= closes[i];
      }
      if (some == 0) continue;
      for (std::size_t i = 0; i < rows; ++i)
        if (closes[i] != 0) page.set_until(i, n);
    }
  }
}

}  // namespace

void LearnedGate::before_attention(const KvLayer& layer, const Moment& moment) const {
  const float cut = moment.gate.threshold + moment.gate.tau.value_or(tau);
  for (const Lane& lane : layer.lanes()) {
    const bool wanted = lane.layout().shape().evidence.has(Evidence::gate_logit);
    const auto queries = static_cast<std::size_t>(moment.next - moment.first);
    moment.threads->run(lane.pages(), lane.rows() * queries * moment.gate.queries.cols, [&](std::size_t p) {
      const Page page = lane.page(p);
      judge(page, moment.gate, moment.first, moment.next, cut,
            wanted ? page.evidence(Evidence::gate_logit).data() : nullptr,
            p + 1 < lane.pages() ? lane.page(p + 1).gate() : nullptr);
    });
  }
}

void SlidingWindow::before_attention(const KvLayer& layer, const Moment& moment) const {
  for (const Lane& lane : layer.lanes())
    // The rows of this pass were appended last.
    for (std::size_t row = lane.rows(); row-- > 0 && lane.born(row) >= moment.first;)
      if (lane.born(row) >= sinks) lane.close(row, lane.born(row) + recent);
}

}  // namespace pith::prune
