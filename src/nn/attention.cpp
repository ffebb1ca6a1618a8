// SPDX-License-Identifier: MIT
#include "pith/nn/attention.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "pith/tensor/ops.hpp"
#include "pith/tensor/panel.hpp"
#include "pith/tensor/tensor.hpp"

namespace pith::inline nn {

namespace {

constexpr std::size_t capacity = PageLayout::capacity;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::size_t max_queries = 64;  // (token, head) pairs worked on together

// The pages of a lone token are shared by a task for so many, counted once for each of its kv-heads. Fixed, so that
// results do not depend on the threads.
constexpr std::size_t pages_per_task = 48;
// Of a lone token that is observed: too little to do in one page.
constexpr std::size_t lone_pages_per_task = 16;

// Those of a kv-head that share the panels of its pages: to make them costs what some ten queries do.
constexpr std::size_t max_panel_queries = 192;

/// How queries of one kv-head meet the rows of its pages.
enum class Way {
  rows,    // as they are stored
  blocks,  // in floats, 32-bit ones as they are stored: from some queries on those that are not are decoded
  panels,  // in whole numbers of 16 bits, where what is stored was rounded to no more than that
};

Way way_of(const PageLayout& layout, std::size_t queries) {
  const auto& shape = layout.shape();
  if (shape.keys != KvFormat::f32 && shape.values != KvFormat::f32) return queries < 16 ? Way::rows : Way::panels;
  // Rows in blocks are multiplied in integers.
  const bool in_blocks = block_values(shape.keys) > 1 || block_values(shape.values) > 1;
  return in_blocks || queries < 12 ? Way::rows : Way::blocks;
}

// Room from the start, so that decoding at ordinary lengths allocates nothing.
constexpr std::size_t least_tasks = 1024, least_partials = 64, least_tiles = 256;

/// The columns that attention fills.
constexpr Column observed_columns[] = {column::mass, column::window, column::peak,
                                       column::last, column::times,  column::last_attended};

/// Which of a query's numbers meet stored ones, for the keys of one kv-head of a lane.
struct Channels {
  const std::uint16_t* kept = nullptr;  // null: all of them
  std::size_t count;

  Channels(const Lane& lane, std::size_t kv_head) : count(lane.layout().shape().key_dim) {
    if (lane.channels() != nullptr) kept = lane.channels()->of(kv_head).data();
  }

  /// to[i * stride] = scale * query[channel i]
  void gather(const float* query, float scale, float* to, std::size_t stride) const {
    if (kept == nullptr) {
      for (std::size_t i = 0; i < count; ++i) to[i * stride] = query[i] * scale;
    } else {
      for (std::size_t i = 0; i < count; ++i) to[i * stride] = query[kept[i]] * scale;
    }
  }
};

/// The queries of a task, scaled and prepared: [kv_head][token][head][key_dim].
struct Queries {
  alignas(64) float values[max_queries * max_head_dim];
  std::size_t dim;  // key_dim

  /// `kv_heads` of the lane from `first_kv_head` on, whose first query head is `first_head`.
  Queries(View<const float> q, std::size_t token, std::size_t tokens, std::size_t first_head, std::size_t heads,
          const Lane& lane, std::size_t first_kv_head, std::size_t kv_heads, float scale)
      : dim(lane.layout().shape().key_dim) {
    const std::size_t head_dim = lane.layout().shape().head_dim;
    float* out = values;
    for (std::size_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
      const Channels channels(lane, first_kv_head + kv_head);
      for (std::size_t t = 0; t < tokens; ++t) {
        const float* from = q[token + t].data() + (first_head + kv_head * heads) * head_dim;
        for (std::size_t h = 0; h < heads; ++h, from += head_dim, out += dim) channels.gather(from, scale, out, 1);
      }
    }
    ops::prepare(lane.layout().shape().keys, values, kv_heads * tokens * heads, dim, dim);
  }
};

/// What queries at these positions, ascending, see of a page.
enum class Sight { nothing, some, all };

Sight sight(const Page& page, std::span<const Position> queries) {
  const Position first = queries.front(), next = queries.back() + 1;
  const std::span born = page.born();
  const std::span until = page.until();
  // Numbers rather than branches, so that compilers take several rows at once.
  int any = 0, all = 1;
  for (std::size_t i = 0; i < page.rows(); ++i) {
    any |= int{born[i] < next} & int{until[i] > first};
    all &= int{born[i] <= first} & int{until[i] >= next};
  }
  return all != 0 ? Sight::all : any != 0 ? Sight::some : Sight::nothing;
}

/// Calls hide(row, begin, end) for those [begin, end) of the queries that do not see a row.
template <class Hide>
void for_each_hidden(const Page& page, std::span<const Position> queries, Hide&& hide) {
  const std::size_t tokens = queries.size();
  const Position first = queries.front();
  const bool in_a_row = static_cast<std::size_t>(queries.back() - first) + 1 == tokens;
  const auto before = [&](Position n) {  // how many queries are
    if (in_a_row) return static_cast<std::size_t>(std::clamp<Position>(n - first, 0, static_cast<Position>(tokens)));
    return static_cast<std::size_t>(std::ranges::lower_bound(queries, n) - queries.begin());
  };
  for (std::size_t i = 0; i < page.rows(); ++i) {
    const std::size_t begin = before(page.born()[i]), end = std::max(begin, before(page.until()[i]));
    hide(i, std::size_t{0}, begin);
    hide(i, end, tokens);
  }
}

}  // namespace

struct Attention::Impl {
  Impl(const Config& config, const prune::Needs& needs);

  // Queries of neighbouring kv-heads of a lane against some of its pages: [kv_head][token][head].
  struct Task {
    std::size_t segment, lane;
    std::size_t first_kv_head, kv_heads;  // of the lane
    std::size_t first_head, heads;        // of the queries: the first of all, and how many a kv-head has
    std::size_t token, tokens;            // rows of the pass
    std::size_t queries() const { return kv_heads * tokens * heads; }
    std::size_t head(std::size_t query) const { return first_head + query / (tokens * heads) * heads + query % heads; }
    std::size_t row(std::size_t query) const { return token + query / heads % tokens; }
    std::size_t first_page, end_page;
    std::size_t partial;  // of queries that several tasks share: its index; else `whole`
    std::size_t tiles;    // of a lone token that is observed: where its lane's are in lone_; else `whole`
  };
  static constexpr std::size_t whole = static_cast<std::size_t>(-1);

  void run(const Pass& pass, View<const float> q, View<float> out, const Threads& threads);
  static const Lane& lane_of(const Pass& pass, const Task& task);
  void plan(const Pass& pass);
  struct Sums;
  void attend(const Pass& pass, const Task& task, View<const float> q, View<float> out);
  void attend_by_rows(const Pass& pass, const Task& task, View<const float> q, Sums& sums);
  void attend_by_blocks(const Pass& pass, const Task& task, View<const float> q, Sums& sums) const;
  struct QueryTile;
  void attend_by_panels(const Pass& pass, const Task& task, View<const float> q, View<float> out);
  void hand_over(const Task& task, std::size_t query, const float* values, float maximum, float weight,
                 View<float> out);
  void cap(float* scores, std::size_t lines, std::size_t length, std::size_t stride) const;
  void merge(const Pass& pass, View<float> out);
  bool observes(const Segment& segment) const;
  Position window_of(const Segment& segment) const {
    return std::max(segment.prompt_begin, segment.prompt_end - window_);
  }
  void open_columns(const Segment& segment, const Page& page) const;
  void count_attended(const Page& page, Position n, float even, const float* given) const;
  void observe(const Pass& pass, View<const float> q, const Threads& threads);
  void find_focus(const Pass& pass, View<const float> q) const;
  void observe_page(const Segment& segment, std::span<const Position> positions, const Lane& lane,
                    std::size_t lane_index, std::size_t page, View<const float> q);
  void observe_alone(const Segment& segment, const Lane& lane, std::size_t lane_index, std::size_t page,
                     std::size_t tiles);
  void find_even_shares(const Segment& segment, std::span<const Position> positions, const Lane& lane,
                        std::size_t lane_index);

  const Config& config_;
  int window_;     // tokens at the end of a prompt whose attention column::window collects
  bool observes_;  // is any column wanted that attention fills?
  bool always_;    // one that all queries add to
  std::size_t layer_ = 0;
  float scale_ = 0;  // of its queries
  std::vector<Task> tasks_;
  std::size_t work_ = 0;    // multiply-adds of a score and a sum for all of them
  Tensor<float> partials_;  // [partial][head] (head_dim sums of values, maximum, sum of weights)
  Tensor<float> maximum_;   // [token][head] largest score
  Tensor<float> sum_;       // [token][head] sum of e^(score - maximum)
  struct PageTask {
    std::size_t segment, lane, first_page, end_page, tiles;
  };
  std::vector<PageTask> page_tasks_;
  /// What the attention of lone tokens has left, so that it need not be found again: of each page of their lanes, for
  /// each of the lane's query heads, e^(score - maximum) of its rows and that maximum.
  struct Lone {
    Tensor<float> weights;           // [tile][capacity]
    Tensor<float> maximum;           // [tile]
    std::vector<std::size_t> lanes;  // where the tiles of each lane of the pass begin, or `whole`
  } lone_;
  struct Observed {
    Slot mass, window, peak, last, times, last_attended;
  };
  Observed observed_;   // the columns of the pass's lanes
  Tensor<float> even_;  // [lane][token] what a row gets where all that the token sees get as much, over the heads
};

Attention::Impl::Impl(const Config& config, const prune::Needs& needs)
    : config_(config),
      window_(needs.window),
      observes_(std::ranges::any_of(observed_columns, [&](Column one) { return needs.evidence.has(one); })),
      always_(std::ranges::any_of(std::array{column::mass, column::last, column::times, column::last_attended},
                                  [&](Column one) { return needs.evidence.has(one); })) {
  tasks_.reserve(least_tasks);
  page_tasks_.reserve(least_tasks);
}

void Attention::Impl::run(const Pass& pass, View<const float> q, View<float> out, const Threads& threads) {
  plan(pass);
  layer_ = pass.layer;
  scale_ = config_.query_scale_of(config_.layers[layer_]);
  maximum_.resize(q.rows, static_cast<std::size_t>(config_.n_heads));
  sum_.resize(q.rows, static_cast<std::size_t>(config_.n_heads));
  threads.run(tasks_.size(), work_, [&](std::size_t i) { attend(pass, tasks_[i], q, out); });
  merge(pass, out);
  if (observes_) observe(pass, q, threads);
  find_focus(pass, q);
}

void Attention::Impl::plan(const Pass& pass) {
  tasks_.clear();
  work_ = 0;
  lone_.lanes.clear();
  std::size_t partials = 0, tiles = 0;
  const auto group = static_cast<std::size_t>(config_.group());
  const std::size_t heads = std::min(group, max_queries);
  const auto share = [&](Task task, std::size_t pages) {
    const std::size_t each = std::max(pages_per_task / task.kv_heads, std::size_t{1});
    if (task.tokens > 1 || pages <= each) return tasks_.push_back(task);
    for (std::size_t p = 0; p < pages; p += each) {
      task.first_page = p;
      task.end_page = std::min(p + each, pages);
      task.partial = partials++;
      tasks_.push_back(task);
    }
  };
  for (std::size_t s = 0; s < pass.segments.size(); ++s) {
    const Segment& segment = pass.segments[s];
    if (segment.cache == nullptr) continue;
    const auto lanes = segment.cache->lanes(pass.layer);
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      const std::size_t kv_heads = lanes[l].layout().shape().heads, pages = lanes[l].pages();
      work_ += 2 * lanes[l].rows() * segment.count * kv_heads * group * static_cast<std::size_t>(config_.head_dim);
      const PageLayout& layout = lanes[l].layout();
      const bool keeps = segment.count == 1 && observes(segment) && way_of(layout, heads) == Way::rows;
      const std::size_t first_tile = keeps ? tiles : whole;
      if (keeps) tiles += pages * kv_heads * group;
      lone_.lanes.push_back(first_tile);
      const bool in_panels = way_of(layout, max_panel_queries) == Way::panels;
      const std::size_t most_tokens = (in_panels ? max_panel_queries : max_queries) / heads;
      const std::size_t parts = (segment.count + most_tokens - 1) / most_tokens;
      const std::size_t tokens_together = (segment.count + parts - 1) / parts;
      for (std::size_t t = 0; t < segment.count; t += tokens_together) {
        const std::size_t tokens = std::min(tokens_together, segment.count - t);
        // Rows of several heads are read as they lie in a page, one after the other.
        // So few pages that a lone token would leave them to one thread are shared out by heads.
        const bool few = pass.rows() == 1 && pages * kv_heads <= pages_per_task;
        const std::size_t together =
            heads == group && way_of(layout, tokens * heads) == Way::rows && !few ? max_queries / (tokens * heads) : 1;
        for (std::size_t kv_head = 0; kv_head < kv_heads; kv_head += together)
          for (std::size_t h = 0; h < group; h += heads)
            share({.segment = s,
                   .lane = l,
                   .first_kv_head = kv_head,
                   .kv_heads = std::min(together, kv_heads - kv_head),
                   .first_head = (l * kv_heads + kv_head) * group + h,
                   .heads = std::min(heads, group - h),
                   .token = segment.row + t,
                   .tokens = tokens,
                   .first_page = 0,
                   .end_page = pages,
                   .partial = whole,
                   .tiles = first_tile},
                  pages);
      }
    }
  }
  if (tiles > 0) {
    const std::size_t room = std::bit_ceil(std::max(tiles, least_tiles));
    lone_.weights.resize(room, capacity);
    lone_.maximum.resize(1, room);
  }
  // In powers of two, as the other lists grow: so that memory is seldom asked for as a context gets longer.
  partials_.resize(std::bit_ceil(std::max(partials, least_partials)),
                   std::min(max_queries, static_cast<std::size_t>(config_.n_heads)) *
                       (static_cast<std::size_t>(config_.head_dim) + 2));
}

const Lane& Attention::Impl::lane_of(const Pass& pass, const Task& task) {
  return pass.segments[task.segment].cache->lanes(pass.layer)[task.lane];
}

/// What a task has found so far for its queries.
struct Attention::Impl::Sums {
  alignas(64) float values[max_queries * max_head_dim];  // [query][head_dim], values weighted by e^(score - maximum)
  alignas(64) float maximum[max_queries];                // of the scores
  alignas(64) float weight[max_queries];                 // sum of e^(score - maximum)

  Sums(std::size_t queries, std::size_t dim) {
    std::fill_n(values, queries * dim, 0.0f);
    std::fill_n(maximum, max_queries, -infinity);
    std::fill_n(weight, max_queries, 0.0f);
  }

  void shrink(std::size_t first, std::size_t queries, std::size_t dim, const float* factors) {
    for (std::size_t i = 0; i < queries; ++i)
      if (factors[i] != 1.0f) ops::scale(values + (first + i) * dim, factors[i], dim);
  }
};

void Attention::Impl::attend(const Pass& pass, const Task& task, View<const float> q, View<float> out) {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const Way way = way_of(lane_of(pass, task).layout(), task.tokens * task.heads);
  if (way == Way::panels) return attend_by_panels(pass, task, q, out);
  Sums sums(task.queries(), dim);
  way == Way::rows ? attend_by_rows(pass, task, q, sums) : attend_by_blocks(pass, task, q, sums);
  for (std::size_t i = 0; i < task.queries(); ++i)
    hand_over(task, i, sums.values + i * dim, sums.maximum[i], sums.weight[i], out);
}

/// What a task has found for one of its queries.
void Attention::Impl::hand_over(const Task& task, std::size_t query, const float* values, float maximum, float weight,
                                View<float> out) {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  if (task.partial != whole) {
    float* const partial = partials_[task.partial].data() + query * (dim + 2);
    std::copy_n(values, dim, partial);
    partial[dim] = maximum;
    partial[dim + 1] = weight;
    return;
  }
  const std::size_t token = task.row(query), head = task.head(query);
  float* const to = out[token].data() + head * dim;
  for (std::size_t j = 0; j < dim; ++j) to[j] = values[j] / weight;
  maximum_[token][head] = maximum;
  sum_[token][head] = weight;
}

void Attention::Impl::cap(float* scores, std::size_t lines, std::size_t length, std::size_t stride) const {
  const float most = config_.layers[layer_].score_cap;
  if (most == 0) return;
  for (std::size_t i = 0; i < lines; ++i) ops::soft_cap(scores + i * stride, most, length);
}

/// Rows as they are stored, while the next page is on its way: few queries are bound by memory.
void Attention::Impl::attend_by_rows(const Pass& pass, const Task& task, View<const float> q, Sums& sums) {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const std::size_t queries = task.tokens * task.heads;  // of each kv-head
  const Lane& lane = lane_of(pass, task);
  const auto& shape = lane.layout().shape();
  const auto at = std::span(pass.positions).subspan(task.token, task.tokens);
  const bool alone = pass.segments[task.segment].count == 1;  // sees all that was left before it
  const auto group = static_cast<std::size_t>(config_.group());

  const Queries queries_of_task(q, task.token, task.tokens, task.first_head, task.heads, lane, task.first_kv_head,
                                task.kv_heads, scale_);
  alignas(64) float scores[max_queries * capacity];  // [query][row]
  float shrink[max_queries];
  for (std::size_t p = task.first_page; p < task.end_page; ++p) {
    const Page page = lane.page(p);
    const Sight seen = alone ? Sight::all : sight(page, at);
    if (seen == Sight::nothing) continue;
    const bool last = p + 1 == lane.pages();  // of the lane: the next task mostly goes on where this one ends
    for (std::size_t kv_head = 0; kv_head < task.kv_heads; ++kv_head) {
      const std::size_t head = task.first_kv_head + kv_head, from = kv_head * queries;
      const std::byte* const next_k = last ? nullptr : lane.page(p + 1).k(head);
      const std::byte* const next_v = last ? nullptr : lane.page(p + 1).v(head);
      const std::size_t key_dim = queries_of_task.dim;
      ops::dots(shape.keys, queries_of_task.values + from * key_dim, queries, key_dim, page.k(head), page.rows(),
                key_dim, scores, capacity, next_k);
      cap(scores, queries, page.rows(), capacity);
      if (seen == Sight::some)
        for_each_hidden(page, at, [&](std::size_t row, std::size_t begin, std::size_t end) {
          for (std::size_t i = begin * task.heads; i < end * task.heads; ++i) scores[i * capacity + row] = -infinity;
        });
      ops::absorb_rows(scores, page.rows(), queries, sums.maximum + from, sums.weight + from, shrink);
      if (task.tiles != whole) {
        const std::size_t heads = shape.heads * group, tile = task.tiles + p * heads + task.head(from) % heads;
        std::copy_n(scores, queries * capacity, lone_.weights[tile].data());
        std::copy_n(sums.maximum + from, queries, lone_.maximum.data() + tile);
      }
      sums.shrink(from, queries, dim, shrink);
      ops::accumulate(shape.values, scores, queries, capacity, page.v(head), page.rows(), dim, sums.values + from * dim,
                      dim, next_v);
    }
  }
}

/// For many queries, bound by arithmetic: each page is decoded once, and queries lie side by side in lanes.
void Attention::Impl::attend_by_blocks(const Pass& pass, const Task& task, View<const float> q, Sums& sums) const {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const std::size_t queries = task.queries();         // of one kv-head
  const std::size_t columns = (queries + 7) / 8 * 8;  // what vectors of eight need not treat apart
  const Lane& lane = lane_of(pass, task);
  const auto& shape = lane.layout().shape();
  const auto at = std::span(pass.positions).subspan(task.token, task.tokens);
  const bool alone = pass.segments[task.segment].count == 1;

  alignas(64) float across[max_head_dim * max_queries];  // [head_dim][query]
  alignas(64) float scores[capacity * max_queries];      // [row][query]
  alignas(64) float decoded[capacity * max_head_dim];    // [row][head_dim]
  alignas(64) float shrink[max_queries];
  const Channels channels(lane, task.first_kv_head);
  const std::size_t key_dim = channels.count;
  std::fill_n(across, key_dim * columns, 0.0f);
  for (std::size_t i = 0; i < queries; ++i)
    channels.gather(q[task.row(i)].data() + task.head(i) * dim, scale_, across + i, columns);
  // Formats of single numbers, of which a tile is its rows one by one.
  const auto floats = [&](KvFormat format, const std::byte* tile, std::size_t numbers) {
    if (format == KvFormat::f32) return reinterpret_cast<const float*>(tile);
    ops::decode(storage(format), tile, numbers, decoded);
    return static_cast<const float*>(decoded);
  };

  for (std::size_t p = task.first_page; p < task.end_page; ++p) {
    const Page page = lane.page(p);
    const std::size_t rows = page.rows();
    const Sight seen = alone ? Sight::all : sight(page, at);
    if (seen == Sight::nothing) continue;
    std::fill_n(scores, rows * columns, 0.0f);
    ops::add_product(floats(shape.keys, page.k(task.first_kv_head), rows * key_dim), key_dim, 1, across, columns, rows,
                     key_dim, columns, scores, columns);
    cap(scores, rows, columns, columns);
    if (seen == Sight::some)
      for_each_hidden(page, at, [&](std::size_t row, std::size_t begin, std::size_t end) {
        std::fill(scores + row * columns + begin * task.heads, scores + row * columns + end * task.heads, -infinity);
      });
    ops::absorb(scores, columns, rows, columns, sums.maximum, sums.weight, shrink);
    sums.shrink(0, queries, dim, shrink);
    ops::add_product(scores, 1, columns, floats(shape.values, page.v(task.first_kv_head), rows * dim), dim, queries,
                     rows, dim, sums.values, dim);
  }
}

/// 32 queries of a task and what was found so far for them, as ops::absorb and ops::weigh have it.
struct Attention::Impl::QueryTile {
  KeyPanel queries;
  alignas(64) float sums[max_head_dim * tile_rows];
  alignas(64) float maximum[tile_rows];
  alignas(64) float weight[tile_rows];
};

/// For many queries, bound by arithmetic: panels of each page are made once for all of them.
void Attention::Impl::attend_by_panels(const Pass& pass, const Task& task, View<const float> q, View<float> out) {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const std::size_t queries = task.queries(), n_tiles = (queries + tile_rows - 1) / tile_rows;  // of one kv-head
  const Lane& lane = lane_of(pass, task);
  const auto& shape = lane.layout().shape();
  const auto at = std::span(pass.positions).subspan(task.token, task.tokens);
  const bool alone = pass.segments[task.segment].count == 1;
  const Channels channels(lane, task.first_kv_head);
  const std::size_t key_dim = channels.count;

  QueryTile tiles[max_panel_queries / tile_rows];
  for (std::size_t t = 0; t < n_tiles; ++t) {
    float* const rows = tiles[t].sums;  // a place for them, until sums begin
    const std::size_t first = t * tile_rows, count = std::min(tile_rows, queries - first);
    for (std::size_t i = 0; i < count; ++i) {
      channels.gather(q[task.row(first + i)].data() + task.head(first + i) * dim, scale_, rows + i * key_dim, 1);
      if (spreads_keys(shape.keys)) ops::hadamard(rows + i * key_dim, key_dim);
    }
    ops::key_panel(KvFormat::f32, reinterpret_cast<const std::byte*>(rows), count, key_dim, tiles[t].queries);
    std::fill_n(tiles[t].sums, dim * tile_rows, 0.0f);
    std::fill_n(tiles[t].maximum, tile_rows, -infinity);
    std::fill_n(tiles[t].weight, tile_rows, 0.0f);
  }

  KeyPanel keys;
  ValuePanel values;
  WeightPanel weights;
  alignas(64) float scores[tile_rows * tile_rows];  // [row][query]
  for (std::size_t p = task.first_page; p < task.end_page; ++p) {
    const Page page = lane.page(p);
    const Sight seen = alone ? Sight::all : sight(page, at);
    if (seen == Sight::nothing) continue;
    const bool last = p + 1 == lane.pages();
    const std::size_t head = task.first_kv_head;
    ops::key_panel(shape.keys, page.k(head), page.rows(), key_dim, keys, last ? nullptr : lane.page(p + 1).k(head));
    ops::value_panel(shape.values, page.v(head), page.rows(), dim, values, last ? nullptr : lane.page(p + 1).v(head));
    for (std::size_t t = 0; t < n_tiles; ++t) {
      QueryTile& tile = tiles[t];
      const std::size_t begin = t * tile_rows, end = std::min(begin + tile_rows, queries);
      const std::size_t first = begin / task.heads, tokens = (end - 1) / task.heads + 1 - first;
      const auto at_tile = at.subspan(first, tokens);
      const Sight seen_here = seen == Sight::some ? sight(page, at_tile) : seen;
      if (seen_here == Sight::nothing) continue;
      ops::multiply(keys, tile.queries, key_dim, scores);
      cap(scores, 1, tile_rows * tile_rows, 0);
      std::fill(scores + page.rows() * tile_rows, scores + tile_rows * tile_rows, -infinity);
      if (seen_here == Sight::some)
        for_each_hidden(page, at_tile, [&](std::size_t row, std::size_t from, std::size_t to) {
          const auto column = [&](std::size_t token) {
            return std::clamp((first + token) * task.heads, begin, begin + tile_rows) - begin;
          };
          std::fill(scores + row * tile_rows + column(from), scores + row * tile_rows + column(to), -infinity);
        });
      ops::absorb(scores, values, tile.maximum, tile.weight, weights);
      ops::weigh(weights, values, dim, tile.sums);
    }
  }

  for (std::size_t i = 0; i < queries; ++i) {
    const QueryTile& tile = tiles[i / tile_rows];
    const std::size_t column = i % tile_rows;
    float values_of_query[max_head_dim];
    for (std::size_t j = 0; j < dim; ++j) values_of_query[j] = tile.sums[j * tile_rows + column];
    hand_over(task, i, values_of_query, tile.maximum[column] * std::numbers::ln2_v<float>, tile.weight[column], out);
  }
}

void Attention::Impl::merge(const Pass&, View<float> out) {
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  for (std::size_t begin = 0; begin < tasks_.size();) {
    const Task& task = tasks_[begin];
    std::size_t end = begin + 1;
    if (task.partial != whole)
      while (end < tasks_.size() && tasks_[end].partial != whole && tasks_[end].token == task.token &&
             tasks_[end].first_head == task.first_head)
        ++end;
    for (std::size_t i = 0; task.partial != whole && i < task.queries(); ++i) {
      const auto partial = [&](std::size_t t) { return partials_[tasks_[t].partial].data() + i * (dim + 2); };
      float largest = -infinity;
      for (std::size_t t = begin; t < end; ++t) largest = std::max(largest, partial(t)[dim]);
      const std::size_t head = task.head(i);
      float* const to = out[task.token].data() + head * dim;
      std::fill_n(to, dim, 0.0f);
      float weight = 0;
      for (std::size_t t = begin; t < end; ++t) {
        const float factor = std::exp(partial(t)[dim] - largest);
        weight += factor * partial(t)[dim + 1];
        for (std::size_t j = 0; j < dim; ++j) to[j] += factor * partial(t)[j];
      }
      ops::scale(to, 1.0f / weight, dim);
      maximum_[task.token][head] = largest;
      sum_[task.token][head] = weight;
    }
    begin = end;
  }
}

/// Whether a column is wanted that queries of the segment add to.
bool Attention::Impl::observes(const Segment& segment) const {
  return always_ || (observes_ && segment.first < segment.prompt_end);
}

void Attention::Impl::observe(const Pass& pass, View<const float> q, const Threads& threads) {
  page_tasks_.clear();
  auto tiles = lone_.lanes.begin();
  for (std::size_t s = 0; s < pass.segments.size(); ++s) {
    if (pass.segments[s].cache == nullptr) continue;
    if (!observes(pass.segments[s])) {
      tiles += static_cast<std::ptrdiff_t>(pass.segments[s].cache->lanes(pass.layer).size());
      continue;
    }
    const auto lanes = pass.segments[s].cache->lanes(pass.layer);
    const PageLayout& layout = lanes[0].layout();  // all lanes have the same
    observed_ = {layout.slot(column::mass), layout.slot(column::window), layout.slot(column::peak),
                 layout.slot(column::last), layout.slot(column::times),  layout.slot(column::last_attended)};
    if (observed_.times || observed_.last_attended) {
      even_.resize(lanes.size(), q.rows);
      for (std::size_t l = 0; l < lanes.size(); ++l)
        find_even_shares(pass.segments[s],
                         std::span(pass.positions).subspan(pass.segments[s].row, pass.segments[s].count), lanes[l], l);
    }
    for (std::size_t l = 0; l < lanes.size(); ++l, ++tiles) {
      const std::size_t pages = lanes[l].pages(), together = *tiles != whole ? lone_pages_per_task : 1;
      for (std::size_t p = 0; p < pages; p += together)
        page_tasks_.push_back({s, l, p, std::min(p + together, pages), *tiles});
    }
  }
  threads.run(page_tasks_.size(), work_, [&](std::size_t i) {
    const PageTask& task = page_tasks_[i];
    const Segment& segment = pass.segments[task.segment];
    const Lane& lane = std::as_const(*segment.cache).lanes(pass.layer)[task.lane];
    for (std::size_t p = task.first_page; p < task.end_page; ++p)
      if (task.tiles != whole)
        observe_alone(segment, lane, task.lane, p, task.tiles);
      else
        observe_page(segment, std::span(pass.positions).subspan(segment.row, segment.count), lane, task.lane, p, q);
  });
}

void Attention::Impl::find_even_shares(const Segment& segment, std::span<const Position> positions, const Lane& lane,
                                       std::size_t lane_index) {
  const std::span<float> even = even_[lane_index].subspan(segment.row, segment.count);
  std::ranges::fill(even, segment.count == 1 ? static_cast<float>(lane.rows()) : 0.0f);
  for (std::size_t p = 0; p < lane.pages() && segment.count > 1; ++p) {
    const Page page = lane.page(p);
    for (std::size_t i = 0; i < page.rows(); ++i) {
      const auto begin = std::ranges::lower_bound(positions, page.born()[i]);
      const auto end = std::ranges::lower_bound(positions, page.until()[i]);
      for (auto n = begin; n < end; ++n) even[static_cast<std::size_t>(n - positions.begin())] += 1;
    }
  }
  const auto heads = static_cast<float>(lane.layout().shape().heads * static_cast<std::size_t>(config_.group()));
  for (float& rows : even) rows = heads / rows;
}

/// Columns that begin anew in this pass.
void Attention::Impl::open_columns(const Segment& segment, const Page& page) const {
  // Layers that share lanes add to what the first of them has begun.
  if (config_.layers[layer_].kv_from >= 0) return;
  const Position window_begin = window_of(segment);
  if (segment.first <= window_begin && window_begin < segment.next())
    for (const Slot column : {observed_.window, observed_.peak})
      if (column) std::ranges::fill(page.evidence(column), 0.0f);
  if (observed_.last) std::ranges::fill(page.evidence(observed_.last), 0.0f);
}

/// The only token of its segment, from what its attention has left.
void Attention::Impl::observe_alone(const Segment& segment, const Lane& lane, std::size_t lane_index, std::size_t p,
                                    std::size_t tiles) {
  const Page page = lane.page(p);
  const auto [mass, window, peak, last, times, last_attended] = observed_;
  const std::size_t rows = page.rows(), heads = lane.layout().shape().heads * static_cast<std::size_t>(config_.group());
  const std::size_t first_head = lane_index * heads;
  const Position n = segment.first;
  open_columns(segment, page);

  const float* const weights = lone_.weights[tiles + p * heads].data();
  const bool in_window = n >= window_of(segment) && n < segment.prompt_end;
  float given[capacity] = {};  // over the heads of the lane
  float factors[max_queries];  // what turns a page's weights into shares of all that a head gives
  for (std::size_t begin = 0; begin < heads; begin += max_queries) {
    const std::size_t count = std::min(max_queries, heads - begin);
    const std::span largest = maximum_[segment.row].subspan(first_head + begin, count);
    const std::span sums = sum_[segment.row].subspan(first_head + begin, count);
    for (std::size_t h = 0; h < count; ++h)
      factors[h] = lone_.maximum.data()[tiles + p * heads + begin + h] - largest[h];
    ops::exp_shifted(factors, 0, count);
    for (std::size_t h = 0; h < count; ++h) {
      const float factor = factors[h] / sums[h];
      const float* const row = weights + (begin + h) * capacity;
      for (std::size_t i = 0; i < capacity; ++i) given[i] += factor * row[i];
      if (!peak || !in_window) continue;
      const auto most = page.evidence(peak);
      for (std::size_t i = 0; i < rows; ++i) most[i] = std::max(most[i], factor * row[i]);
    }
  }
  const auto add_to = [&](Slot column) {
    const auto numbers = page.evidence(column);
    for (std::size_t i = 0; i < rows; ++i) numbers[i] += given[i];
  };
  if (mass) add_to(mass);
  if (window && in_window) add_to(window);
  if (last) add_to(last);
  if (times || last_attended) count_attended(page, n, even_[lane_index][segment.row], given);
}

/// A row has been attended to by query n where it was given at least the even share; its own query counts from the
/// start.
void Attention::Impl::count_attended(const Page& page, Position n, float even, const float* given) const {
  for (std::size_t i = 0; i < page.rows(); ++i) {
    if (page.born()[i] >= n || given[i] < even) continue;
    if (observed_.times) page.evidence(observed_.times)[i] += 1;
    if (!observed_.last_attended) continue;
    // Where layers share a lane, another's later queries may have been here before.
    float& latest = page.evidence(observed_.last_attended)[i];
    latest = std::max(latest, static_cast<float>(n));
  }
}

void Attention::Impl::observe_page(const Segment& segment, std::span<const Position> positions, const Lane& lane,
                                   std::size_t lane_index, std::size_t p, View<const float> q) {
  const Page page = lane.page(p);
  const auto& shape = lane.layout().shape();
  const auto [mass, window, peak, last, times, last_attended] = observed_;
  const bool counts = times || last_attended;
  const auto group = static_cast<std::size_t>(config_.group());
  const std::size_t heads = std::min(group, max_queries);
  const std::size_t together = max_queries / heads;  // tokens
  const Position window_begin = window_of(segment);
  open_columns(segment, page);

  // The first token of the segment that any of these columns asks about.
  std::size_t first = segment.count;
  if (last) first = segment.count - 1;
  if ((window || peak) && segment.first < segment.prompt_end)
    first = std::min(first,
                     static_cast<std::size_t>(std::ranges::lower_bound(positions, window_begin) - positions.begin()));
  if (mass || counts) first = 0;

  alignas(64) float scores[max_queries * capacity];
  float given[max_queries * capacity];  // [token][row], over the heads of the lane
  for (std::size_t begin = first; begin < segment.count; begin += together) {
    const std::size_t tokens = std::min(together, segment.count - begin), token = segment.row + begin;
    const auto at = positions.subspan(begin, tokens);
    if (sight(page, at) == Sight::nothing) continue;
    if (counts) std::fill_n(given, tokens * capacity, 0.0f);
    for (std::size_t head = 0, count = 0; head < shape.heads * group; head += count) {
      count = std::min(heads, group - head % group);
      const std::size_t query_head = lane_index * shape.heads * group + head;
      const Queries queries(q, token, tokens, query_head, count, lane, head / group, 1, scale_);
      ops::dots(shape.keys, queries.values, tokens * count, queries.dim, page.k(head / group), page.rows(), queries.dim,
                scores, capacity);
      cap(scores, tokens * count, page.rows(), capacity);
      for_each_hidden(page, at, [&](std::size_t row, std::size_t hidden, std::size_t end) {
        for (std::size_t i = hidden * count; i < end * count; ++i) scores[i * capacity + row] = -infinity;
      });
      for (std::size_t t = 0; t < tokens; ++t) {
        const Position n = at[t];
        for (std::size_t h = 0; h < count; ++h) {
          float* const row = scores + (t * count + h) * capacity;
          ops::exp_shifted(row, maximum_[token + t][query_head + h], page.rows());
          ops::scale(row, 1.0f / sum_[token + t][query_head + h], page.rows());
          const auto add_to = [&](Slot column) { ops::add(page.evidence(column).data(), row, page.rows()); };
          if (mass) add_to(mass);
          if (window && n >= window_begin && n < segment.prompt_end) add_to(window);
          if (last && n + 1 == segment.next()) add_to(last);
          if (peak && n >= window_begin && n < segment.prompt_end) {
            const auto most = page.evidence(peak);
            for (std::size_t i = 0; i < page.rows(); ++i) most[i] = std::max(most[i], row[i]);
          }
          if (counts) ops::add(given + t * capacity, row, page.rows());
        }
      }
    }
    for (std::size_t t = 0; counts && t < tokens; ++t)
      count_attended(page, at[t], even_[lane_index][token + t], given + t * capacity);
  }
}

/// For those who want to know it: one query a pass, and neither cap nor softmax changes which of its scores is the
/// largest. Of equals, the earliest token.
void Attention::Impl::find_focus(const Pass& pass, View<const float> q) const {
  const auto group = static_cast<std::size_t>(config_.group());
  const auto n_heads = static_cast<std::size_t>(config_.n_heads);
  alignas(64) float scores[max_queries * capacity];  // [head][row]
  for (const Segment& segment : pass.segments) {
    if (segment.cache == nullptr || segment.focus.empty()) continue;
    const Position n = segment.next() - 1;
    const std::size_t token = segment.row + segment.count - 1;
    const std::span<Position> focus = segment.focus.subspan(pass.layer * n_heads, n_heads);
    const auto lanes = std::as_const(*segment.cache).lanes(pass.layer);
    const auto& shape = lanes[0].layout().shape();
    for (std::size_t head = 0, count = 0; head < n_heads; head += count) {
      count = std::min(max_queries, group - head % group);
      const std::size_t kv_head = head / group;
      const Lane& lane = lanes[kv_head / shape.heads];
      const Queries queries(q, token, 1, head, count, lane, kv_head % shape.heads, 1, scale_);
      float largest[max_queries];
      std::fill_n(largest, count, -infinity);
      for (std::size_t p = 0; p < lane.pages(); ++p) {
        const Page page = lane.page(p);
        ops::dots(shape.keys, queries.values, count, queries.dim, page.k(kv_head % shape.heads), page.rows(),
                  queries.dim, scores, capacity);
        for (std::size_t h = 0; h < count; ++h)
          for (std::size_t i = 0; i < page.rows(); ++i) {
            const float score = scores[h * capacity + i];
            const Position born = page.born()[i];
            if (born > n || page.until()[i] <= n || score < largest[h]) continue;
            if (score == largest[h] && born > focus[head + h]) continue;
            largest[h] = score;
            focus[head + h] = born;
          }
      }
    }
  }
}

Attention::Attention(const Config& config, const prune::Needs& needs) : impl_(std::make_unique<Impl>(config, needs)) {}
Attention::~Attention() = default;
Attention::Attention(Attention&&) noexcept = default;
Attention& Attention::operator=(Attention&&) noexcept = default;

void Attention::operator()(const Pass& pass, View<const float> q, View<float> out, const Threads& threads) {
  impl_->run(pass, q, out, threads);
}

}  // namespace pith::inline nn
