// SPDX-License-Identifier: MIT
#include "pith/prune/intervals.hpp"

#include <algorithm>

#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

constexpr Position tile = 16;  // queries judged together

/// Judges the rows of one page by the queries [first, next).
void judge(const Page& page, const GateQueries& gate, Position first, Position next, float cut, float* evidence) {
  const std::span born = page.born();
  const std::span until = page.until();
  float logits[static_cast<std::size_t>(tile) * PageLayout::capacity];  // [query][row]
  for (Position begin = first; begin < next; begin += tile) {
    const Position end = std::min(begin + tile, next);
    const auto awaits_judgement = [&](std::size_t i) { return until[i] > begin && born[i] + gate.recent < end; };
    bool any = false;
    for (std::size_t i = 0; i < page.rows() && !any; ++i) any = awaits_judgement(i);
    if (!any) continue;
    ops::dots(Format::f32, gate.queries[static_cast<std::size_t>(begin - first)].data(),
              static_cast<std::size_t>(end - begin), gate.queries.stride,
              reinterpret_cast<const std::byte*>(page.gate()), page.rows(), gate.queries.cols, logits,
              PageLayout::capacity);
    for (std::size_t i = 0; i < page.rows(); ++i) {
      for (Position n = std::max(begin, born[i] + gate.recent); n < std::min(end, until[i]); ++n) {
        const float s = logits[static_cast<std::size_t>(n - begin) * PageLayout::capacity + i] * gate.scale + gate.bias;
        if (evidence != nullptr) evidence[i] = s - cut;
        if (!(s > cut)) until[i] = n;
      }
    }
  }
}

}  // namespace

void LearnedGate::before_attention(const KvLayer& layer, const Moment& moment) const {
  const float cut = moment.gate.threshold + tau;
  for (const Lane& lane : layer.lanes()) {
    const bool wanted = lane.layout().shape().evidence.has(Evidence::gate_logit);
    const auto queries = static_cast<std::size_t>(moment.next - moment.first);
    moment.threads->run(lane.pages(), lane.rows() * queries * moment.gate.queries.cols, [&](std::size_t p) {
      const Page page = lane.page(p);
      judge(page, moment.gate, moment.first, moment.next, cut,
            wanted ? page.evidence(Evidence::gate_logit).data() : nullptr);
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
