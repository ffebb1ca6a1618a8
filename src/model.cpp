// SPDX-License-Identifier: MIT
#include "pith/model.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "checkpoint.hpp"
#include "files/input_file.hpp"
#include "loader.hpp"
#include "nn/arch/family.hpp"
#include "pith/error.hpp"
#include "pith/nn/attention.hpp"
#include "pith/nn/parameters.hpp"

namespace pith {

struct Model::Impl {
  Config config;
  Weights weights;
  std::vector<TensorInfo> tensors;
  std::vector<std::shared_ptr<const InputFile>> files;
};

namespace {

/// Rows and columns, 0 columns for a vector.
using Sides = std::pair<std::size_t, std::size_t>;

Sides sides(const Matrix& m) { return {m.rows(), m.cols()}; }
Sides sides(const std::vector<float>& v) { return {v.size(), 0}; }

std::size_t bytes_of(const Matrix& m) { return m.bytes(); }
std::size_t bytes_of(const std::vector<float>& v) { return v.size() * sizeof(float); }

std::string text(const Sides& sides) {
  const auto& [rows, cols] = sides;
  if (rows == 0) return "none";
  return "[" + std::to_string(rows) + (cols == 0 ? "]" : ", " + std::to_string(cols) + "]");
}

/// Throws where parameters given in memory are not those of the plan.
void check(const Config& config, const Weights& weights) {
  if (weights.layers.size() != config.layers.size())
    fail(ErrorCode::model, "layers", std::to_string(config.layers.size()), std::to_string(weights.layers.size()));
  const auto where = [&](const Parameter& p) {
    const auto name = filled(gguf_spellings(family_of(config.architecture), p.role).front()->pattern, p);
    return p.expert ? name + " of expert " + std::to_string(*p.expert) : name;
  };
  const auto check_one = [&](const Parameter& p, const auto& kept) {
    const Sides expected = p.present ? Sides(p.rows, p.cols) : Sides(), found = sides(kept);
    if (found != expected) fail(ErrorCode::model, where(p), text(expected), text(found));
  };
  for_each_slot_around(config, weights, check_one, [&] {
    for (std::size_t i = 0; i < config.layers.size(); ++i) for_each_slot(config, i, weights.layers[i], check_one);
  });
}

void check_config(const Config& config) {
  const auto positive = [](const char* what, int n) {
    if (n <= 0) fail(ErrorCode::model, what, "a positive number", std::to_string(n));
  };
  positive("vocab_size", config.vocab_size);
  positive("d_model", config.d_model);
  positive("layers", config.n_layers());
  positive("n_heads", config.n_heads);
  positive("n_kv_heads", config.n_kv_heads);
  positive("head_dim", config.head_dim);
  positive("d_ff", config.d_ff);
  positive("context", config.context);
  if (config.n_heads % config.n_kv_heads != 0)
    fail(ErrorCode::model, "n_heads", "a multiple of " + std::to_string(config.n_kv_heads) + " kv-heads",
         std::to_string(config.n_heads));
  if (static_cast<std::size_t>(config.head_dim) > max_head_dim)
    fail(ErrorCode::unsupported, "head_dim", "at most " + std::to_string(max_head_dim),
         std::to_string(config.head_dim));
  if (config.gate && (config.gate->dim <= 0 || config.gate->recent < 1 || config.gate->sinks < 0))
    fail(ErrorCode::model, "drop_gate", "dim > 0, recent >= 1 and sinks >= 0",
         std::to_string(config.gate->dim) + ", " + std::to_string(config.gate->recent) + " and " +
             std::to_string(config.gate->sinks));

  const auto finite = [](const char* what, float x) {
    if (!std::isfinite(x)) fail(ErrorCode::model, what, "a finite number", std::to_string(x));
  };
  finite("embedding_scale", config.embedding_scale);
  finite("residual_scale", config.residual_scale);
  finite("logit_scale", config.logit_scale);
  finite("logit_cap", config.logit_cap);
  if (config.logit_cap < 0) fail(ErrorCode::model, "logit_cap", "0 or more", std::to_string(config.logit_cap));
  if (!config.ropes.empty() && config.head_dim % 2 != 0)
    fail(ErrorCode::model, "head_dim", "an even number, for rotary position embedding",
         std::to_string(config.head_dim));
  for (const RopeConfig& rope : config.ropes) {
    if (rope.dim < 0 || rope.dim > config.head_dim || rope.dim % 2 != 0)
      fail(ErrorCode::model, "rope dim", "an even number up to " + std::to_string(config.head_dim),
           std::to_string(rope.dim));
    finite("rope magnitude", rope.magnitude);
    const auto pairs = static_cast<std::size_t>(config.dim_of(rope) / 2);
    for (const std::vector<float>& divisors : {rope.divisors, rope.long_divisors})
      if (!divisors.empty() && divisors.size() != pairs)
        fail(ErrorCode::model, "rope divisors", "none or " + std::to_string(pairs), std::to_string(divisors.size()));
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerPlan& plan = config.layers[i];
    finite("query_scale", plan.query_scale);
    finite("score_cap", plan.score_cap);
    if (plan.score_cap < 0) fail(ErrorCode::model, "score_cap", "0 or more", std::to_string(plan.score_cap));
    if (plan.d_ff < 0) fail(ErrorCode::model, "d_ff", "0 or more", std::to_string(plan.d_ff));
    const Experts& experts = plan.experts;
    if (experts.count < 0 || experts.chosen > experts.count || (experts.count > 0 && experts.chosen < 1))
      fail(ErrorCode::model, "experts chosen", "from 1 to the " + std::to_string(experts.count) + " there are",
           std::to_string(experts.chosen));
    if (plan.window < 0) fail(ErrorCode::model, "window", "0 or more", std::to_string(plan.window));
    if (plan.rope < -1 || plan.rope >= static_cast<int>(config.ropes.size()))
      fail(ErrorCode::model, "rope", "-1 or one of the " + std::to_string(config.ropes.size()) + " ropes",
           std::to_string(plan.rope));
    if (plan.kv_from >= 0) {
      const std::string what = "layer " + std::to_string(i) + ": kv_from";
      const auto from = static_cast<std::size_t>(plan.kv_from);
      if (from >= i || config.layers[from].kv_from >= 0)
        fail(ErrorCode::model, what, "an earlier layer with keys and values of its own", std::to_string(from));
      if (config.layers[from].window != plan.window)
        fail(ErrorCode::model, what, "a layer with the same window of " + std::to_string(plan.window),
             std::to_string(config.layers[from].window) + " of layer " + std::to_string(from));
    }
  }
}

std::vector<TensorInfo> infos(const StoredTensors& tensors) {
  std::vector<TensorInfo> out;
  for (const auto& [name, tensor] : tensors)
    out.push_back({name, tensor.supported ? std::string(pith::name(tensor.format)) : tensor.dtype, tensor.shape,
                   tensor.bytes.size()});
  return out;
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(path, options.gates, options.map ? Access::mapped : Access::copied);
  check_config(checkpoint.config());
  auto impl = std::make_shared<Impl>();
  impl->config = checkpoint.config();
  impl->weights = Loader(checkpoint).load();
  impl->tensors = infos(checkpoint.tensors());
  const auto files = checkpoint.files();
  impl->files.assign(files.begin(), files.end());
  Model model(std::move(impl));
  model.check_files();
  return model;
}

Model Model::create(Config config, Weights weights) {
  check_config(config);
  // The head of a model that ties it is no parameter of its own.
  const Matrix head = config.tied_head ? std::exchange(weights.head, {}) : Matrix();
  if (head && head.data() != weights.embedding.data())
    fail(ErrorCode::model, "head", "the embedding, as tied_head says", "another matrix");
  check(config, weights);
  if (config.tied_head) weights.head = weights.embedding;
  auto impl = std::make_shared<Impl>();
  impl->config = std::move(config);
  impl->weights = std::move(weights);
  return Model(std::move(impl));
}

const Config& Model::config() const { return impl_->config; }
const Weights& Model::weights() const { return impl_->weights; }
const std::vector<TensorInfo>& Model::tensors() const { return impl_->tensors; }

std::uint64_t Model::parameters() const {
  std::uint64_t sum = 0;
  for_each_parameter(config(), weights(), [&](const Parameter& p, const auto&) { sum += p.numbers(); });
  return sum;
}

std::uint64_t Model::bytes() const {
  std::uint64_t sum = 0;
  for_each_parameter(config(), weights(), [&](const Parameter&, const auto& kept) { sum += bytes_of(kept); });
  return sum;
}

void Model::check_files() const {
  for (const auto& file : impl_->files) file->check();
}

void guard_mappings() { InputFile::guard(); }

ModelFiles ModelFiles::read(const std::filesystem::path& path) {
  Contents contents = Contents::of(path);
  return {std::move(contents.architecture), infos(contents.tensors)};
}

}  // namespace pith
