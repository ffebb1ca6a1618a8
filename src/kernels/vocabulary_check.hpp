// SPDX-License-Identifier: MIT
// Does the vocabulary at hand have every word of vocabulary.hpp? Included inside a target region, after its words.
#pragma once

namespace pith::kernels {
namespace {

/// The vocabulary's types. As template arguments themselves they would lose their attributes, and g++ warns of it.
struct Vocabulary {
  using F = kernels::F;
  using I = kernels::I;
  using Bytes = kernels::Bytes;
  using Quad = kernels::Quad;
  using Four = kernels::I[4];
  using ThirtyTwo = kernels::I[32 / width];
};

/// T, but not before W is known: then words are looked for, and a lack is a constraint that is named.
template <class T, class W>
struct Late {
  using type = T;
};
template <class T, class W>
using late = typename Late<T, W>::type;

template <class W>
concept HasNumbers = requires(typename W::F v, typename W::I integers, late<float, W> x, late<f16, W> half,
                              late<float*, W> floats, late<f16*, W> halves, late<bf16*, W> brains,
                              late<std::int8_t*, W> bytes) {
  store(floats, v + v * v / v - v);
  store(floats, splat(x));
  store(floats, splat(half));
  store(floats, load(floats));
  store(halves, load(halves));
  store(brains, load(brains));
  store_rounded(bytes, load(bytes));
  store(floats, fma(v, v, v));
  store(floats, max(v, min(v, v)));
  store(floats, copy_sign(abs(v), v));
  store(floats, times_power_of_2(v, round(v)));
  store(floats, times_normal_power_of_2(v, round(v)));
  store(floats, to_floats(integers));
};

template <class W>
concept HasSums = requires(typename W::F v, late<float*, W> floats) {
  floats[0] = sum(v);
  floats[0] = largest(v);
  store_sums(floats, v, v, v, v);
  store_largest(floats, v, v, v, v);
  store(floats, swapped<1>(v));
  store(floats, swapped<2>(v));
};

template <class W>
concept HasBlocks = requires(typename W::F v, typename W::I i, typename W::Bytes b, late<const std::byte*, W> rows,
                             late<const std::int8_t*, W> x, late<std::int8_t*, W> quads,
                             late<std::int32_t*, W> integers, late<std::size_t, W> n, late<int, W> right,
                             late<std::int32_t, W> word, typename W::Four& words) {
  v = lower_halves(i);
  b = joined(load_lanes(rows, n), splat_lanes(x));
  b = moved_bits(b, right, right);
  b = with_bits(b, b, n, right);
  b = looked_up(b, b);
  transpose_4(b, b, b, b, words);
  i = sums_of_4(i, i, i, i);
  store(integers, add(load(integers), multiply(i, splat(word))));
  i = signed_byte(i, n);
  i = bits(i, n, word);
  store(quads, i);
  b = joined(load_quads(x), splat_quad(x));
};

template <class W, Range range>
concept HasDots = requires(typename W::I sums, typename W::Bytes b) {
  sums = dots_of_4<range>(as_multiplied<range>(b), b);
  sums = dots_of_4<range>(b, b, b, b);
  sums = add_dot4<range>(sums, b, b);
  raised<range>;
};

template <class W>
concept HasSquares = requires(typename W::F v, typename W::I i, late<float, W> x, late<const std::uint8_t*, W> quants,
                              late<const std::int8_t*, W> bytes, typename W::Quad* quads,
                              const typename W::ThirtyTwo& numbers) {
  store_quads(quads, numbers);
  i = rounded(v);
  integer(x);
  i = add_first(i, load_quants(quants), splat(*quads));
  i = add_first(i, load_nibbles<true>(quants), splat(*quads));
  i = total(i, add_second(i, load_quants(quants), splat(*quads)));
  sum_of_16(bytes);
};

template <class W>
concept HasPanels = requires(typename W::I i, late<std::int32_t*, W> integers) {
  store(integers, add_pair_products(i, pairs(i, i), i));
};

static_assert(width >= 4 && tile_rows % panel_height == 0 && tile_rows % (panel_vectors * width) == 0 &&
              tile_rows % (strip * width) == 0 && patch_tokens > 0 && patch_vectors > 0 && patch_groups > 0 &&
              outer_height > 0 && outer_vectors > 0 && square_queries > 0 && square_unroll > 0);
static_assert(HasNumbers<Vocabulary>);
static_assert(HasSums<Vocabulary>);
static_assert(HasBlocks<Vocabulary>);
static_assert(HasDots<Vocabulary, Range::six_bits> && HasDots<Vocabulary, Range::signed_bytes>);
static_assert(HasSquares<Vocabulary>);
static_assert(HasPanels<Vocabulary>);

}  // namespace
}  // namespace pith::kernels
