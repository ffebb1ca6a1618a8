// SPDX-License-Identifier: MIT
// Weights in blocks x quantised activations in integers, for any vector vocabulary. Included inside a target region,
// after block_parts.hpp.
//
// `width` rows at once, one per lane: the 32 products of a part are summed exactly, then
// sums = fma(integer sum, w scale * x scale, sums), part after part, and where a part has a minimum
// sums = fma(w min, -x scale * sum of x's quants, sums). One vector is multiplied with the rows as they lie; for
// several the rows are first packed so that each lane finds its next four bytes in place.
#pragma once

namespace pith::kernels {
namespace {

template <Block B>
constexpr size_t parts = BlockTraits<B>::values / part_values;
/// Minima of a part.
template <Block B>
constexpr size_t mins = !Parts<B>::has_min     ? 0
                        : Parts<B>::has_halves ? 2
                                               : 1;

/// What the integer sum of a part starts from, given the sum of x's quants.
template <Block B>
constexpr std::int32_t start_of(std::int32_t sum) {
  return -(Parts<B>::offset + raised<Parts<B>::range>)*sum;
}

/// Lane r = row r of the group . x in a part.
template <Block B>
[[gnu::always_inline]] inline I part_dots(const Group<B>& group, const Parts<B>& block, size_t first, size_t part,
                                          const q8_activation& x) {
  constexpr Range range = Parts<B>::range;
  const Sixteen w = block.quants(group, first, part, 0), w_2 = block.quants(group, first, part, 1);
  const Bytes low = splat_lanes(x.quants), high = splat_lanes(x.quants + 16);
  I dots[4];
  if constexpr (Parts<B>::has_halves) {
    I dots_2[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots[i] = dots_of_4<range>(w.rows[i], low);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots_2[i] = dots_of_4<range>(w_2.rows[i], high);
    const I sums = add(splat(start_of<B>(x.sums[0])), sums_of_4(dots[0], dots[1], dots[2], dots[3]));
    const I sums_2 = add(splat(start_of<B>(x.sums[1])), sums_of_4(dots_2[0], dots_2[1], dots_2[2], dots_2[3]));
    return add(multiply(sums, block.half(first + part, 0)), multiply(sums_2, block.half(first + part, 1)));
  } else {
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots[i] = dots_of_4<range>(w.rows[i], low, w_2.rows[i], high);
    return add(splat(start_of<B>(x.sums[0] + x.sums[1])), sums_of_4(dots[0], dots[1], dots[2], dots[3]));
  }
}

inline void store_rows(float* y, F sums, size_t rows) {
  if (rows >= width) return store(y, sums);
  store_some(y, sums, rows);
}

/// What minimum m of a part is multiplied with.
template <Block B>
inline F min_factor(const q8_activation& x, size_t m) {
  return splat(-x.scale * static_cast<float>(mins<B> == 1 ? x.sums[0] + x.sums[1] : x.sums[m]));
}

template <Block B>
F dots_of_group(Group<B> group, const q8_activation* x, size_t blocks) {
  const std::byte* start = group.first;
  F sums = splat(0.0f);
  for (size_t b = 0; b < blocks; ++b, group.first += sizeof(B)) {
    const Parts<B> block(group);
#pragma GCC unroll 1
    for (size_t first = 0; first < parts<B>; first += Parts<B>::together) {
#pragma GCC unroll 8
      for (size_t i = 0; i < Parts<B>::together; ++i) {
        const size_t part = b * parts<B> + first + i;
        prefetch_after(start, group.stride, width, part * sizeof(B) / parts<B>, (part + 1) * sizeof(B) / parts<B>);
        const q8_activation& vector = x[part];
        const I products = part_dots(group, block, first, i, vector);
        sums = fma(to_floats(products), block.scale(first + i) * splat(vector.scale), sums);
        if constexpr (mins < B >> 0)
          for (size_t m = 0; m < mins<B>; ++m) sums = fma(block.min(first + i, m), min_factor<B>(vector, m), sums);
      }
    }
  }
  return sums;
}

/// Calls f(group, first row, how many rows) for groups of `width` rows, and for each row beyond the last whole one.
template <Block B, class Function>
void for_groups(const std::byte* w, size_t w_stride, size_t rows, Function f) {
  size_t r = 0;
  for (; r + width <= rows; r += width) f(Group<B>{w + r * w_stride, w_stride}, r, width);
  for (; r < rows; ++r) f(Group<B>{w + r * w_stride, 0}, r, size_t{1});
}

template <size_t n>
struct PackedMins {
  float mins[n][width];
};
template <>
struct PackedMins<0> {};
template <size_t n>
struct PackedHalves {
  std::int32_t halves[n][width];
};
template <>
struct PackedHalves<0> {};

/// One part of `width` rows: four bytes of each row side by side.
template <Block B>
struct alignas(64) PackedPart : PackedMins<mins<B>>, PackedHalves<Parts<B>::has_halves ? 2 : 0> {
  std::int8_t quads[part_values / 4][width][4];
  float scales[width];
};

/// Part p of the block goes to out[p * apart].
template <Block B>
void pack(const Group<B>& group, PackedPart<B>* out, size_t apart) {
  const Parts<B> block(group);
#pragma GCC unroll 1
  for (size_t first = 0; first < parts<B>; first += Parts<B>::together) {
#pragma GCC unroll 8
    for (size_t i = 0; i < Parts<B>::together; ++i) {
      PackedPart<B>& part = out[(first + i) * apart];
      store(part.scales, block.scale(first + i));
      if constexpr (mins < B >> 0)
        for (size_t m = 0; m < mins<B>; ++m) store(part.mins[m], block.min(first + i, m));
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        if constexpr (Parts<B>::has_halves) store(part.halves[half], block.half(first + i, half));
        I words[4];
        transpose(block.quants(group, first, i, half), words);
#pragma GCC unroll 4
        for (size_t k = 0; k < 4; ++k) store(part.quads[4 * half + k][0], words[k]);
      }
    }
  }
}

/// products[g][t] += w[g] . x[t] over the quads [begin, end).
template <size_t G, size_t T, Block B>
[[gnu::always_inline]] inline void add_quads(const PackedPart<B>* w, const q8_activation* x, size_t x_stride,
                                             size_t begin, size_t end, I (&products)[G][T]) {
#pragma GCC unroll quad_unroll
  for (size_t k = begin; k < end; ++k) {
    Bytes quads[G];
#pragma GCC unroll 4
    for (size_t g = 0; g < G; ++g) quads[g] = load_quads(w[g].quads[k][0]);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) {
      const Bytes four = splat_quad(x[t * x_stride].quants + 4 * k);
#pragma GCC unroll 4
      for (size_t g = 0; g < G; ++g) products[g][t] = add_dot4<Parts<B>::range>(products[g][t], quads[g], four);
    }
  }
}

/// products[g][t] = what the sum of a part starts from, given which of x's sums are its own.
template <Block B, size_t G, size_t T, class SumOf>
[[gnu::always_inline]] inline void set_starts(const q8_activation* x, size_t x_stride, SumOf sum_of,
                                              I (&products)[G][T]) {
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
    const I from = splat(start_of<B>(sum_of(x[t * x_stride])));
#pragma GCC unroll 4
    for (size_t g = 0; g < G; ++g) products[g][t] = from;
  }
}

/// products[g][t] = the integer sum of a part, w[g] . x[t].
template <size_t G, size_t T, Block B>
[[gnu::always_inline]] inline void packed_dots(const PackedPart<B>* w, const q8_activation* x, size_t x_stride,
                                               I (&products)[G][T]) {
  constexpr size_t quads = part_values / 4;
  if constexpr (!Parts<B>::has_halves) {
    set_starts<B>(
        x, x_stride, [](const q8_activation& v) { return v.sums[0] + v.sums[1]; }, products);
    add_quads(w, x, x_stride, 0, quads, products);
  } else {
    I upper[G][T];
    set_starts<B>(
        x, x_stride, [](const q8_activation& v) { return v.sums[0]; }, products);
    add_quads(w, x, x_stride, 0, quads / 2, products);
    set_starts<B>(
        x, x_stride, [](const q8_activation& v) { return v.sums[1]; }, upper);
    add_quads(w, x, x_stride, quads / 2, quads, upper);
#pragma GCC unroll 4
    for (size_t g = 0; g < G; ++g) {
      const I low = load(w[g].halves[0]), high = load(w[g].halves[1]);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) products[g][t] = add(multiply(products[g][t], low), multiply(upper[g][t], high));
    }
  }
}

/// Rows that are read after those at hand: asked of memory some lines at a time, evenly while these are multiplied, as
/// memory would rest in the meantime and products wait for it afterwards.
struct RowsAhead {
  const std::byte *at, *end;
  size_t lines;

  /// `times`: how often ask() is called; 0 where there is nothing to multiply.
  RowsAhead(const std::byte* first, size_t bytes, size_t times)
      : at(first), end(first + bytes), lines(times == 0 ? 0 : (bytes + 64 * times - 1) / (64 * times)) {}

  [[gnu::always_inline]] void ask() {
    if (at >= end) return;
    for (size_t i = 0; i < lines; ++i, at += 64) __builtin_prefetch(at, 0, 2);  // to the second level
  }
};

/// y[t][g * width ...] = w[g] . x[t] for G groups, whose parts lie side by side, and T vectors; the first `rows` of a
/// single group. x_stride: from one vector to the next, in parts.
template <size_t G, size_t T, Block B>
void packed_patch(const PackedPart<B>* w, const q8_activation* x, size_t x_stride, size_t n_parts, float* y,
                  size_t y_stride, size_t rows, RowsAhead& ahead) {
  F sums[G][T];
#pragma GCC unroll 4
  for (size_t g = 0; g < G; ++g) {
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) sums[g][t] = splat(0.0f);
  }
  for (size_t p = 0; p < n_parts; ++p, ++x, w += G) {
    ahead.ask();
    I products[G][T];
    packed_dots(w, x, x_stride, products);
#pragma GCC unroll 4
    for (size_t g = 0; g < G; ++g) {
      const F scales = load(w[g].scales);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) {
        const q8_activation& vector = x[t * x_stride];
        sums[g][t] = fma(to_floats(products[g][t]), scales * splat(vector.scale), sums[g][t]);
        if constexpr (mins < B >> 0)
          for (size_t m = 0; m < mins<B>; ++m)
            sums[g][t] = fma(load(w[g].mins[m]), min_factor<B>(vector, m), sums[g][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t g = 0; g < G; ++g) {
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) store_rows(y + t * y_stride + g * width, sums[g][t], rows);
  }
}

template <size_t G, size_t T, Block B>
void packed_patches(const PackedPart<B>* w, const q8_activation* x, size_t x_stride, size_t tokens, size_t n_parts,
                    float* y, size_t y_stride, size_t rows, RowsAhead& ahead) {
  size_t t = 0;
  for (; t + T <= tokens; t += T)
    packed_patch<G, T>(w, x + t * x_stride, x_stride, n_parts, y + t * y_stride, y_stride, rows, ahead);
  if constexpr (T > 1)
    packed_patches<G, T / 2>(w, x + t * x_stride, x_stride, tokens - t, n_parts, y + t * y_stride, y_stride, rows,
                             ahead);
}

/// The same for G groups, one below the other, as they are stored.
template <size_t G, Block B>
void multiply_groups(const Group<B>& first, size_t blocks, const q8_activation* x, size_t x_stride, size_t tokens,
                     float* y, size_t y_stride, size_t rows) {
  const size_t n_parts = blocks * parts<B>;
  auto* packed = static_cast<PackedPart<B>*>(static_cast<void*>(scratch(G * n_parts * sizeof(PackedPart<B>))));
  for (size_t g = 0; g < G; ++g) {
    const std::byte* const start = first.first + g * width * first.stride;
    for (size_t b = 0; b < blocks; ++b)
      pack(Group<B>{start + b * sizeof(B), first.stride}, packed + b * parts<B> * G + g, G);
  }
  const size_t bytes = G * width * first.stride;
  RowsAhead ahead(first.first + bytes, bytes, n_parts * ((tokens + patch_vectors - 1) / patch_vectors));
  packed_patches<G, patch_vectors>(packed, x, x_stride, tokens, n_parts, y, y_stride, rows, ahead);
}

template <Block B>
void matmul_blocks(const std::byte* w, size_t w_stride, size_t rows, const std::byte* x, size_t x_stride, size_t tokens,
                   size_t cols, float* y, size_t y_stride) {
  const size_t blocks = cols / BlockTraits<B>::values, stride = x_stride / sizeof(q8_activation);
  const auto* vectors = row_at<q8_activation>(x, 0);
  if (tokens == 1) {
    prefetch_first(w, rows * w_stride);
    return for_groups<B>(w, w_stride, rows, [&](const Group<B>& group, size_t first, size_t count) {
      store_rows(y + first, dots_of_group(group, vectors, blocks), count);
    });
  }

  size_t r = 0;
  if constexpr (patch_groups > 1)
    for (; r + patch_groups * width <= rows; r += patch_groups * width)
      multiply_groups<patch_groups>(Group<B>{w + r * w_stride, w_stride}, blocks, vectors, stride, tokens, y + r,
                                    y_stride, width);
  for_groups<B>(w + r * w_stride, w_stride, rows - r, [&](const Group<B>& group, size_t first, size_t count) {
    multiply_groups<1>(group, blocks, vectors, stride, tokens, y + r + first, y_stride, count);
  });
}

/// The inner product of the patches above alone, `rounds` times on what stays in the first-level cache: with as many
/// sums as it takes for none to wait for another.
size_t dot_rounds(size_t rounds) {
  constexpr size_t G = patch_groups, T = patch_vectors + 2;
  static const PackedPart<q8_0> parts[G] = {};
  static const q8_activation vectors[T] = {};
  I sums[G][T] = {};
  for (size_t i = 0; i < rounds; ++i) {
    // Where they lie is hidden, or products of the same zeros would be computed once.
    const PackedPart<q8_0>* w = parts;
    const q8_activation* x = vectors;
    asm volatile("" : "+r"(w), "+r"(x)::"memory");
    add_quads(w, x, 1, 0, part_values / 4, sums);
  }
  F sum = splat(0.0f);
#pragma GCC unroll 4
  for (size_t g = 0; g < G; ++g) {
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) sum = sum + to_floats(sums[g][t]);
  }
  alignas(64) float out[width];
  store(out, sum);
  asm volatile("" ::"m"(out));
  return rounds * part_values * width * G * T;
}

}  // namespace
}  // namespace pith::kernels
