// SPDX-License-Identifier: MIT
// Gates on a token's own state, as their authors' files have them.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "files/safetensors.hpp"
#include "pith/error.hpp"
#include "pith/prune/worth.hpp"
#include "pith/tensor/tensor.hpp"
#include "printable.hpp"

namespace pith::prune {

namespace {

using Shape = std::vector<std::int64_t>;

std::string text_of(const Shape& shape) {
  std::string out = "[";
  for (const std::int64_t n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
  return out + "]";
}

/// The tensors of one file, each to be taken once.
class Tensors {
 public:
  explicit Tensors(const std::filesystem::path& path) : file_(safetensors::open(path)) {}

  std::string where() const { return file_.file->path().string(); }
  bool has(const std::string& name) const { return file_.tensors.contains(name); }

  /// How many layers there are, by the names.
  std::size_t layers() const {
    std::size_t n = 0;
    while (std::ranges::any_of(file_.tensors, [&](const auto& entry) { return entry.first.starts_with(prefix(n)); }))
      ++n;
    return n;
  }
  static std::string prefix(std::size_t layer) { return "layers." + std::to_string(layer) + "."; }

  /// `shape`: what it has to be, -1 where any number above 0 will do.
  Matrix matrix(const std::string& name, const Shape& shape) {
    const auto& tensor = take(name, shape);
    const auto rows = static_cast<std::size_t>(tensor.shape[0]), cols = static_cast<std::size_t>(tensor.shape[1]);
    auto copy = std::make_shared<Tensor<std::byte>>();  // a tensor in a file may be misaligned
    copy->resize(1, tensor.bytes.size());
    std::memcpy(copy->data(), tensor.bytes.data(), tensor.bytes.size());
    const std::span<const std::byte> bytes = (*copy)[0];
    return {format_of_it(name, tensor), rows, cols, bytes, std::move(copy)};
  }
  /// All its numbers, whatever its shape.
  std::vector<float> numbers(const std::string& name, const Shape& shape) {
    const auto& tensor = take(name, shape);
    const Format format = format_of_it(name, tensor);
    std::vector<float> out;
    visit(format, [&]<Block B>() {
      out.resize(tensor.bytes.size() / sizeof(B) * BlockTraits<B>::values);
      for (std::size_t i = 0; i < tensor.bytes.size() / sizeof(B); ++i) {
        B block;
        std::memcpy(&block, tensor.bytes.data() + i * sizeof(B), sizeof(B));
        BlockTraits<B>::decode(block, out.data() + i * BlockTraits<B>::values);
      }
    });
    return out;
  }
  std::int64_t side(const std::string& name, std::size_t which, std::size_t sides) {
    const auto found = file_.tensors.find(name);
    if (found == file_.tensors.end()) fail(ErrorCode::model, where(), "tensor " + in_quotes(name), "no such tensor");
    if (found->second.shape.size() != sides || found->second.shape[which] < 1)
      fail(ErrorCode::model, of(name), "a tensor of " + std::to_string(sides) + " sides above 0",
           text_of(found->second.shape));
    return found->second.shape[which];
  }

  void refuse_what_is_left() const {
    for (const auto& [name, tensor] : file_.tensors)
      if (!std::ranges::binary_search(taken_, name))
        fail(ErrorCode::unsupported, of(name), "only tensors of gates on a token's state",
             "a name that they do not have");
  }

 private:
  std::string of(const std::string& name) const { return where() + ": tensor " + in_quotes(name); }

  const safetensors::Tensor& take(const std::string& name, const Shape& shape) {
    const auto found = file_.tensors.find(name);
    if (found == file_.tensors.end()) fail(ErrorCode::model, where(), "tensor " + in_quotes(name), "no such tensor");
    const Shape& there = found->second.shape;
    if (there != shape) fail(ErrorCode::model, of(name), "shape " + text_of(shape), text_of(there));
    taken_.insert(std::ranges::upper_bound(taken_, name), name);
    return found->second;
  }
  Format format_of_it(const std::string& name, const safetensors::Tensor& tensor) const {
    for (const Format format : {Format::f32, Format::f16, Format::bf16})
      if (dtype(format) == tensor.dtype) return format;
    fail(ErrorCode::unsupported, of(name), "F32, F16 or BF16", printable(tensor.dtype));
  }

  safetensors::File file_;
  std::vector<std::string> taken_;
};

LinearWorth linear(Tensors& tensors, const std::string& name, std::int64_t rows, std::int64_t cols) {
  return {tensors.matrix(name + ".weight", {rows, cols}), tensors.numbers(name + ".bias", {rows})};
}

LinearWorth linear(Tensors& tensors, const std::string& name) {
  return linear(tensors, name, tensors.side(name + ".weight", 0, 2), tensors.side(name + ".weight", 1, 2));
}

MlpWorth mlp(Tensors& tensors, const std::string& layer) {
  LinearWorth hidden = linear(tensors, layer + "0");
  const auto width = static_cast<std::int64_t>(hidden.weight.rows());
  return {std::move(hidden), linear(tensors, layer + "2", tensors.side(layer + "2.weight", 0, 2), width)};
}

SinkWorth sink(Tensors& tensors, const std::string& layer) {
  const std::int64_t dim = tensors.side(layer + "q_norm.weight", 0, 1), heads = tensors.side(layer + "b", 0, 3),
                     groups = tensors.side(layer + "b", 2, 3), sinks = tensors.side(layer + "k_base", 2, 4),
                     width = tensors.side(layer + "k_proj.weight", 1, 2);
  return {.queries = linear(tensors, layer + "q_proj", heads * groups * dim, width),
          .keys = tensors.matrix(layer + "k_proj.weight", {heads * dim, width}),
          .q_norm = tensors.numbers(layer + "q_norm.weight", {dim}),
          .k_norm = tensors.numbers(layer + "k_norm.weight", {dim}),
          .sinks = tensors.numbers(layer + "k_base", {heads, 1, sinks, dim}),
          .bias = tensors.numbers(layer + "b", {heads, 1, groups})};
}

}  // namespace

WorthGates WorthGates::read(const std::filesystem::path& path) {
  std::error_code ignored;
  Tensors tensors(std::filesystem::is_directory(path, ignored) ? path / "model.safetensors" : path);
  WorthGates gates{path.string(), {}};
  const std::size_t layers = tensors.layers();
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string layer = Tensors::prefix(i);
    if (tensors.has(layer + "k_base")) {
      gates.layers.emplace_back(sink(tensors, layer));
    } else if (tensors.has(layer + "0.weight")) {
      gates.layers.emplace_back(mlp(tensors, layer));
    } else {
      gates.layers.emplace_back(linear(tensors, "layers." + std::to_string(i)));
    }
    const WorthGates one{{}, {gates.layers.back()}};
    if (one.kv_heads() != gates.kv_heads() || one.d_model() != gates.d_model())
      fail(ErrorCode::model, tensors.where() + ": " + layer + "*",
           "a gate for " + std::to_string(gates.kv_heads()) + " kv-heads on width " + std::to_string(gates.d_model()) +
               ", as the first layer's",
           std::to_string(one.kv_heads()) + " and " + std::to_string(one.d_model()));
  }
  if (gates.layers.empty())
    fail(ErrorCode::model, tensors.where(), "tensors layers.0.weight (KVzap) or layers.0.k_base (Fast KVzip)", "none");
  tensors.refuse_what_is_left();
  return gates;
}

}  // namespace pith::prune
