// SPDX-License-Identifier: MIT
// Every tensor of a model is walked twice: to declare it, then to write it. Layers are fetched one at a time.
#include "pith/quantize.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "checkpoint.hpp"
#include "files/gguf.hpp"
#include "files/gguf_writer.hpp"
#include "files/model_files.hpp"
#include "loader.hpp"
#include "pith/error.hpp"
#include "pith/nn/arch.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/tensor/parallel.hpp"
#include "printable.hpp"
#include "text/save_gguf.hpp"

namespace pith {

namespace {

namespace fs = std::filesystem;

/// Where parameters come from: a checkpoint, or a model in memory.
struct Source {
  const Config& config;
  Weights all_but_layers;
  std::function<LayerWeights(std::size_t)> layer;
  std::vector<float> rope_freqs;  // [head_dim / 2] or empty: a tensor of its own in a GGUF
};

/// GGUF's Llama pairs neighbours, all others the halves of a head.
RopeConfig::Pairs pairs_in_gguf(Architecture architecture) {
  const bool adjacent = architecture == Architecture::llama || architecture == Architecture::mistral;
  return adjacent ? RopeConfig::Pairs::adjacent : RopeConfig::Pairs::halves;
}

/// Which row of a projection of rotated heads comes at each place, for the pairs that GGUF expects.
class RowOrder {
 public:
  RowOrder() = default;
  explicit RowOrder(const Config& config)
      : head_dim_(static_cast<std::size_t>(config.head_dim)),
        pairs_(pairs_in_gguf(config.architecture)),
        moved_(config.architecture != Architecture::gpt2 && config.rope.pairs != pairs_) {}

  std::size_t operator()(std::size_t place) const {
    if (!moved_) return place;
    const std::size_t half = head_dim_ / 2, i = place % head_dim_, head = place - i;
    if (pairs_ == RowOrder::Pairs::adjacent) return head + i / 2 + i % 2 * half;
    return head + i % half * 2 + i / half;
  }

 private:
  using Pairs = RopeConfig::Pairs;
  std::size_t head_dim_ = 1;
  Pairs pairs_ = Pairs::halves;
  bool moved_ = false;
};

/// Matrices below each other as one tensor of a file.
struct Stack {
  std::vector<const Matrix*> parts;
  std::vector<RowOrder> orders;  // of each part

  std::size_t rows() const {
    std::size_t sum = 0;
    for (const Matrix* part : parts) sum += part->rows();
    return sum;
  }
  std::size_t cols() const { return parts.front()->cols(); }
};

/// Calls out.matrix(name, stack) and out.vector(name, values) for every tensor of the file, in its order.
template <class Out>
class Walk {
 public:
  Walk(const Source& source, Out& out) : source_(source), config_(source.config), out_(out) {}

  void run() {
    const Weights& w = source_.all_but_layers;
    const TensorNames& names = gguf_names;
    matrix(names.embedding, w.embedding);
    if (w.positions) out_.exact_matrix(std::string(names.positions) + ".weight", w.positions);
    if (!source_.rope_freqs.empty()) out_.vector("rope_freqs.weight", source_.rope_freqs);
    for (std::size_t i = 0; i < static_cast<std::size_t>(config_.n_layers); ++i) layer(i, source_.layer(i));
    norm(std::string(names.final_norm), w.final_norm);
    if (!config_.tied_head) matrix(names.head, w.head);
  }

 private:
  void layer(std::size_t i, const LayerWeights& w) {
    const TensorNames& names = gguf_names;
    const auto name = [&](std::string_view pattern) { return of_layer(pattern, i); };
    const RowOrder rotated(config_);
    norm(name(names.attention_norm), w.attention_norm);
    if (config_.architecture == Architecture::gpt2) {
      linear(name(names.wqkv), {&w.wq, &w.wk, &w.wv}, {{}, {}, {}});
    } else {
      linear(name(names.wq), {&w.wq}, {rotated});
      linear(name(names.wk), {&w.wk}, {rotated});
      linear(name(names.wv), {&w.wv}, {{}});
    }
    linear(name(names.wo), {&w.wo}, {{}});
    if (!w.q_norm.weight.empty()) vector(name(names.q_norm) + ".weight", w.q_norm.weight, rotated);
    if (!w.k_norm.weight.empty()) vector(name(names.k_norm) + ".weight", w.k_norm.weight, rotated);
    if (config_.gate) {
      out_.exact_matrix(name(names.gate_q) + ".weight", w.drop_gate.wq);
      out_.exact_matrix(name(names.gate_k) + ".weight", w.drop_gate.wk);
      out_.vector(name(names.gate_bias), {w.drop_gate.bias});
    }
    norm(name(names.mlp_norm), w.mlp_norm);
    if (w.gate.weight) linear(name(names.gate), {&w.gate}, {{}});
    linear(name(names.up), {&w.up}, {{}});
    linear(name(names.down), {&w.down}, {{}});
  }

  void matrix(std::string_view name, const Matrix& values) {
    out_.matrix(std::string(name) + ".weight", Stack{{&values}, {{}}});
  }

  void linear(const std::string& name, const std::vector<const Linear*>& parts, const std::vector<RowOrder>& orders) {
    Stack stack{{}, orders};
    std::vector<float> bias;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      stack.parts.push_back(&parts[i]->weight);
      const std::vector<float>& values = parts[i]->bias;
      for (std::size_t place = 0; place < values.size(); ++place) bias.push_back(values[orders[i](place)]);
    }
    out_.matrix(name + ".weight", stack);
    if (!bias.empty()) out_.vector(name + ".bias", bias);
  }

  void norm(const std::string& name, const NormWeights& norm) {
    out_.vector(name + ".weight", norm.weight);
    if (!norm.bias.empty()) out_.vector(name + ".bias", norm.bias);
  }

  void vector(const std::string& name, const std::vector<float>& values, const RowOrder& order) {
    std::vector<float> ordered;
    for (std::size_t place = 0; place < values.size(); ++place) ordered.push_back(values[order(place)]);
    out_.vector(name, ordered);
  }

  const Source& source_;
  const Config& config_;
  Out& out_;
};

/// `wanted`, or what rows of this length can be stored in.
Format fitting(Format wanted, std::size_t cols) {
  for (const Format format : {wanted, Format::q8_0})
    if (cols % static_cast<std::size_t>(block_values(format)) == 0) return format;
  return Format::f16;
}

std::vector<std::int64_t> shape_of(std::size_t rows, std::size_t cols) {
  return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols)};
}

/// The first walk.
class Declaration {
 public:
  Declaration(Format format, gguf::Writer& writer, Quantized& result)
      : format_(format), writer_(writer), result_(result) {}

  void matrix(const std::string& name, const Stack& stack) {
    const Format format = fitting(format_, stack.cols());
    if (format != format_) ++misfits_[{stack.cols(), format}];
    for (const Matrix* part : stack.parts)
      again_ = again_ || (block_values(part->format()) > 1 && part->format() != format);
    declare(name, shape_of(stack.rows(), stack.cols()), format, stack.rows() * row_bytes(format, stack.cols()));
  }
  void exact_matrix(const std::string& name, const Matrix& values) {
    declare(name, shape_of(values.rows(), values.cols()), Format::f32, values.rows() * values.cols() * sizeof(float));
  }
  void vector(const std::string& name, const std::vector<float>& values) {
    declare(name, {static_cast<std::int64_t>(values.size())}, Format::f32, values.size() * sizeof(float));
  }

  void add_notes() const {
    for (const auto& [what, count] : misfits_)
      result_.notes.push_back(std::to_string(count) + (count == 1 ? " matrix has" : " matrices have") + " rows of " +
                              std::to_string(what.first) + " numbers, no multiple of the " +
                              std::to_string(block_values(format_)) + " of " + std::string(name(format_)) + ": " +
                              std::string(name(what.second)) + " instead");
    if (again_) result_.notes.emplace_back("weights that were quantised already are quantised again, and lose twice");
  }

 private:
  void declare(const std::string& name, const std::vector<std::int64_t>& shape, Format format, std::size_t bytes) {
    writer_.declare(name, shape, format);
    result_.tensors.push_back({name, std::string(pith::name(format)), shape, bytes});
  }

  Format format_;
  gguf::Writer& writer_;
  Quantized& result_;
  std::map<std::pair<std::size_t, Format>, int> misfits_;  // cols and what they became
  bool again_ = false;
};

/// The second walk.
class Conversion {
 public:
  Conversion(const QuantizeOptions& options, gguf::Writer& writer, const Quantized& plan)
      : options_(options), writer_(writer), plan_(plan), threads_(options.threads) {
    for (const TensorInfo& tensor : plan.tensors) total_ += static_cast<double>(tensor.bytes);
  }

  void matrix(const std::string& name, const Stack& stack) {
    begin(name);
    const Format format = fitting(options_.format, stack.cols());
    for (std::size_t i = 0; i < stack.parts.size(); ++i) convert(name, *stack.parts[i], stack.orders[i], format);
  }
  void exact_matrix(const std::string& name, const Matrix& values) {
    begin(name);
    convert(name, values, RowOrder(), Format::f32);
  }
  void vector(const std::string& name, const std::vector<float>& values) {
    begin(name);
    const bool finite = std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
    if (!finite) refuse(name, "finite numbers", "infinity or not a number");
    writer_.write(std::as_bytes(std::span(values)));
  }

 private:
  void begin(const std::string& name) {
    if (options_.stop.stop_requested()) fail(ErrorCode::cancelled, "quantize: stopped");
    if (options_.progress) options_.progress(name, done_ / total_);
    done_ += static_cast<double>(plan_.tensors[next_++].bytes);
  }

  [[noreturn]] void refuse(const std::string& name, std::string_view expected, std::string_view found) const {
    fail(ErrorCode::model, "tensor " + in_quotes(name), expected, found);
  }

  void convert(const std::string& name, const Matrix& matrix, const RowOrder& order, Format format) {
    constexpr std::size_t chunk_bytes = std::size_t{4} << 20;
    const std::size_t bytes = row_bytes(format, matrix.cols());
    const std::size_t rows_per_chunk = std::max<std::size_t>(1, chunk_bytes / bytes);
    constexpr std::size_t work_per_number = 64;  // the searching encoders do more, the others less
    std::vector<std::byte> out(std::min(rows_per_chunk, matrix.rows()) * bytes);
    for (std::size_t first = 0; first < matrix.rows(); first += rows_per_chunk) {
      if (options_.stop.stop_requested()) fail(ErrorCode::cancelled, "quantize: stopped");
      const std::size_t rows = std::min(rows_per_chunk, matrix.rows() - first);
      std::atomic<float> largest = 0;
      threads_.gather([&] {
        threads_.run(rows, rows * matrix.cols() * work_per_number, [&](std::size_t r) {
          raise(largest, convert_row(matrix, order(first + r), format, out.data() + r * bytes));
        });
      });
      if (!std::isfinite(largest.load())) refuse(name, "finite numbers", "infinity or not a number");
      constexpr float beyond_f16 = 65520;  // rounds to infinity
      if (format == Format::f16 && largest.load() >= beyond_f16)
        refuse(name, "numbers that f16 can hold (bf16 and f32 hold larger ones)", std::to_string(largest.load()));
      writer_.write(std::span(out).first(rows * bytes));
    }
  }

  /// Returns the largest magnitude of the row: infinity where a number is not one.
  static float convert_row(const Matrix& matrix, std::size_t row, Format format, std::byte* out) {
    std::vector<float> values(matrix.cols());
    matrix.row(row, values);
    if (matrix.format() == format) {
      std::copy_n(matrix.data() + row * matrix.stride(), matrix.stride(), out);
    } else {
      ops::encode(format, values.data(), values.size(), out);
    }
    float largest = 0;
    for (const float value : values)
      largest = std::isfinite(value) ? std::max(largest, std::abs(value)) : std::numeric_limits<float>::infinity();
    return largest;
  }

  static void raise(std::atomic<float>& largest, float value) {
    float seen = largest.load();
    while (value > seen && !largest.compare_exchange_weak(seen, value)) continue;
  }

  const QuantizeOptions& options_;
  gguf::Writer& writer_;
  const Quantized& plan_;
  Threads threads_;
  std::size_t next_ = 0;
  double done_ = 0, total_ = 0;
};

std::uint32_t number(int n) { return static_cast<std::uint32_t>(n); }

/// What a GGUF has no key for.
void check_expressible(const Config& config, const std::string& where) {
  const auto refuse = [&](std::string_view expected, std::string_view found) {
    fail(ErrorCode::unsupported, where + ": as a GGUF", expected, found);
  };
  if (config.architecture == Architecture::gpt2 && config.activation != Activation::gelu_tanh)
    refuse("the activation gelu_new, which gpt2 has there", "gelu");
  const auto& windows = config.sliding_window;
  const bool alike = std::adjacent_find(windows.begin(), windows.end(), std::not_equal_to<>()) == windows.end();
  const bool slides = std::ranges::any_of(windows, [&](int w) { return w > 0 && w < config.context; });
  const bool has_key = pairs_in_gguf(config.architecture) == RopeConfig::Pairs::adjacent;
  if (!slides) return;
  if (!has_key) refuse("no sliding window", "one of " + std::to_string(*std::ranges::max_element(windows)));
  if (!alike) refuse("the same sliding window in all layers", "different ones");
}

void add_config(const Config& config, gguf::Writer& out) {
  const bool gpt2 = config.architecture == Architecture::gpt2;
  // ggml calls Mistral a Llama.
  const std::string architecture(
      name(config.architecture == Architecture::mistral ? Architecture::llama : config.architecture));
  const auto key = [&](std::string_view name) { return architecture + "." + std::string(name); };
  out.add("general.architecture", architecture);
  out.add(key("vocab_size"), number(config.vocab_size));
  out.add(key("context_length"), number(config.context));
  out.add(key("embedding_length"), number(config.d_model));
  out.add(key("block_count"), number(config.n_layers));
  out.add(key("feed_forward_length"), number(config.d_ff));
  out.add(key("attention.head_count"), number(config.n_heads));
  out.add(key("attention.head_count_kv"), number(config.n_kv_heads));
  out.add(key(gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"), config.norm_eps);
  if (gpt2) return;
  out.add(key("attention.key_length"), number(config.head_dim));
  out.add(key("attention.value_length"), number(config.head_dim));
  out.add(key("rope.dimension_count"), number(config.head_dim));
  out.add(key("rope.freq_base"), config.rope.theta);
  if (!config.sliding_window.empty() && config.sliding_window.front() > 0 &&
      config.sliding_window.front() < config.context)
    out.add(key("attention.sliding_window"), number(config.sliding_window.front()));
}

/// One divisor for all frequencies is a factor in the metadata; else they are a tensor, which is returned.
std::vector<float> add_divisors(const Config& config, gguf::Writer& out) {
  const std::vector<float>& divisors = config.rope.divisors;
  if (config.architecture == Architecture::gpt2 || divisors.empty()) return {};
  const bool alike = std::adjacent_find(divisors.begin(), divisors.end(), std::not_equal_to<>()) == divisors.end();
  if (!alike) return divisors;
  const std::string prefix(
      name(config.architecture == Architecture::mistral ? Architecture::llama : config.architecture));
  out.add(prefix + ".rope.scaling.type", "linear");
  out.add(prefix + ".rope.scaling.factor", divisors.front());
  return {};
}

void copy_metadata(const gguf::File& from, gguf::Writer& to) {
  for (const auto& [key, value] : from.encoded) {
    const bool ours = key == "drop_gate" || key == "general.alignment" || key == "general.file_type" ||
                      key == "general.quantization_version" || key.starts_with("split.");
    if (!ours) to.add_encoded(key, value);
  }
}

void add_format(const Config& config, Format format, gguf::Writer& out) {
  constexpr std::uint32_t quantization_version = 2;  // of ggml's block types
  if (block_values(format) > 1) out.add("general.quantization_version", quantization_version);
  if (!config.gate) return;
  out.add("drop_gate", nlohmann::json{{"type", "interaction"},
                                      {"dim", config.gate->dim},
                                      {"threshold", config.gate->threshold},
                                      {"recent", config.gate->recent}}
                           .dump());
}

Quantized write(const Source& source, const QuantizeOptions& options, gguf::Writer& writer,
                std::vector<std::string> notes) {
  Quantized result;
  result.notes = std::move(notes);
  add_format(source.config, options.format, writer);
  Declaration declaration(options.format, writer, result);
  Walk(source, declaration).run();
  declaration.add_notes();
  Conversion conversion(options, writer, result);
  Walk(source, conversion).run();
  writer.finish();
  result.bytes = writer.bytes();
  return result;
}

void refuse_same_file(const fs::path& in, const fs::path& out) {
  for (const fs::path& file : model_files(in)) {
    std::error_code ignored;
    if (fs::equivalent(file, out, ignored))
      fail(ErrorCode::file, out.string(), "another file than the one that is read", "the same, " + file.string());
  }
}

}  // namespace

Quantized quantize(const fs::path& in, const fs::path& out, const QuantizeOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(in, options.gates);
  const Config& config = checkpoint.config();
  refuse_same_file(in, out);
  Loader loader(checkpoint);
  return visit(config, [&]<class Arch>() {
    Source source{config, loader.all_but_layers<Arch>(), [&](std::size_t i) { return loader.layer<Arch>(i); }, {}};
    std::vector<std::string> notes;
    gguf::Writer writer(out);
    if (checkpoint.container() == Checkpoint::Container::gguf) {
      copy_metadata(gguf::open(in), writer);
      if (checkpoint.has("rope_freqs.weight"))
        source.rope_freqs = checkpoint.vector("rope_freqs.weight", static_cast<std::size_t>(config.head_dim / 2));
    } else {
      check_expressible(config, in.string());
      add_config(config, writer);
      source.rope_freqs = add_divisors(config, writer);
      writer.add("general.name", (in.has_filename() ? in.filename() : in.parent_path().filename()).string());
      text::save_gguf(in, config, writer, notes);
    }
    return write(source, options, writer, std::move(notes));
  });
}

Quantized quantize(const Model& model, const fs::path& out, const QuantizeOptions& options) {
  const Config& config = model.config();
  check_expressible(config, "model");
  Source source{config, model.weights(), [&](std::size_t i) { return model.weights().layers[i]; }, {}};
  std::vector<std::string> notes;
  gguf::Writer writer(out);
  add_config(config, writer);
  source.rope_freqs = add_divisors(config, writer);
  text::save_gguf({}, config, writer, notes);
  return write(source, options, writer, std::move(notes));
}

}  // namespace pith
