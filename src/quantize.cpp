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
  std::vector<float> rope_freqs;  // [head_dim / 2] or empty: a tensor of its own in a GGUF
};

/// Which row of a parameter comes at each place, for the pairs of a head's rows that GGUF expects.
class RowOrder {
 public:
  RowOrder(const Config& config, const Parameter& parameter)
      : head_dim_(static_cast<std::size_t>(config.head_dim)),
        pairs_(family_of(config.architecture).gguf_pairs),
        moved_(parameter.rotated && !config.ropes.empty() && config.rope_pairs != pairs_) {}

  std::size_t operator()(std::size_t place) const {
    if (!moved_) return place;
    const std::size_t half = head_dim_ / 2, i = place % head_dim_, head = place - i;
    if (pairs_ == RopePairs::adjacent) return head + i / 2 + i % 2 * half;
    return head + i % half * 2 + i / half;
  }

 private:
  std::size_t head_dim_;
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
  bool exact = false;

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
    stack.exact = p.exact;
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
    const std::string name = filled(gguf_spelling(family_, p.role).pattern, p.layer).append(p.suffix);
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
    if (!source.rope_freqs.empty())
      out(Stack{.name = std::string(rope_freqs), .parts = {}, .values = source.rope_freqs});
    for (std::size_t i = 0; i < config.layers.size(); ++i) {
      const LayerWeights layer = source.layer(i);
      for_each_parameter(config, i, layer, stacks);
      flush();
    }
  });
  flush();
}

/// `wanted`, or what rows of this length can be stored in.
Format fitting(Format wanted, std::size_t cols) {
  for (const Format format : {wanted, Format::q8_0})
    if (cols % static_cast<std::size_t>(block_values(format)) == 0) return format;
  return Format::f16;
}

Format format_of(const Stack& stack, Format wanted) {
  return stack.exact ? Format::f32 : fitting(wanted, stack.cols());
}

std::vector<std::int64_t> shape_of(std::size_t rows, std::size_t cols) {
  return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols)};
}

/// The first walk.
class Declaration {
 public:
  Declaration(Format format, gguf::Writer& writer, Quantized& result)
      : format_(format), writer_(writer), result_(result) {}

  void operator()(const Stack& stack) {
    if (stack.parts.empty()) {
      const std::size_t n = stack.values.size();
      return declare(stack.name, {static_cast<std::int64_t>(n)}, Format::f32, n * sizeof(float));
    }
    const Format format = format_of(stack, format_);
    if (format != format_ && !stack.exact) ++misfits_[{stack.cols(), format}];
    for (const Stack::Part& part : stack.parts)
      again_ = again_ || (block_values(part.matrix->format()) > 1 && part.matrix->format() != format);
    declare(stack.name, shape_of(stack.rows(), stack.cols()), format, stack.rows() * row_bytes(format, stack.cols()));
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

  void operator()(const Stack& stack) {
    begin(stack.name);
    if (!stack.parts.empty()) {
      for (const Stack::Part& part : stack.parts)
        convert(stack.name, *part.matrix, part.order, format_of(stack, options_.format));
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

void add_format(const Config& config, Format format, gguf::Writer& out) {
  constexpr std::uint32_t quantization_version = 2;  // of ggml's block types
  if (block_values(format) > 1) out.add("general.quantization_version", quantization_version);
  if (!config.gate) return;
  out.add("drop_gate", nlohmann::json{{"type", "interaction"},
                                      {"dim", config.gate->dim},
                                      {"threshold", config.gate->threshold},
                                      {"recent", config.gate->recent},
                                      {"scope", name(config.gate->scope)}}
                           .dump());
}

Quantized write(const Source& source, const QuantizeOptions& options, gguf::Writer& writer,
                std::vector<std::string> notes) {
  Quantized result;
  result.notes = std::move(notes);
  add_format(source.config, options.format, writer);
  Declaration declaration(options.format, writer, result);
  walk(source, declaration);
  declaration.add_notes();
  Conversion conversion(options, writer, result);
  walk(source, conversion);
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
  Source source{config, loader.all_but_layers(), [&](std::size_t i) { return loader.layer(i); }, {}};
  std::vector<std::string> notes;
  gguf::Writer writer(out);
  if (checkpoint.container() == Checkpoint::Container::gguf) {
    const gguf::File file = gguf::open(in);
    copy_metadata(file, writer);
    if (const auto note = text::note_on_pre(file)) notes.push_back(*note);
    if (checkpoint.has(rope_freqs))
      source.rope_freqs = checkpoint.vector(rope_freqs, static_cast<std::size_t>(config.head_dim / 2));
  } else {
    write_config(config, writer, in.string());
    source.rope_freqs = gguf_divisors(config);
    writer.add("general.name", (in.has_filename() ? in.filename() : in.parent_path().filename()).string());
    text::save_gguf(in, tokens_of(config), writer, notes);
  }
  return write(source, options, writer, std::move(notes));
}

Quantized quantize(const Model& model, const fs::path& out, const QuantizeOptions& options) {
  const Config& config = model.config();
  Source source{config, model.weights(), [&](std::size_t i) { return model.weights().layers[i]; },
                gguf_divisors(config)};
  std::vector<std::string> notes;
  gguf::Writer writer(out);
  write_config(config, writer, "model");
  text::save_gguf({}, tokens_of(config), writer, notes);
  return write(source, options, writer, std::move(notes));
}

}  // namespace pith
