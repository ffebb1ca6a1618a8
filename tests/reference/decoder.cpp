// SPDX-License-Identifier: MIT
#include "decoder.hpp"

#define EIGEN_DONT_PARALLELIZE  // the library's threads are enough
#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string_view>

namespace pith::reference {

void Visibility::reads(int /*layer*/, const Rows& /*inputs*/) {}
void Visibility::decides(int /*layer*/, const Rows& /*logits*/) {}
void Visibility::attended(int /*layer*/, int /*n*/, const Rows& /*weights*/) {}

namespace {

using Eigen::Index;
using Mat = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vec = Eigen::RowVectorXd;

constexpr int never_dropped = std::numeric_limits<int>::max();

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Vec to_vec(const std::vector<float>& values) {
  return Eigen::Map<const Eigen::RowVectorXf>(values.data(), static_cast<Index>(values.size())).cast<double>();
}

Vec row(const Matrix& m, std::size_t index) {
  std::vector<float> out(m.cols());
  m.row(index, out);
  return to_vec(out);
}

Mat decode(const Matrix& m) {
  Mat out(static_cast<Index>(m.rows()), static_cast<Index>(m.cols()));
  for (std::size_t r = 0; r < m.rows(); ++r) out.row(static_cast<Index>(r)) = row(m, r);
  return out;
}

/// The rows of x as blocks of type B would hold them.
template <class B>
Mat rounded(const Mat& x) {
  constexpr int values = BlockTraits<B>::values;
  Mat out(x.rows(), x.cols());
  for (Index r = 0; r < x.rows(); ++r) {
    for (Index c = 0; c < x.cols(); c += values) {
      float in[std::size_t{values}], back[std::size_t{values}];
      for (int i = 0; i < values; ++i) in[i] = static_cast<float>(x(r, c + i));
      B block;
      BlockTraits<B>::encode(in, block);
      BlockTraits<B>::decode(block, back);
      for (int i = 0; i < values; ++i) out(r, c + i) = static_cast<double>(back[i]);
    }
  }
  return out;
}

/// x as cached in `format`: float is not rounded, so that the only error of an f32 cache is the library's own.
Mat cached(KvFormat format, const Mat& x) {
  return visit(format, [&]<Block B>() -> Mat {
    if constexpr (std::is_same_v<B, float>) return x;
    return rounded<B>(x);
  });
}

/// The Walsh-Hadamard matrix over its norm, by its definition; where n is no power of two, those of the powers that it
/// is the sum of, along the diagonal.
Mat hadamard(Index n) {
  Mat out = Mat::Zero(n, n);
  for (Index begin = 0; begin < n;) {
    const auto size = static_cast<Index>(std::bit_floor(static_cast<std::uint64_t>(n - begin)));
    for (Index i = 0; i < size; ++i)
      for (Index j = 0; j < size; ++j)
        out(begin + i, begin + j) =
            (std::popcount(static_cast<std::uint64_t>(i & j)) % 2 == 0 ? 1 : -1) / std::sqrt(static_cast<double>(size));
    begin += size;
  }
  return out;
}

/// Keys of one head.
Mat cached_keys(KvFormat format, const Mat& k) {
  if (!spreads_keys(format)) return cached(format, k);
  const Mat spread = hadamard(k.cols());
  return cached(format, k * spread) * spread;
}

/// y = x W^T; a format whose Activation is not float is multiplied with rounded rows by definition.
Mat multiply(const Mat& x, const Matrix& w) {
  return visit(w.format(), [&]<Block B>() -> Mat {
    using A = typename BlockTraits<B>::Activation;
    if constexpr (std::is_same_v<A, float>) return x * decode(w).transpose();
    return rounded<A>(x) * decode(w).transpose();
  });
}

Mat linear(const Mat& x, const Linear& w) {
  Mat y = multiply(x, w.weight);
  if (!w.bias.empty()) y.rowwise() += to_vec(w.bias);
  return y;
}

Vec norm(Norm kind, const Vec& x, const NormWeights& w, double eps) {
  const auto n = static_cast<double>(x.size());
  const Vec weight = to_vec(w.weight);
  if (kind == Norm::layer) {
    const Vec centred = x.array() - x.mean();
    return (centred / std::sqrt(centred.squaredNorm() / n + eps)).cwiseProduct(weight) + to_vec(w.bias);
  }
  const Vec unit = x / std::sqrt(x.squaredNorm() / n + eps);
  return kind == Norm::rms_plus_one ? Vec(unit + unit.cwiseProduct(weight)) : Vec(unit.cwiseProduct(weight));
}

Mat norm_rows(Norm kind, const Mat& x, const NormWeights& w, double eps) {
  Mat out(x.rows(), x.cols());
  for (Index t = 0; t < x.rows(); ++t) out.row(t) = norm(kind, x.row(t), w, eps);
  return out;
}

/// Each head for itself, or all of them together.
void norm_heads(Mat& x, const NormWeights& w, const Config& config, const LayerPlan& plan) {
  if (plan.qk_norm == QkNorm::none) return;
  const Index width = plan.qk_norm == QkNorm::head ? config.head_dim : x.cols();
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); c += width)
      x.row(t).segment(c, width) = norm(plan.norm, x.row(t).segment(c, width), w, static_cast<double>(config.norm_eps));
}

/// Pair i of a head's first numbers turns by the angle position * theta^(-2i/dim) / divisors[i], and grows by
/// magnitude.
void rotate(Mat& x, const Config& config, const RopeConfig& rope) {
  const int dim = rope.dim > 0 ? rope.dim : config.head_dim;
  const bool stretched = !rope.long_divisors.empty() && config.context > rope.original_context;
  const std::vector<float>& divisors = stretched ? rope.long_divisors : rope.divisors;
  const auto magnitude = static_cast<double>(rope.magnitude);
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index head = 0; head < x.cols(); head += config.head_dim) {
      for (int i = 0; i < dim / 2; ++i) {
        const bool halves = config.rope_pairs == RopePairs::halves;
        const Index a = head + (halves ? i : 2 * i);
        const Index b = head + (halves ? i + dim / 2 : 2 * i + 1);
        double frequency = std::pow(static_cast<double>(rope.theta), -2.0 * i / dim);
        if (!divisors.empty()) frequency /= static_cast<double>(divisors[at(i)]);
        const double angle = static_cast<double>(t) * frequency;
        const double xa = x(t, a), xb = x(t, b);
        x(t, a) = magnitude * (xa * std::cos(angle) - xb * std::sin(angle));
        x(t, b) = magnitude * (xb * std::cos(angle) + xa * std::sin(angle));
      }
    }
  }
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      break;
  }
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

Mat mlp(const Mat& x, const MlpWeights& w, const LayerPlan& plan) {
  const auto act = [&](double v) { return activate(plan.activation, v); };
  const Mat up = linear(x, w.up);
  if (plan.mlp == Mlp::plain) return linear(up.unaryExpr(act), w.down);
  return linear(linear(x, w.gate).unaryExpr(act).cwiseProduct(up), w.down);
}

/// Every token through the experts that its router finds most probable. `margin` becomes the smallest difference
/// between the logits of an expert that was chosen and one that was not, if that is smaller.
Mat mixture(const Mat& x, const LayerWeights& w, const LayerPlan& plan, double& margin) {
  Mat out = Mat::Zero(x.rows(), x.cols());
  const Mat logits = multiply(x, w.router);
  for (Index t = 0; t < x.rows(); ++t) {
    const Vec weights = (logits.row(t).array() - logits.row(t).maxCoeff()).exp();
    std::vector<int> order;
    for (int e = 0; e < plan.experts.count; ++e) order.push_back(e);
    std::ranges::stable_sort(order, [&](int a, int b) { return logits(t, a) > logits(t, b); });
    const auto chosen = at(plan.experts.chosen);
    if (chosen < order.size()) margin = std::min(margin, logits(t, order[chosen - 1]) - logits(t, order[chosen]));
    double sum = plan.experts.renormalised ? 0 : weights.sum();
    for (std::size_t i = 0; i < chosen && plan.experts.renormalised; ++i) sum += weights(order[i]);
    for (std::size_t i = 0; i < chosen; ++i)
      out.row(t) += weights(order[i]) / sum * mlp(x.row(t), w.experts[at(order[i])], plan);
  }
  return out;
}

struct Judgement {
  std::vector<int> drop;  // [token] first query that no longer sees it
  double min_margin = std::numeric_limits<double>::infinity();
};

/// By gate `number` of the layer's.
Judgement judge(const Mat& x, const DropGateWeights& w, const DropGateConfig& gate, int number, double tau) {
  const Mat q = multiply(x, w.wq).middleCols(number * gate.dim, gate.dim);
  const Mat k = multiply(x, w.wk).middleCols(number * gate.dim, gate.dim);
  const Mat s =
      (q * k.transpose() / std::sqrt(static_cast<double>(gate.dim))).array() + static_cast<double>(w.bias[at(number)]);
  const double cut = static_cast<double>(gate.threshold) + tau;
  const int tokens = static_cast<int>(x.rows());
  Judgement out{std::vector<int>(at(tokens), never_dropped)};
  for (int j = gate.sinks; j < tokens; ++j) {
    for (int n = j + gate.recent; n < tokens && out.drop[at(j)] == never_dropped; ++n) {
      out.min_margin = std::min(out.min_margin, std::abs(s(n, j) - cut));
      if (s(n, j) - cut <= 0.0) out.drop[at(j)] = n;
    }
  }
  return out;
}

/// Softmax over the tokens that are seen, query by query.
class Attention {
 public:
  Attention(const Config& config, const Options& options, Result& result)
      : config_(config), options_(options), result_(result) {}

  /// q, k, v: [tokens, heads * head_dim], rotated; judged: of each gate of the layer.
  Mat operator()(int layer, const Mat& q, const Mat& k, const Mat& v, const std::vector<Judgement>& judged) {
    const int tokens = static_cast<int>(q.rows());
    const int dim = config_.head_dim, group = config_.group(), window = config_.layers[at(layer)].window;
    const auto given = static_cast<double>(config_.layers[at(layer)].query_scale);
    const double scale = given != 0 ? given : 1 / std::sqrt(static_cast<double>(dim));
    auto& drop_at = result_.drop_at[at(layer)];
    drop_at.assign(at(config_.n_kv_heads), std::vector<int>(at(tokens), -1));

    std::vector<Mat> scores;
    for (int h = 0; h < config_.n_heads; ++h)
      scores.emplace_back(q.middleCols(h * dim, dim) *
                          cached_keys(options_.kv.keys, k.middleCols(h / group * dim, dim)).transpose() * scale);

    if (const auto cap = static_cast<double>(config_.layers[at(layer)].score_cap); cap > 0)
      for (Mat& head : scores) head = head.unaryExpr([&](double score) { return cap * std::tanh(score / cap); });

    Rows weights(at(config_.n_heads));
    for (int n = 0; n < tokens; ++n) {
      for (auto& head : weights) head.assign(at(n + 1), 0.0);
      for (int kv_head = 0; kv_head < config_.n_kv_heads; ++kv_head) {
        std::vector<int> seen;
        for (int j = 0; j <= n; ++j) {
          bool sees = window == 0 || n < j + window;
          if (!judged.empty()) sees = sees && n < judged[at(judged.size() == 1 ? 0 : kv_head)].drop[at(j)];
          if (options_.visibility != nullptr) sees = sees && options_.visibility->sees(layer, kv_head, n, j);
          if (sees) seen.push_back(j);
          int& drop = drop_at[at(kv_head)][at(j)];
          if (!sees && drop < 0) drop = n;
        }
        seen_ += static_cast<double>(seen.size());
        before_ += n + 1;
        for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) softmax(scores[at(h)], n, seen, weights[at(h)]);
      }
      for (int h = 0; h < config_.n_heads; ++h) {
        scores[at(h)].row(n).setZero();
        for (int j = 0; j <= n; ++j) scores[at(h)](n, j) = weights[at(h)][at(j)];
      }
      if (options_.visibility != nullptr) options_.visibility->attended(layer, n, weights);
    }

    Mat out(tokens, config_.d_query());
    for (int h = 0; h < config_.n_heads; ++h)
      out.middleCols(h * dim, dim) = scores[at(h)] * cached(options_.kv.values, v.middleCols(h / group * dim, dim));
    result_.mean_kept = seen_ / before_;
    return out;
  }

 private:
  static void softmax(const Mat& scores, int n, const std::vector<int>& seen, std::vector<double>& weights) {
    double largest = -std::numeric_limits<double>::infinity();
    for (const int j : seen) largest = std::max(largest, scores(n, j));
    double sum = 0;
    for (const int j : seen) sum += weights[at(j)] = std::exp(scores(n, j) - largest);
    for (const int j : seen) weights[at(j)] /= sum;
  }

  const Config& config_;
  const Options& options_;
  Result& result_;
  double seen_ = 0, before_ = 0;
};

/// The last channel of each kv-head's first query head, which is 0 from then on.
Mat take_decisions(const Config& config, Mat& q) {
  Mat out(q.rows(), config.n_kv_heads);
  for (int head = 0; head < config.n_kv_heads; ++head) {
    auto channel = q.col((head * config.group() + 1) * config.head_dim - 1);
    out.col(head) = channel;
    channel.setZero();
  }
  return out;
}

Rows rows_of(const Mat& x) {
  Rows rows;
  for (Index t = 0; t < x.rows(); ++t) rows.emplace_back(x.row(t).data(), x.row(t).data() + x.cols());
  return rows;
}

Mat embed(const Config& config, const Weights& weights, std::span<const Token> tokens) {
  Mat x(static_cast<Index>(tokens.size()), config.d_model);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    x.row(static_cast<Index>(t)) =
        row(weights.embedding, static_cast<std::size_t>(tokens[t])) * static_cast<double>(config.embedding_scale);
    if (config.learned_positions) x.row(static_cast<Index>(t)) += row(weights.positions, t);
  }
  return x;
}

}  // namespace

Result forward(const Config& config, const Weights& weights, std::span<const Token> tokens, const Options& options) {
  const auto eps = static_cast<double>(config.norm_eps);
  Result result;
  result.drop_at.resize(at(config.n_layers()));
  Attention attention(config, options, result);

  const auto residual = static_cast<double>(config.residual_scale);
  struct Remembered {
    Mat k, v;
    std::vector<Judgement> judged;
  };
  std::vector<Remembered> remembered;  // [layer]
  Mat x = embed(config, weights, tokens);
  for (int layer = 0; layer < config.n_layers(); ++layer) {
    const LayerPlan& plan = config.layers[at(layer)];
    const LayerWeights& w = weights.layers[at(layer)];
    const Mat h = plan.pre_norms ? norm_rows(plan.norm, x, w.attention_norm, eps) : x;
    Mat q = linear(h, w.wq);
    norm_heads(q, w.q_norm, config, plan);
    Mat decisions;
    if (config.dms)
      decisions = take_decisions(config, q).array() * static_cast<double>(config.dms->scale) -
                  static_cast<double>(config.dms->offset);
    if (plan.rope >= 0) rotate(q, config, config.ropes[at(plan.rope)]);
    if (config.dms) take_decisions(config, q);
    Remembered& own = remembered.emplace_back();
    if (plan.kv_from < 0) {
      own.k = linear(h, w.wk);
      own.v = linear(h, w.wv);
      norm_heads(own.k, w.k_norm, config, plan);
      if (plan.rope >= 0) rotate(own.k, config, config.ropes[at(plan.rope)]);
    } else {
      own = remembered[at(plan.kv_from)];
    }
    const auto& [k, v, judged] = own;

    if (options.visibility != nullptr) options.visibility->reads(layer, rows_of(h));
    if (options.visibility != nullptr && config.dms) options.visibility->decides(layer, rows_of(decisions));
    double& min_margin = result.min_margin.emplace_back(Judgement{}.min_margin);
    for (int number = 0; number < config.gates() && options.tau && plan.kv_from < 0; ++number) {
      own.judged.push_back(judge(h, w.drop_gate, *config.gate, number, *options.tau));
      min_margin = std::min(min_margin, own.judged.back().min_margin);
    }

    const Mat attended = linear(attention(layer, q, k, v, judged), w.wo);
    x += residual * (plan.post_norms ? norm_rows(plan.norm, attended, w.post_attention_norm, eps) : attended);
    const Mat read = plan.pre_norms ? norm_rows(plan.norm, x, w.mlp_norm, eps) : x;
    const Mat made = plan.experts.count > 0 ? mixture(read, w, plan, min_margin) : mlp(read, w.mlp, plan);
    x += residual * (plan.post_norms ? norm_rows(plan.norm, made, w.post_mlp_norm, eps) : made);
  }

  Mat logits = multiply(norm_rows(config.final_norm, x, weights.final_norm, eps), weights.head) *
               static_cast<double>(config.logit_scale);
  if (const auto cap = static_cast<double>(config.logit_cap); cap > 0)
    logits = logits.unaryExpr([&](double logit) { return cap * std::tanh(logit / cap); });
  result.logits = rows_of(logits);
  return result;
}

}  // namespace pith::reference
