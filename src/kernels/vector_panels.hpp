// SPDX-License-Identifier: MIT
// Attention of many queries in panels, for any vector vocabulary. Included inside a target region, after
// vector_quants.hpp.
//
// 32 queries lie side by side in lanes, so that neither products nor softmax sum across a vector; rows of keys, or
// numbers of values, are multiplied with them one by one.
#pragma once

namespace pith::kernels {
namespace {

constexpr size_t panel_lanes = panel_vectors * width;  // of a patch of products

/// Numbers [i, i + width) of a row, 0 where it has none.
template <Block B>
inline F part_of(const B* row, size_t i, size_t dim) {
  if (i + width <= dim) return load(row + i);
  return i < dim ? load_some(row + i, dim - i) : splat(0.0f);
}

/// What each number of a row is multiplied with before it is summed up: itself, or 0, for a sum that is 0 where all are
/// numbers.
enum class Times { itself, nothing };

/// Of each of n_rows rows the largest magnitude, and the sum of products. Four rows at a time, as the largest of one
/// vector costs what those of four do.
template <Times times, Block B>
inline void measure(const B* rows, size_t n_rows, size_t dim, float (&most)[tile_rows], float (&sums)[tile_rows]) {
  for (size_t first = 0; first < n_rows; first += 4) {
    F tops[4], products[4];
#pragma GCC unroll 4
    for (size_t r = 0; r < 4; ++r) {
      const B* row = rows + (first + r < n_rows ? first + r : first) * dim;
      tops[r] = products[r] = splat(0.0f);
      for (size_t i = 0; i < dim; i += width) {
        const F x = part_of(row, i, dim);
        tops[r] = max(tops[r], abs(x));
        products[r] = fma(x, times == Times::itself ? x : splat(0.0f), products[r]);
      }
    }
    store_largest(most + first, tops[0], tops[1], tops[2], tops[3]);
    store_sums(sums + first, products[0], products[1], products[2], products[3]);
  }
}

template <Block B>
void key_panel(const std::byte* tile, size_t n_rows, size_t dim, KeyPanel& panel, const std::byte* next) {
  const auto* rows = row_at<B>(tile, 0);
  alignas(64) float most[tile_rows], squares[tile_rows], inverses[tile_rows];
  measure<Times::itself>(rows, n_rows, dim, most, squares);
  set_steps(most, squares, n_rows, panel, inverses);
  for (size_t first = 0; first < tile_rows; first += 4) {
    const B* four[4];
    for (size_t r = 0; r < 4; ++r) four[r] = rows + (first + r < n_rows ? first + r : 0) * dim;
    prefetch_next(next, first * dim * sizeof(B), (first + 4) * dim * sizeof(B));
    for (size_t c = 0; c < panel_dim(dim); c += width) {
      Bytes quads[4];
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; ++r) {
        alignas(64) std::int8_t bytes[4 * width];
        store(bytes, rounded(part_of(four[r], c, dim) * splat(inverses[first + r])));
        quads[r] = load_quads(bytes);
      }
      I words[4];
      transpose_4(quads[0], quads[1], quads[2], quads[3], words);
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        alignas(64) Pair of_four[width];
        store(of_four, pairs(words[2 * half], words[2 * half + 1]));
#pragma GCC unroll 4
        for (size_t l = 0; l < width / 4; ++l)
          std::memcpy(&panel.pairs[c / 2 + 2 * l + half][first], of_four + 4 * l, 4 * sizeof(Pair));
      }
    }
  }
}

template <Block B>
void value_panel(const std::byte* tile, size_t n_rows, size_t dim, ValuePanel& panel, const std::byte* next) {
  const auto* rows = row_at<B>(tile, 0);
  alignas(64) float most[tile_rows] = {}, nothing[tile_rows] = {}, inverses[tile_rows];
  measure<Times::nothing>(rows, n_rows, dim, most, nothing);
  for (size_t j = 0; j < tile_rows; ++j) most[j] = j < n_rows ? most[j] + nothing[j] : 0;
  set_levels(most, panel, inverses);
  for (size_t j = 0; j < tile_rows; j += 2) {
    const B* first = rows + (j < n_rows ? j : 0) * dim;
    const B* second = rows + (j + 1 < n_rows ? j + 1 : 0) * dim;
    const F factor = splat(j < n_rows ? inverses[j] : 0.0f), factor_2 = splat(j + 1 < n_rows ? inverses[j + 1] : 0.0f);
    prefetch_next(next, j * dim * sizeof(B), (j + 2) * dim * sizeof(B));
    for (size_t i = 0; i < panel_dim(dim); i += width)
      store(panel.pairs + j / 2 * panel_dim(dim) + i,
            pairs(rounded(part_of(first, i, dim) * factor), rounded(part_of(second, i, dim) * factor_2)));
  }
}

/// Lane l = the quant of (i, j + l).
inline I quant_of(const q8_0_square& square, size_t i, size_t j) {
  const I raw = bits(load(row_at<std::int32_t>(square.quants[i / 4][j], 0)), 8 * (i % 4), 255);
  return add(raw, splat(std::int32_t{-q8_0_square::middle}));
}
inline I quant_of(const q4_0_square& square, size_t i, size_t j) {
  const I raw = bits(load(row_at<std::int32_t>(square.nibbles[i / 4 % 4][j], 0)), 8 * (i % 4) + i / 16 * 4, 15);
  return add(raw, splat(std::int32_t{-q4_0_square::middle}));
}

template <class Square>
void key_panel_of_squares(const std::byte* tile, size_t n_rows, size_t dim, KeyPanel& panel, const std::byte* next) {
  const auto* squares = row_at<Square>(tile, 0);
  const size_t blocks = dim / block_size;
  alignas(64) float most[tile_rows], sums[tile_rows], inverses[tile_rows];
  for (size_t j = 0; j < tile_rows; j += width) {
    F tops = splat(0.0f), products = splat(0.0f);
    for (size_t b = 0; b < blocks; ++b) {
      F of_block = splat(0.0f), largest_quants = splat(0.0f);
      for (size_t i = 0; i < block_size; ++i) {
        const F x = to_floats(quant_of(squares[b], i, j));
        largest_quants = max(largest_quants, abs(x));
        of_block = fma(x, x, of_block);
      }
      const F scales = load(squares[b].scales + j);
      tops = max(tops, abs(largest_quants * scales));
      products = fma(of_block * scales, scales, products);
    }
    store(most + j, tops);
    store(sums + j, products);
  }
  set_steps(most, sums, n_rows, panel, inverses);
  for (size_t b = 0; b < blocks; ++b) {
    prefetch_next(next, b * sizeof(Square), (b + 1) * sizeof(Square));
    for (size_t j = 0; j < tile_rows; j += width) {
      const F factors = load(squares[b].scales + j) * load(inverses + j);
      for (size_t i = 0; i < block_size; i += 2)
        store(panel.pairs[(b * block_size + i) / 2] + j,
              pairs(rounded(to_floats(quant_of(squares[b], i, j)) * factors),
                    rounded(to_floats(quant_of(squares[b], i + 1, j)) * factors)));
    }
  }
  // What lies where there are no rows is no number.
  for (size_t i = 0; i < dim / 2; ++i)
    for (size_t j = n_rows; j < tile_rows; ++j) panel.pairs[i][j] = 0;
}

template <class Square>
void value_panel_of_squares(const std::byte* tile, size_t n_rows, size_t dim, ValuePanel& panel,
                            const std::byte* next) {
  const auto* squares = row_at<Square>(tile, 0);
  const size_t blocks = dim / block_size, padded = panel_dim(dim);
  alignas(64) float scales[max_head_dim / block_size][tile_rows];
  float most[tile_rows] = {}, inverses[tile_rows];
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t j = 0; j < tile_rows; j += width) store(scales[b] + j, load(squares[b].scales + j));
    for (size_t j = 0; j < n_rows; ++j) {
      const float bound = (scales[b][j] < 0 ? -scales[b][j] : scales[b][j]) * Square::middle;
      most[j] = bound <= most[j] ? most[j] : bound;
    }
  }
  set_levels(most, panel, inverses);
  for (size_t b = 0; b < blocks; ++b) {
    prefetch_next(next, b * sizeof(Square), (b + 1) * sizeof(Square));
    for (size_t j = 0; j < tile_rows; j += 2) {
      const F first = splat(j < n_rows ? scales[b][j] * inverses[j] : 0.0f);
      const F second = splat(j + 1 < n_rows ? scales[b][j + 1] * inverses[j + 1] : 0.0f);
      for (size_t i = 0; i < block_size; i += width)
        store(panel.pairs + j / 2 * padded + b * block_size + i,
              pairs(rounded(to_floats(quant_of(squares[b], j, i)) * first),
                    rounded(to_floats(quant_of(squares[b], j + 1, i)) * second)));
    }
  }
}

/// sums[r][v], lane l = sum_k (first of) lanes[k][v * width + l] (first of) each[k * stride + r], and of the seconds.
template <size_t R>
[[gnu::always_inline]] inline void pair_products(const Pair* lanes, const Pair* each, size_t stride, size_t depth,
                                                 I (&sums)[R][panel_vectors]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (size_t v = 0; v < panel_vectors; ++v) sums[r][v] = splat(std::int32_t{0});
  }
#pragma GCC unroll panel_unroll
  for (size_t k = 0; k < depth; ++k, lanes += tile_rows, each += stride) {
    I in[panel_vectors];
#pragma GCC unroll 16
    for (size_t v = 0; v < panel_vectors; ++v) in[v] = load(lanes + v * width);
#pragma GCC unroll 16
    for (size_t r = 0; r < R; ++r) {
      const I x = splat(each[r]);
#pragma GCC unroll 16
      for (size_t v = 0; v < panel_vectors; ++v) sums[r][v] = add_pair_products(sums[r][v], in[v], x);
    }
  }
}

void multiply_panels(const KeyPanel& keys, const KeyPanel& queries, size_t dim, float* scores) {
  const size_t depth = (dim + 1) / 2;
  for (size_t q = 0; q < tile_rows; q += panel_lanes)
    for (size_t j = 0; j < tile_rows; j += panel_height) {
      I sums[panel_height][panel_vectors];
      pair_products(queries.pairs[0] + q, keys.pairs[0] + j, tile_rows, depth, sums);
#pragma GCC unroll 16
      for (size_t r = 0; r < panel_height; ++r) {
#pragma GCC unroll 16
        for (size_t v = 0; v < panel_vectors; ++v) {
          const F steps = splat(keys.steps[j + r]) * load(queries.steps + q + v * width);
          store(scores + (j + r) * tile_rows + q + v * width, to_floats(sums[r][v]) * steps);
        }
      }
    }
}

/// 2^x for x <= 0, to 3e-6 of it: what it is for are weights of 16 bits. Below -126 it is 2^-126; a NaN passes.
inline F power_of_2_below_1(F x) {
  x = max(splat(-126.0f), x);
  const F n = round(x), r = x - n;  // at most 1/2: the polynomial of degree 4 whose largest relative error is least
  F p = splat(0.0095701f);
  p = fma(p, r, splat(0.05591786f));
  p = fma(p, r, splat(0.24024745f));
  p = fma(p, r, splat(0.69312181f));
  p = fma(p, r, splat(0.99999926f));
  return times_normal_power_of_2(p, n);
}

void absorb_panel(float* scores, const ValuePanel& values, float* maximum, float* weight, WeightPanel& out) {
  constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;
  const F lowest = splat(-1e30f);  // not -infinity, where nothing is seen: -infinity less itself is no number
  for (size_t q = 0; q < tile_rows; q += width) {
    F most = splat(-std::numeric_limits<float>::infinity());
    for (size_t j = 0; j < tile_rows; ++j) {
      float* const at = scores + j * tile_rows + q;
      const F x = fma(load(at), splat(log2_e), splat(values.levels[j]));
      store(at, x);
      most = max(most, x);
    }
    const F before = load(maximum + q), highest = max(before, most), base = max(lowest, most);
    F total = splat(0.0f), sums = splat(0.0f);
    for (size_t j = 0; j < tile_rows; ++j) {
      float* const at = scores + j * tile_rows + q;
      const F e = power_of_2_below_1(load(at) - base);
      store(at, e);
      total = total + e;
      sums = fma(e, splat(values.inverses[j]), sums);
    }
    const F factor = min(splat(largest_whole), splat(most_together) / total);
    for (size_t j = 0; j < tile_rows; j += 2) {
      const float* const at = scores + j * tile_rows + q;
      store(out.pairs[j / 2] + q, pairs(rounded(load(at) * factor), rounded(load(at + tile_rows) * factor)));
    }
    const F shift = max(lowest, highest), gain = exp((most - shift) * splat(ln_2));
    const F shrink = exp((before - shift) * splat(ln_2));
    store(maximum + q, highest);
    store(weight + q, fma(load(weight + q), shrink, sums * gain));
    store(out.shrink + q, shrink);
    store(out.gains + q, gain * splat(values.step) / factor);
  }
}

template <bool shrinks, size_t R>
[[gnu::always_inline]] inline void weigh_numbers(const WeightPanel& weights, const ValuePanel& values, size_t padded,
                                                 size_t q, size_t i, float* sums) {
  I products[R][panel_vectors];
  pair_products(weights.pairs[0] + q, values.pairs + i, padded, tile_rows / 2, products);
  F gains[panel_vectors], shrink[panel_vectors];
#pragma GCC unroll 16
  for (size_t v = 0; v < panel_vectors; ++v) {
    gains[v] = load(weights.gains + q + v * width);
    shrink[v] = load(weights.shrink + q + v * width);
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (size_t v = 0; v < panel_vectors; ++v) {
      float* const to = sums + (i + r) * tile_rows + q + v * width;
      const F so_far = shrinks ? load(to) * shrink[v] : load(to);
      store(to, fma(to_floats(products[r][v]), gains[v], so_far));
    }
  }
}

template <bool shrinks>
void weigh_tile_panel(const WeightPanel& weights, const ValuePanel& values, size_t dim, float* sums) {
  const size_t padded = panel_dim(dim);
  for (size_t q = 0; q < tile_rows; q += panel_lanes) {
    size_t i = 0;
    for (; i + panel_height <= dim; i += panel_height)
      weigh_numbers<shrinks, panel_height>(weights, values, padded, q, i, sums);
    for (; i < dim; ++i) weigh_numbers<shrinks, 1>(weights, values, padded, q, i, sums);
  }
}

void weigh_panel(const WeightPanel& weights, const ValuePanel& values, size_t dim, float* sums) {
  F least = load(weights.shrink);
  for (size_t q = width; q < tile_rows; q += width) least = min(least, load(weights.shrink + q));
  // Mostly the maximum stays what it was. A NaN shrinks.
  largest(splat(0.0f) - least) == -1.0f ? weigh_tile_panel<false>(weights, values, dim, sums)
                                        : weigh_tile_panel<true>(weights, values, dim, sums);
}

}  // namespace
}  // namespace pith::kernels
