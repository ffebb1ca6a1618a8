// SPDX-License-Identifier: MIT
// Many queries at once: products of matrices and turns of the online softmax. A few with rows in blocks, in integers;
// many in panels.
#include <algorithm>
#include <numbers>
#include <numeric>

#include "kernels/fixture.hpp"

namespace pith::kernels {
namespace {

class AttentionKernels : public Kernels {};

TEST_P(AttentionKernels, AddProductAddsAProductOfMatrices) {
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t rows = random_.below(50), depth = random_.below(70), cols = random_.below(70);
    const bool across = random_.below(2) == 0;  // a lies transposed
    const std::size_t a_row = across ? 1 : depth + random_.below(3), a_col = across ? rows + random_.below(3) : 1;
    const std::size_t b_stride = cols + random_.below(3), c_stride = cols + random_.below(3);
    const auto a = random_.floats((rows + 3) * (depth + 3)), b = random_.floats((depth + 1) * b_stride + 1);
    const auto start = random_.floats((rows + 1) * c_stride + 1);
    auto c = start;
    table().add_product(a.data(), a_row, a_col, b.data(), b_stride, rows, depth, cols, c.data(), c_stride);
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < cols; ++j) {
        double sum = static_cast<double>(start[i * c_stride + j]), magnitude = std::fabs(sum);
        for (std::size_t k = 0; k < depth; ++k) {
          const double product = static_cast<double>(a[i * a_row + k * a_col]) * b[k * b_stride + j];
          sum += product;
          magnitude += std::fabs(product);
        }
        ASSERT_NEAR(c[i * c_stride + j], sum, bound(magnitude, depth)) << rows << " x " << depth << " x " << cols;
      }
      for (std::size_t j = cols; j < c_stride; ++j) ASSERT_EQ(c[i * c_stride + j], start[i * c_stride + j]);
    }
    for (std::size_t i = rows * c_stride; i < c.size(); ++i) ASSERT_EQ(c[i], start[i]);
  }
}

TEST_P(AttentionKernels, AbsorbIsATurnOfASoftmax) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t rows = random_.below(40), queries = random_.below(50), stride = queries + random_.below(4);
    auto scores = random_.floats(rows * stride + 1, trial % 5 == 0 ? 60.0f : 2.0f);
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t j = 0; j < rows; ++j)
        if (random_.below(4) == 0 || q % 7 == 3) scores[j * stride + q] = -infinity;
    auto maximum = random_.floats(queries), weight = random_.floats(queries);
    for (std::size_t q = 0; q < queries; ++q) {
      weight[q] = std::fabs(weight[q]) + 1;
      if (q % 3 == 0) maximum[q] = -infinity, weight[q] = 0;  // nothing seen yet
    }
    const auto given = scores, before = maximum, sum = weight;
    std::vector<float> shrink(queries, -7);
    table().absorb(scores.data(), stride, rows, queries, maximum.data(), weight.data(), shrink.data());

    for (std::size_t q = 0; q < queries; ++q) {
      float largest = before[q];
      for (std::size_t j = 0; j < rows; ++j) largest = std::max(largest, given[j * stride + q]);
      ASSERT_EQ(maximum[q], largest);
      const bool nothing = largest == -infinity;
      const double factor = nothing ? 0 : std::exp(static_cast<double>(before[q] - largest));
      double expected = sum[q] * factor;
      ASSERT_NEAR(shrink[q], factor, 1e-6 * factor + 1e-30);
      for (std::size_t j = 0; j < rows; ++j) {
        const double e = nothing ? 0 : std::exp(static_cast<double>(given[j * stride + q] - largest));
        ASSERT_NEAR(scores[j * stride + q], e, 1e-6 * e + 1e-30);
        expected += e;
      }
      ASSERT_NEAR(weight[q], expected, 4e-6 * expected);
    }
    for (std::size_t j = 0; j < rows; ++j)
      for (std::size_t q = queries; q < stride; ++q) ASSERT_EQ(scores[j * stride + q], given[j * stride + q]);
  }
}

TEST_P(AttentionKernels, AbsorbRowsIsThatWithScoresSideBySide) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t rows = random_.below(tile_rows + 1), queries = random_.below(12);
    auto scores = random_.floats(queries * tile_rows + 1, trial % 5 == 0 ? 60.0f : 2.0f);
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t j = 0; j < rows; ++j)
        if (random_.below(4) == 0 || q % 7 == 3) scores[q * tile_rows + j] = -infinity;
    auto maximum = random_.floats(queries + 1), weight = random_.floats(queries + 1);
    for (std::size_t q = 0; q < queries; ++q) {
      weight[q] = std::fabs(weight[q]) + 1;
      if (q % 3 == 0) maximum[q] = -infinity, weight[q] = 0;  // nothing seen yet
    }
    std::vector<float> shrink(queries + 1, -7), across(queries * rows + 1);
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t j = 0; j < rows; ++j) across[j * queries + q] = scores[q * tile_rows + j];
    auto maximum_across = maximum, weight_across = weight, shrink_across = shrink;
    const float after = scores.back();

    table().absorb_rows(scores.data(), rows, queries, maximum.data(), weight.data(), shrink.data());
    plain().absorb(across.data(), queries, rows, queries, maximum_across.data(), weight_across.data(),
                   shrink_across.data());
    ASSERT_EQ(maximum, maximum_across);
    ASSERT_EQ(scores.back(), after);
    for (std::size_t q = 0; q <= queries; ++q) {
      ASSERT_NEAR(shrink[q], shrink_across[q], 1e-6f * std::fabs(shrink_across[q]) + 1e-30f);
      ASSERT_NEAR(weight[q], weight_across[q], 4e-6f * std::fabs(weight_across[q]));
    }
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t j = 0; j < tile_rows; ++j) {
        const float expected = j < rows ? across[j * queries + q] : 0.0f;
        ASSERT_NEAR(scores[q * tile_rows + j], expected, 1e-6f * expected + 1e-30f) << rows << " rows";
      }
  }
}

/// Rows in blocks with queries and weights, as a trial wants them.
template <class Square>
struct Rows {
  static constexpr int least = -Square::middle, most = Square::middle - 1;  // quants
  std::size_t n_queries, n_rows, dim;
  struct Block {
    f16 scale;
    std::int8_t quants[32];
  };
  std::vector<Block> blocks;            // [row][dim / 32]
  std::vector<float> queries, weights;  // [query][dim], [query][row]

  Rows(Random& random, int kind, std::size_t queries_, std::size_t rows, std::size_t dim_)
      : n_queries(queries_),
        n_rows(rows),
        dim(dim_),
        blocks(rows * dim / 32),
        queries(random.floats(n_queries * dim)),
        weights(random.floats(n_queries * rows)) {
    for (Block& block : blocks) {
      block.scale = to_f16(std::ldexp(random.below(2) == 0 ? 1.0f : -1.0f, static_cast<int>(random.below(12)) - 8));
      for (std::int8_t& quant : block.quants)
        quant = static_cast<std::int8_t>(
            kind == 1 ? (random.below(2) == 0 ? least : most)
                      : static_cast<int>(random.below(static_cast<std::size_t>(most - least + 1))) + least);
      if (kind == 2 && random.below(3) == 0) block.scale = to_f16(0);
    }
    for (float& weight : weights) weight = std::fabs(weight);
    if (kind == 3)
      for (std::size_t q = 0; q < n_queries; ++q) weights[q * rows + random.below(rows)] = 1e6f;
    if (kind == 4) {
      for (float& query : queries) query = random.below(2) == 0 ? 1.0f : -1.0f;
      for (float& weight : weights) weight = random.below(2) == 0 ? 0.0f : 1e-39f;  // no normal number
    }
    if (kind == 5)
      for (float& weight : weights) weight = -weight;
  }
  const Block& block(std::size_t row, std::size_t i) const { return blocks[(row * dim + i) / 32]; }
  double value(std::size_t row, std::size_t i) const {
    return static_cast<double>(to_float(block(row, i).scale)) * block(row, i).quants[i % 32];
  }

  /// Rows [first, first + count) as a tile; where it has no rows, it holds what is no number.
  Bytes tile(Side side, std::size_t first, std::size_t count) const {
    std::vector<Square> squares(dim / 32);
    std::memset(static_cast<void*>(squares.data()), 0xff, squares.size() * sizeof(Square));
    for (std::size_t r = 0; r < count; ++r)
      for (std::size_t i = 0; i < dim; ++i) {
        Square& square = squares[i / 32];
        const std::size_t c = i % 32;
        square.scales[r] = block(first + r, i).scale;
        const int raw = block(first + r, i).quants[c] + Square::middle;
        side == Side::keys ? square.set_raw(c, r, raw) : square.set_raw(r, c, raw);
      }
    Bytes bytes(squares.size() * sizeof(Square));
    std::memcpy(bytes.data(), squares.data(), bytes.size());
    return bytes;
  }
  Bytes tile(Side side) const { return tile(side, 0, n_rows); }
};

/// Calls f.template operator()<Square>(format) for every format in squares.
template <class F>
void for_each_square(F&& f) {
  f.template operator()<q8_0_square>(Format::q8_0);
  f.template operator()<q4_0_square>(Format::q4_0);
}

constexpr double half_step = 0.501 / (127 * 256);  // of the largest in a block

template <class Square, class Function>
void for_some_rows(Random& random, Function f) {
  for (int kind = 0; kind < 6; ++kind)
    for (const std::size_t dim : {32u, 64u, 96u, 128u, 160u})
      for (std::size_t n_queries = 1; n_queries < 12; ++n_queries) {
        for (std::size_t n_rows = 1 + random.below(4); n_rows < tile_rows; n_rows += 1 + random.below(14))
          f(Rows<Square>(random, kind, n_queries, n_rows, dim));
        f(Rows<Square>(random, kind, n_queries, tile_rows, dim));
      }
}

TEST_P(AttentionKernels, DotsWithBlocksAreOfQueriesInSixteenBits) {
  for_each_square([&]<class Square>(Format format) {
    for_some_rows<Square>(random_, [&](const Rows<Square>& rows) {
      const FormatKernels& of = kernels(format);
      const Bytes tile = rows.tile(Side::keys);
      std::vector<Bytes> singles;  // tiles of one row
      for (std::size_t j = 0; j < rows.n_rows; ++j) singles.push_back(rows.tile(Side::keys, j, 1));
      auto queries = rows.queries;
      if (of.prepare != nullptr) of.prepare(queries.data(), rows.n_queries, rows.dim, rows.dim);
      const std::size_t score_stride = rows.n_rows + 3;
      std::vector<float> scores(rows.n_queries * score_stride, -7);
      of.dots(queries.data(), rows.n_queries, rows.dim, tile.data(), rows.n_rows, rows.dim, scores.data(), score_stride,
              tile.data());
      for (std::size_t q = 0; q < rows.n_queries; ++q) {
        const float* const query = &rows.queries[q * rows.dim];
        for (std::size_t j = 0; j < rows.n_rows; ++j) {
          double sum = 0, magnitude = 0, rounding = 0;
          for (std::size_t b = 0; b < rows.dim; b += 32) {
            double largest = 0, values = 0;
            for (std::size_t i = b; i < b + 32; ++i) {
              const double value = rows.value(j, i);
              sum += query[i] * value;
              magnitude += std::fabs(query[i] * value);
              largest = std::fmax(largest, std::fabs(static_cast<double>(query[i])));
              values += std::fabs(value);
            }
            rounding += half_step * largest * values;
          }
          ASSERT_NEAR(scores[q * score_stride + j], sum, rounding + bound(magnitude, rows.dim)) << "dim " << rows.dim;
          float alone = 0;
          of.dots(&queries[q * rows.dim], 1, rows.dim, singles[j].data(), 1, rows.dim, &alone, 1, nullptr);
          ASSERT_EQ(scores[q * score_stride + j], alone) << "dim " << rows.dim;
        }
        for (std::size_t i = rows.n_rows; i < score_stride; ++i) ASSERT_EQ(scores[q * score_stride + i], -7);
      }
    });
  });
}

TEST_P(AttentionKernels, BlocksAreWeighedInSixteenBits) {
  for_each_square([&]<class Square>(Format format) {
    for_some_rows<Square>(random_, [&](const Rows<Square>& rows) {
      const Bytes tile = rows.tile(Side::values);
      const std::size_t out_stride = rows.dim + 3;
      const auto start = random_.floats(rows.n_queries * out_stride, 1e-3f);
      auto out = start;
      const auto add = [&](std::size_t q, std::size_t n_queries, std::vector<float>& to) {
        kernels(format).accumulate(&rows.weights[q * rows.n_rows], n_queries, rows.n_rows, tile.data(), rows.n_rows,
                                   rows.dim, to.data() + q * out_stride, out_stride, tile.data());
      };
      add(0, rows.n_queries, out);
      auto alone = start;
      for (std::size_t q = 0; q < rows.n_queries; ++q) add(q, 1, alone);
      ASSERT_EQ(out, alone);
      for (std::size_t q = 0; q < rows.n_queries; ++q) {
        const float* const weights = &rows.weights[q * rows.n_rows];
        for (std::size_t i = 0; i < rows.dim; ++i) {
          double sum = static_cast<double>(start[q * out_stride + i]), magnitude = std::fabs(sum);
          double largest = 0, quants = 0;
          for (std::size_t j = 0; j < rows.n_rows; ++j) {
            sum += weights[j] * rows.value(j, i);
            magnitude += std::fabs(weights[j] * rows.value(j, i));
            largest = std::fmax(largest, std::fabs(static_cast<double>(weights[j] * to_float(rows.block(j, i).scale))));
            quants += std::abs(rows.block(j, i).quants[i % 32]);
          }
          ASSERT_NEAR(out[q * out_stride + i], sum,
                      (half_step * largest + 1e-30) * quants + bound(magnitude, rows.n_rows))
              << "dim " << rows.dim;
        }
        for (std::size_t i = rows.dim; i < out_stride; ++i)
          ASSERT_EQ(out[q * out_stride + i], start[q * out_stride + i]);
      }
    });
  });
}

/// No claim but that nothing is written beside its place.
TEST_P(AttentionKernels, BlocksAndNumbersThatAreNone) {
  for_each_square([&]<class Square>(Format format) {
    const Rows<Square> rows(random_, 0, 3, 7, 64);
    const Bytes keys = rows.tile(Side::keys), values = rows.tile(Side::values);
    for (const float strange : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()}) {
      auto queries = rows.queries, weights = rows.weights;
      queries[70] = weights[9] = strange;
      const FormatKernels& of = kernels(format);
      if (of.prepare != nullptr) of.prepare(queries.data(), 3, 64, 64);
      std::vector<float> scores(3 * 7 + 1, -7), out(3 * 64 + 1, -7);
      of.dots(queries.data(), 3, 64, keys.data(), 7, 64, scores.data(), 7, nullptr);
      of.accumulate(weights.data(), 3, 7, values.data(), 7, 64, out.data(), 64, nullptr);
      ASSERT_EQ(scores.back(), -7);
      ASSERT_EQ(out.back(), -7);
    }
  });
}

/// Rows that a tile of any format of the cache holds, as numbers, and as panels.
struct Tile {
  KvFormat format;
  std::size_t n_rows, dim;
  std::vector<float> numbers;  // [row][dim], as stored: spread, where keys are
  Bytes bytes;

  Tile(Random& random, KvFormat format_, Side side, std::size_t rows, std::size_t dim_, float spread)
      : format(format_), n_rows(rows), dim(dim_), numbers(rows * dim), bytes(tile_bytes(format, dim)) {
    std::memset(bytes.data(), 0xff, bytes.size());  // where there are no rows is what is no number
    for (std::size_t j = 0; j < rows; ++j) {
      auto row = random.floats(dim, std::exp(spread * random.floats(1).front()));
      if (j == 3) std::ranges::fill(row, 0.0f);
      if (j == 5) row[dim / 2] = 300;
      store_row(format, side, row.data(), dim, bytes.data(), j);
      load_row(format, side, dim, bytes.data(), j, &numbers[j * dim]);
      if (side == Side::keys && spreads_keys(format)) ops::hadamard(&numbers[j * dim], dim);
    }
  }
  double number(std::size_t row, std::size_t i) const { return static_cast<double>(numbers[row * dim + i]); }
};

std::vector<double> lengths_of(const std::vector<float>& rows, std::size_t dim) {
  std::vector<double> lengths;
  for (std::size_t j = 0; j < rows.size() / dim; ++j)
    lengths.push_back(std::sqrt(std::inner_product(rows.begin() + static_cast<std::ptrdiff_t>(j * dim),
                                                   rows.begin() + static_cast<std::ptrdiff_t>((j + 1) * dim),
                                                   rows.begin() + static_cast<std::ptrdiff_t>(j * dim), 0.0)));
  return lengths;
}

template <class Function>
void for_some_tiles(Random& random, Side side, Function f) {
  for (const KvFormat format : kv_formats)
    for (const std::size_t dim : {1u, 6u, 16u, 20u, 32u, 64u, 96u, 160u, 256u})
      if (dim % static_cast<std::size_t>(block_values(format)) == 0)
        for (const std::size_t rows : {std::size_t{1}, 2 + random.below(tile_rows - 2), tile_rows})
          f(Tile(random, format, side, rows, dim, rows % 2 == 0 ? 3.0f : 0.3f));
}

TEST_P(AttentionKernels, ProductsOfPanelsAreThoseOfRows) {
  for_some_tiles(random_, Side::keys, [&](const Tile& tile) {
    const std::size_t n_queries = 1 + random_.below(tile_rows);
    const auto queries = random_.floats(n_queries * tile.dim, 2);
    static KeyPanel keys, panel;
    kernels(storage(tile.format)).key_panel(tile.bytes.data(), tile.n_rows, tile.dim, keys, tile.bytes.data());
    kernels(Format::f32)
        .key_panel(reinterpret_cast<const std::byte*>(queries.data()), n_queries, tile.dim, panel, nullptr);
    std::vector<float> scores(tile_rows * tile_rows + 1, -7);
    table().multiply_panels(keys, panel, tile.dim, scores.data());
    const auto of_queries = lengths_of(queries, tile.dim), of_keys = lengths_of(tile.numbers, tile.dim);
    const double whole = std::sqrt(static_cast<double>(tile.dim)) / 2 * (2.1 / 32767);
    for (std::size_t j = 0; j < tile_rows; ++j)
      for (std::size_t q = 0; q < tile_rows; ++q) {
        double sum = 0;
        for (std::size_t i = 0; i < tile.dim && j < tile.n_rows && q < n_queries; ++i)
          sum += queries[q * tile.dim + i] * tile.number(j, i);
        const double length = j < tile.n_rows && q < n_queries ? of_queries[q] * of_keys[j] : 0;
        ASSERT_NEAR(scores[j * tile_rows + q], sum, length * (whole + 1e-6))
            << name(tile.format) << ", " << tile.n_rows << " rows of " << tile.dim;
      }
    ASSERT_EQ(scores.back(), -7);
  });
}

TEST_P(AttentionKernels, LongestKeysAndQueriesFitTheirProducts) {
  for (const std::size_t dim : {2u, 64u, 255u, 256u})
    for (const float sign : {1.0f, -1.0f}) {
      std::vector<float> keys(tile_rows * dim, 3.0f), queries(tile_rows * dim, sign * 5.0f);
      static KeyPanel key_panel, query_panel;
      const FormatKernels& of = kernels(Format::f32);
      of.key_panel(reinterpret_cast<const std::byte*>(keys.data()), tile_rows, dim, key_panel, nullptr);
      of.key_panel(reinterpret_cast<const std::byte*>(queries.data()), tile_rows, dim, query_panel, nullptr);
      std::vector<float> scores(tile_rows * tile_rows);
      table().multiply_panels(key_panel, query_panel, dim, scores.data());
      const float expected = sign * 15.0f * static_cast<float>(dim);
      for (const float score : scores) ASSERT_NEAR(score, expected, std::fabs(expected) * 4e-4);
    }
}

/// Three pages in turn, against a softmax in double precision; and no query depends on those beside it.
TEST_P(AttentionKernels, PanelsAreAbsorbedAndWeighed) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for_some_tiles(random_, Side::values, [&](const Tile& first) {
    std::vector<Tile> tiles = {first};
    for (int i = 0; i < 2; ++i)
      tiles.emplace_back(random_, first.format, Side::values, 1 + random_.below(tile_rows), first.dim, 1.0f);
    const std::size_t dim = first.dim;
    alignas(64) float maximum[tile_rows], weight[tile_rows];
    std::ranges::fill(maximum, -infinity);
    std::ranges::fill(weight, 0.0f);
    std::vector<float> sums(dim * tile_rows + 1, 0);
    std::vector<double> most(tile_rows, -infinity), total(tile_rows), expected(dim * tile_rows), error(tile_rows);
    std::vector<std::vector<float>> all_scores;
    for (const Tile& tile : tiles) {
      auto scores = random_.floats(tile_rows * tile_rows, 4);
      for (std::size_t j = 0; j < tile_rows; ++j)
        for (std::size_t q = 0; q < tile_rows; ++q)
          if (j >= tile.n_rows || (q != 1 && random_.below(4) == 0) || (q % 7 == 2 && &tile == &tiles[0]))
            scores[j * tile_rows + q] = -infinity;
      all_scores.push_back(scores);
      static ValuePanel values;
      static WeightPanel weights;
      kernels(storage(tile.format)).value_panel(tile.bytes.data(), tile.n_rows, dim, values, tile.bytes.data());
      table().absorb_panel(scores.data(), values, maximum, weight, weights);
      table().weigh_panel(weights, values, dim, sums.data());
    }
    ASSERT_EQ(sums.back(), 0);
    for (std::size_t q = 0; q < tile_rows; ++q) {
      for (std::size_t t = 0; t < tiles.size(); ++t)
        for (std::size_t j = 0; j < tiles[t].n_rows; ++j)
          most[q] = std::fmax(most[q], static_cast<double>(all_scores[t][j * tile_rows + q]));
      if (most[q] == -infinity) continue;
      for (std::size_t t = 0; t < tiles.size(); ++t)
        for (std::size_t j = 0; j < tiles[t].n_rows; ++j) {
          const double e = std::exp(all_scores[t][j * tile_rows + q] - most[q]);
          double largest = 0;
          for (std::size_t i = 0; i < dim; ++i) {
            expected[i * tile_rows + q] += e * tiles[t].number(j, i);
            largest = std::fmax(largest, std::fabs(tiles[t].number(j, i)));
          }
          total[q] += e;
          error[q] += e * largest;  // that each number of the sum is off by some 2^-11 of, at the very most
        }
      ASSERT_NEAR(weight[q] * std::exp2(maximum[q] - most[q] * std::numbers::log2e), total[q], 1e-5 * total[q]);
      for (std::size_t i = 0; i < dim; ++i)
        ASSERT_NEAR(sums[i * tile_rows + q] / weight[q], expected[i * tile_rows + q] / total[q],
                    2e-3 * error[q] / total[q])
            << name(first.format) << ", dim " << dim;
    }
    // Query 9 in every place.
    alignas(64) float same_maximum[tile_rows], same_weight[tile_rows];
    std::ranges::fill(same_maximum, -infinity);
    std::ranges::fill(same_weight, 0.0f);
    std::vector<float> same(dim * tile_rows, 0);
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      auto scores = all_scores[t];
      for (std::size_t j = 0; j < tile_rows; ++j)
        std::fill_n(&scores[j * tile_rows], tile_rows, all_scores[t][j * tile_rows + 9]);
      static ValuePanel values;
      static WeightPanel weights;
      kernels(storage(tiles[t].format)).value_panel(tiles[t].bytes.data(), tiles[t].n_rows, dim, values, nullptr);
      table().absorb_panel(scores.data(), values, same_maximum, same_weight, weights);
      table().weigh_panel(weights, values, dim, same.data());
    }
    for (std::size_t q = 0; q < tile_rows; ++q) {
      ASSERT_EQ(same_weight[q], weight[9]);
      for (std::size_t i = 0; i < dim; ++i) ASSERT_EQ(same[i * tile_rows + q], sums[i * tile_rows + 9]);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Isa, AttentionKernels, testing::ValuesIn(all_tables()), isa_name);

}  // namespace
}  // namespace pith::kernels
