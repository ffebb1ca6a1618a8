// SPDX-License-Identifier: MIT
// Every tensor of a model is walked twice: to declare it, then to write it. Layers are fetched one at a time.
#include "pith/quantize.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <tuple>
#include <utility>

#include "checkpoint.hpp"
#include "files/gguf.hpp"
#include "files/gguf_writer.hpp"
#include "files/model_files.hpp"
#include "loader.hpp"
#include "mixture.hpp"
#include "nn/arch/common.hpp"
#include "nn/arch/config.hpp"
#include "pith/error.hpp"
#include "pith/nn/parameters.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/tensor/parallel.hpp"
#include "printable.hpp"
#include "text/load.hpp"
#include "text/save_gguf.hpp"

namespace pith {

namespace {

namespace fs = std::filesystem;

/// Where parameters come from: a checkpoint, or a model in memory.
struct Source {
  const Config& config;
  Weights all_but_layers;
  std::function<LayerWeights(std::size_t)> layer;
  std::vector<RopeTensor> rope_tensors;
  std::function<void()> check;  // throws where the files it comes from were cut meanwhile
};

/// Which row of a parameter comes at each place, for the pairs of a head's rows that GGUF expects.
class RowOrder {
 public:
  RowOrder(const Config& config, const Parameter& parameter)
      : head_dim_(static_cast<std::size_t>(config.head_dim)),
        turned_(config.ropes.empty() ? 0 : static_cast<std::size_t>(config.dim_of(config.ropes.front()))),
        pairs_(family_of(config.architecture).gguf_pairs),
        moved_(parameter.rotated && !config.ropes.empty() && config.rope_pairs != pairs_) {}

  std::size_t operator()(std::size_t place) const {
    const std::size_t half = turned_ / 2, i = place % head_dim_, head = place - i;
    if (!moved_ || i >= turned_) return place;
    if (pairs_ == RopePairs::adjacent) return head + i / 2 + i % 2 * half;
    return head + i % half * 2 + i / half;
  }

 private:
  std::size_t head_dim_, turned_;  // of a head's numbers, those that any RoPE turns
  RopePairs pairs_;
  bool moved_;
};

/// A tensor of the file: matrices below each other, or the numbers of a vector.
struct Stack {
  struct Part {
    const Matrix* matrix;
    RowOrder order;
  };

  std::string name;
  std::vector<Part> parts;
  std::vector<float> values;  // where there are no parts
  std::size_t experts = 0;    // so many share it, in a dimension of its own; 0: none do
  Parameter what;             // of its parts, the one that formats are chosen by: the values, else the first

  std::size_t rows() const {
    std::size_t sum = 0;
    for (const Part& part : parts) sum += part.matrix->rows();
    return sum;
  }
  std::size_t cols() const { return parts.front().matrix->cols(); }
};

/// Collects parameters into the tensors that hold them in a GGUF.
class Stacks {
 public:
  explicit Stacks(const Config& config) : config_(config), family_(family_of(config.architecture)) {}

  void operator()(const Parameter& p, const Matrix& matrix) {
    Stack& stack = stack_of(p);
    if (p.expert) stack.experts = *p.expert + 1;
    if (stack.parts.empty() || p.role == Role::wv) stack.what = p;
    stack.parts.push_back({&matrix, RowOrder(config_, p)});
  }
  void operator()(const Parameter& p, const std::vector<float>& values) {
    Stack& stack = stack_of(p);
    const RowOrder order(config_, p);
    for (std::size_t place = 0; place < values.size(); ++place)
      stack.values.push_back(values[order(place)] + (p.plus_one ? 1.0f : 0.0f));
  }

  std::vector<Stack> take() { return std::exchange(stacks_, {}); }

 private:
  Stack& stack_of(const Parameter& p) {
    const std::string name = filled(gguf_spelling(family_, p.role).pattern, p);
    const auto found = std::ranges::find(stacks_, name, &Stack::name);
    return found != stacks_.end() ? *found : stacks_.emplace_back(Stack{.name = name});
  }

  const Config& config_;
  const Family& family_;
  std::vector<Stack> stacks_;
};

/// Calls out(stack) for every tensor of the file, in its order.
template <class Out>
void walk(const Source& source, Out& out) {
  const Config& config = source.config;
  Stacks stacks(config);
  const auto flush = [&] {
    for (const Stack& stack : stacks.take()) out(stack);
  };
  for_each_parameter_around(config, source.all_but_layers, stacks, [&] {
    flush();
    for (const RopeTensor& tensor : source.rope_tensors)
      out(Stack{.name = std::string(tensor.name), .parts = {}, .values = tensor.divisors});
    for (std::size_t i = 0; i < config.layers.size(); ++i) {
      const LayerWeights layer = source.layer(i);
      for_each_parameter(config, i, layer, stacks);
      flush();
    }
  });
  flush();
}

/// What tensors are to be, and what their rows let them be.
class Choice {
 public:
  Choice(const Config& config, const QuantizeOptions& options)
      : config_(config),
        format_(options.format),
        mixture_(options.like.empty() ? nullptr : &mixture_named(options.like)) {}

  Format wanted(const Stack& stack) const {
    if (stack.what.exact) return Format::f32;
    return mixture_ != nullptr ? mixture_->format_of(stack.what, config_) : format_;
  }
  Format operator()(const Stack& stack) const { return fitting(wanted(stack), stack.cols()); }
  bool of_blocks() const { return mixture_ != nullptr || block_values(format_) > 1; }

 private:
  const Config& config_;
  Format format_;
  const Mixture* mixture_;
};

std::vector<std::int64_t> shape_of(const Stack& stack) {
  std::vector<std::int64_t> shape = {static_cast<std::int64_t>(stack.rows()), static_cast<std::int64_t>(stack.cols())};
  if (stack.experts == 0) return shape;
  const auto experts = static_cast<std::int64_t>(stack.experts);
  shape.front() /= experts;
  shape.insert(shape.begin(), experts);
  return shape;
}

/// The first walk.
class Declaration {
 public:
  Declaration(const Choice& choice, gguf::Writer& writer, Quantized& result)
      : choice_(choice), writer_(writer), result_(result) {}

  void operator()(const Stack& stack) {
    if (stack.parts.empty()) {
      const std::size_t n = stack.values.size();
      return declare(stack.name, {static_cast<std::int64_t>(n)}, Format::f32, n * sizeof(float));
    }
    const Format format = choice_(stack), wanted = choice_.wanted(stack);
    if (format != wanted) ++misfits_[{stack.cols(), wanted, format}];
    for (const Stack::Part& part : stack.parts)
      again_ = again_ || (block_values(part.matrix->format()) > 1 && part.matrix->format() != format);
    declare(stack.name, shape_of(stack), format, stack.rows() * row_bytes(format, stack.cols()));
  }

  void add_notes() const {
    for (const auto& [what, count] : misfits_) {
      const auto& [cols, wanted, format] = what;
      result_.notes.push_back(std::to_string(count) + (count == 1 ? " matrix has" : " matrices have") + " rows of " +
                              std::to_string(cols) + " numbers, no multiple of the " +
                              std::to_string(block_values(wanted)) + " of " + std::string(name(wanted)) + ": " +
                              std::string(name(format)) + " instead");
    }
    if (again_) result_.notes.emplace_back("weights that were quantised already are quantised again, and lose twice");
  }

 private:
  void declare(const std::string& name, const std::vector<std::int64_t>& shape, Format format, std::size_t bytes) {
    writer_.declare(name, shape, format);
    result_.tensors.push_back({name, std::string(pith::name(format)), shape, bytes});
  }

  const Choice& choice_;
  gguf::Writer& writer_;
  Quantized& result_;
  std::map<std::tuple<std::size_t, Format, Format>, int> misfits_;  // cols, what was wanted, what they became
  bool again_ = false;
};

/// The second walk.
class Conversion {
 public:
  Conversion(const QuantizeOptions& options, const Choice& choice, gguf::Writer& writer, const Quantized& plan)
      : options_(options), choice_(choice), writer_(writer), plan_(plan), threads_(options.threads) {
    for (const TensorInfo& tensor : plan.tensors) total_ += static_cast<double>(tensor.bytes);
  }

  void operator()(const Stack& stack) {
    begin(stack.name);
    if (!stack.parts.empty()) {
      for (const Stack::Part& part : stack.parts) convert(stack.name, *part.matrix, part.order, choice_(stack));
      return;
    }
    const bool finite = std::ranges::all_of(stack.values, [](float x) { return std::isfinite(x); });
    if (!finite) refuse(stack.name, "finite numbers", "infinity or not a number");
    writer_.write(std::as_bytes(std::span(stack.values)));
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
  const Choice& choice_;
  gguf::Writer& writer_;
  const Quantized& plan_;
  Threads threads_;
  std::size_t next_ = 0;
  double done_ = 0, total_ = 0;
};

text::ModelTokens tokens_of(const Config& config) { return {config.vocab_size, config.bos, config.end_tokens}; }

void copy_metadata(const gguf::File& from, gguf::Writer& to) {
  for (const auto& [key, value] : from.encoded) {
    const bool ours = key == "drop_gate" || key == "general.alignment" || key == "general.file_type" ||
                      key == "general.quantization_version" || key.starts_with("split.");
    if (!ours) to.add_encoded(key, value);
  }
}

void add_format(const Config& config, const Choice& choice, gguf::Writer& out) {
  constexpr std::uint32_t quantization_version = 2;  // of ggml's block types
  if (choice.of_blocks()) out.add("general.quantization_version", quantization_version);
  if (!config.gate) return;
  out.add("drop_gate", nlohmann::json{{"type", "interaction"},
                                      {"dim", config.gate->dim},
                                      {"threshold", config.gate->threshold},
                                      {"recent", config.gate->recent},
                                      {"sinks", config.gate->sinks},
                                      {"scope", name(config.gate->scope)}}
                           .dump());
}

Quantized write(const Source& source, const QuantizeOptions& options, gguf::Writer& writer,
                std::vector<std::string> notes) {
  Quantized result;
  result.notes = std::move(notes);
  const Choice choice(source.config, options);
  add_format(source.config, choice, writer);
  Declaration declaration(choice, writer, result);
  walk(source, declaration);
  declaration.add_notes();
  Conversion conversion(options, choice, writer, result);
  walk(source, conversion);
  source.check();
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
  Source source{config,
                loader.all_but_layers(),
                [&](std::size_t i) { return loader.layer(i); },
                {},
                [&] {
                  for (const auto& file : checkpoint.files()) file->check();
                }};
  std::vector<std::string> notes;
  gguf::Writer writer(out);
  if (checkpoint.container() == Checkpoint::Container::gguf) {
    const gguf::File file = gguf::open(in);
    copy_metadata(file, writer);
    if (const auto note = text::note_on_pre(file)) notes.push_back(*note);
    for (const std::string_view name : rope_tensors)
      if (checkpoint.has(name) && !config.ropes.empty())
        source.rope_tensors.push_back(
            {name, checkpoint.vector(name, static_cast<std::size_t>(config.dim_of(config.ropes.front()) / 2))});
  } else {
    write_config(config, writer, in.string());
    source.rope_tensors = gguf_rope_tensors(config);
    writer.add("general.name", (in.has_filename() ? in.filename() : in.parent_path().filename()).string());
    text::save_gguf(in, tokens_of(config), writer, notes);
  }
  return write(source, options, writer, std::move(notes));
}

Quantized quantize(const Model& model, const fs::path& out, const QuantizeOptions& options) {
  const Config& config = model.config();
  Source source{config, model.weights(), [&](std::size_t i) { return model.weights().layers[i]; },
                gguf_rope_tensors(config), [&] { model.check_files(); }};
  std::vector<std::string> notes;
  gguf::Writer writer(out);
  write_config(config, writer, "model");
  text::save_gguf({}, tokens_of(config), writer, notes);
  return write(source, options, writer, std::move(notes));
}

}  // namespace pith
