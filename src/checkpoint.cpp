// SPDX-License-Identifier: MIT
// Opening a model: which files make it, which tensors they hold, and those tensors as weights.
#include "checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "files/gguf.hpp"
#include "files/json.hpp"
#include "files/model_files.hpp"
#include "files/safetensors.hpp"
#include "nn/arch/common.hpp"
#include "nn/arch/config.hpp"
#include "nn/arch/family.hpp"
#include "pith/error.hpp"
#include "pith/tensor/tensor.hpp"
#include "printable.hpp"

namespace pith {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view single_name = "model.safetensors";
constexpr std::string_view index_name = "model.safetensors.index.json";
constexpr std::string_view gates_name = "gates.safetensors";

bool present(const fs::path& path) {
  std::error_code ignored;  // what cannot be asked about is not there; opening it would say why
  return fs::exists(path, ignored);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "[";
  for (const std::int64_t n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
  return out + "]";
}

/// Base models are saved without the prefix that the same tensors have in a whole model.
std::string full_name(const Family& family, const std::string& name) {
  if (name.starts_with(family.prefix)) return name;
  const std::string full = std::string(family.prefix) + name;
  for (const auto& lines : {family.names, hugging_face_names()})
    for (const TensorName& line : lines)
      if (line.pattern.starts_with(family.prefix) && full.starts_with(line.pattern.substr(0, line.pattern.find("{}"))))
        return full;
  return name;
}

constexpr Role gate_roles[] = {Role::drop_gate_q, Role::drop_gate_k, Role::drop_gate_bias};

/// The gate's tensors, by whatever names: transformer.h.0.attn.q_int.weight, blk.0.attn_q_int.weight …
bool is_gate(const Family& family, std::string_view name) {
  const auto spells = [&](const TensorName* line) { return follows(name, line->pattern); };
  return std::ranges::any_of(gate_roles, [&](Role role) {
    return std::ranges::any_of(hugging_face_spellings(family, role), spells) ||
           std::ranges::any_of(gguf_spellings(family, role), spells);
  });
}

/// The first layer's gate queries, whose shape tells the gate's dim.
StoredTensors::const_iterator find_gate(const Family& family, const StoredTensors& tensors) {
  for (const auto& lines :
       {hugging_face_spellings(family, Role::drop_gate_q), gguf_spellings(family, Role::drop_gate_q)})
    for (const TensorName* line : lines)
      if (const auto found = tensors.find(filled(line->pattern, 0) + ".weight"); found != tensors.end()) return found;
  return tensors.end();
}

void add(StoredTensors& tensors, std::string name, StoredTensor tensor) {
  const auto where = tensor.file->path().string();
  const auto [slot, added] = tensors.emplace(std::move(name), std::move(tensor));
  if (!added) fail(ErrorCode::model, where, "tensor " + in_quotes(slot->first) + " once", "it twice");
}

/// What a model of text and more calls the tensors of its text, and what that is called in a model of text.
constexpr std::pair<std::string_view, std::string_view> text_prefixes[] = {
    {"language_model.model.", "model."},
    {"model.language_model.", "model."},
    {"language_model.lm_head.", "lm_head."},
};

/// The tensors of what else it reads.
constexpr std::string_view other_prefixes[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                               "model.multi_modal_projector."};

/// The text's tensors alone, named as in a model of text.
StoredTensors of_text(StoredTensors&& all) {
  StoredTensors out;
  for (auto& [name, tensor] : all) {
    std::string text = name;
    if (std::ranges::any_of(other_prefixes, [&](std::string_view prefix) { return text.starts_with(prefix); }))
      continue;
    for (const auto& [prefix, plain] : text_prefixes)
      if (name.starts_with(prefix)) text = std::string(plain) + name.substr(prefix.size());
    add(out, std::move(text), std::move(tensor));
  }
  return out;
}

StoredTensor stored(const safetensors::File& file, const safetensors::Tensor& tensor) {
  const auto is_it = [&]<Block B>() { return !tensor.dtype.empty() && dtype(format_of<B>) == tensor.dtype; };
  const auto format = find_format(is_it);
  return {format.value_or(Format::f32), tensor.shape, tensor.bytes, file.file, tensor.dtype, format.has_value()};
}

/// A shard is a file beside its index: a name that leads anywhere else is refused, whatever is there.
void check_shard_name(const std::string& where, const std::string& shard) {
  if (shard.empty() || shard == "." || shard == ".." ||
      shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
    fail(ErrorCode::format, where, "the name of a file in the same directory", in_quotes(shard));
}

/// Shard by shard, the names of the tensors that the index looks for in it.
std::map<std::string, std::vector<std::string>> read_index(const fs::path& path) {
  const auto index = read_json(path);
  const auto where = path.string() + ": weight_map";
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object())
    fail(ErrorCode::format, where, "an object of tensor names and files",
         map == index.end() ? "no such key" : map->type_name());

  std::map<std::string, std::vector<std::string>> out;
  for (const auto& [tensor, shard] : map->items()) {
    const auto entry = where + ": " + in_quotes(tensor);
    if (!shard.is_string()) fail(ErrorCode::format, entry, "the name of a file", shard.type_name());
    check_shard_name(entry, shard.get<std::string>());
    out[shard.get<std::string>()].push_back(tensor);
  }
  return out;
}

void read_shards(const fs::path& directory, Access access, StoredTensors& tensors) {
  const auto index = directory / index_name;
  const auto shards = read_index(index);

  std::string missing;
  for (const auto& [shard, names] : shards)
    if (!present(directory / shard)) missing += (missing.empty() ? "" : ", ") + printable(shard);
  if (!missing.empty())
    fail(ErrorCode::file, index.string(), "all of its files in the directory", "missing: " + missing);

  for (const auto& [shard, names] : shards) {
    const auto file = safetensors::open(directory / shard, access);
    for (const auto& name : names) {
      const auto found = file.tensors.find(name);
      if (found == file.tensors.end())
        fail(ErrorCode::model, (directory / shard).string(), "tensor " + in_quotes(name) + ", as the index says",
             "no such tensor");
      add(tensors, name, stored(file, found->second));
    }
  }
}

void read_hugging_face(const fs::path& directory, Access access, StoredTensors& tensors) {
  if (present(directory / single_name)) {
    const auto file = safetensors::open(directory / single_name, access);
    for (const auto& [name, tensor] : file.tensors) add(tensors, name, stored(file, tensor));
    return;
  }
  if (present(directory / index_name)) return read_shards(directory, access, tensors);
  const bool pickled = present(directory / "pytorch_model.bin") || present(directory / "pytorch_model.bin.index.json");
  fail(ErrorCode::file, directory.string(), std::string(single_name) + " or " + std::string(index_name),
       pickled ? "only pytorch_model.bin; save the model as safetensors" : "neither");
}

StoredTensor stored(const gguf::Tensor& tensor) {
  const auto bytes =
      tensor.file->bytes().subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.bytes));
  const auto format = gguf::format_of(tensor.type);
  return {format.value_or(Format::f32), tensor.shape,      bytes, tensor.file,
          gguf::type_name(tensor.type), format.has_value()};
}

/// What weights can be made of, as files spell it.
std::string known_types() {
  std::string everywhere, in_gguf;
  for (const Format format : all_formats) {
    std::string& list = dtype(format).empty() ? in_gguf : everywhere;
    list.append(list.empty() ? "" : ", ").append(gguf::type_name(gguf::type_of(format)));
  }
  return everywhere + " or (in GGUF) " + in_gguf;
}

void read_gguf(const gguf::File& file, StoredTensors& tensors) {
  for (const auto& tensor : file.tensors) add(tensors, tensor.name, stored(tensor));
}

std::size_t alignment_of(Format format) {
  return visit(format, []<Block B>() { return alignof(B); });
}

std::shared_ptr<Tensor<std::byte>> owned(std::size_t bytes) {
  auto out = std::make_shared<Tensor<std::byte>>();
  out->resize(1, bytes);
  return out;
}

/// The transpose of `source`, rows x cols values, read through memcpy: the source may be misaligned.
template <class T>
void transpose(const std::byte* source, std::size_t rows, std::size_t cols, std::byte* out) {
  constexpr std::size_t side = 32;  // of a square that stays in the first-level cache
  for (std::size_t r0 = 0; r0 < rows; r0 += side)
    for (std::size_t c0 = 0; c0 < cols; c0 += side)
      for (std::size_t r = r0; r < std::min(rows, r0 + side); ++r)
        for (std::size_t c = c0; c < std::min(cols, c0 + side); ++c)
          std::memcpy(out + (c * rows + r) * sizeof(T), source + (r * cols + c) * sizeof(T), sizeof(T));
}

/// The first n numbers.
std::vector<float> decoded(const StoredTensor& tensor, std::size_t n) {
  std::vector<float> out(n);
  visit(tensor.format, [&]<Block B>() {
    constexpr std::size_t values = BlockTraits<B>::values;
    for (std::size_t i = 0; i < n / values; ++i) {
      B block;  // a copy: the tensor may be misaligned
      std::memcpy(&block, tensor.bytes.data() + i * sizeof(B), sizeof(B));
      BlockTraits<B>::decode(block, out.data() + i * values);
    }
  });
  return out;
}

/// A matrix [rows, cols] from a tensor stored as [cols, rows].
Matrix transposed(const StoredTensor& tensor, std::size_t rows, std::size_t cols) {
  if (block_values(tensor.format) > 1) {
    // Blocks run along the other side now: they are decoded, not quantised a second time.
    const auto values = decoded(tensor, rows * cols);
    const auto copy = owned(rows * cols * sizeof(float));
    transpose<float>(std::as_bytes(std::span(values)).data(), cols, rows, copy->data());
    return {Format::f32, rows, cols, (*copy)[0], copy};
  }
  const auto copy = owned(tensor.bytes.size());
  visit(tensor.format, [&]<Block B>() { transpose<B>(tensor.bytes.data(), cols, rows, copy->data()); });
  return {tensor.format, rows, cols, (*copy)[0], copy};
}

std::string tensor_where(const fs::path& path, std::string_view name) {
  return path.string() + ": tensor " + in_quotes(name);
}

/// What a model or its sidecar says of its gates, and where: read once it is known which of them counts.
struct GateText {
  std::string json;   // the object "drop_gate"
  std::string where;  // empty where nothing is said
};

enum class Reads { text, more };

GateText read_configs(const fs::path& directory, Config& config, Reads& reads) {
  const auto path = directory / "config.json", generation = directory / "generation_config.json";
  const auto json = read_json(path);
  config = read_config(json, path.string());
  if (present(generation)) read_generation_config(read_json(generation), generation.string(), config);
  reads = json.contains(text_config) ? Reads::more : Reads::text;
  const auto gate = json.find("drop_gate");
  if (gate == json.end() || gate->is_null()) return {};
  return {gate->dump(), path.string() + ": drop_gate"};
}

/// Puts a sidecar's gates in place of all that the model has, whatever else the sidecar holds. What it says of them in
/// its metadata goes before what the model says.
void lay_over(const fs::path& path, Access access, const Family& family, StoredTensors& tensors, GateText& gate) {
  const auto file = safetensors::open(path, access);
  std::erase_if(tensors, [&](const auto& entry) { return is_gate(family, entry.first); });
  bool any = false;
  for (const auto& [name, tensor] : file.tensors) {
    const std::string full = full_name(family, name);
    if (!is_gate(family, full)) continue;
    add(tensors, full, stored(file, tensor));
    any = true;
  }
  if (!any) {
    std::string names;
    for (const Role role : gate_roles)
      names.append(names.empty() ? "" : ", ").append(hugging_face_spellings(family, role).front()->pattern);
    fail(ErrorCode::model, path.string(), "tensors of gates (" + names + ")", "none");
  }
  if (const auto found = file.metadata.find("drop_gate"); found != file.metadata.end())
    gate = {found->second, path.string() + ": metadata: drop_gate"};
}

std::optional<DropGateConfig> resolve_gate(const GateText& gate, const Config& config, const Family& family,
                                           const StoredTensors& tensors) {
  const auto query = find_gate(family, tensors);
  if (gate.where.empty() && query == tensors.end()) return std::nullopt;

  DropGateConfig out;
  if (!gate.where.empty()) out = read_drop_gate(parse_json(gate.json, gate.where), gate.where);
  if (out.dim > 0) return out;  // tensors of another size are refused where they are asked for
  if (query == tensors.end()) fail(ErrorCode::model, gate.where + ": dim", "a positive integer", "no such key");
  const auto& shape = query->second.shape;
  const int gates = out.scope == GateScope::kv_head ? config.n_kv_heads : 1;
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > std::numeric_limits<int>::max() || shape[0] % gates != 0)
    fail(ErrorCode::model, tensor_where(query->second.file->path(), query->first),
         "shape [" + (gates > 1 ? std::to_string(gates) + " times the gate's dim" : std::string("gate dim")) +
             ", features]",
         shape_text(shape));
  out.dim = static_cast<int>(shape[0]) / gates;
  return out;
}

/// ggml's tensors that divide the first RoPE's frequencies, beside what the metadata says.
void read_rope_tensors(const Checkpoint& checkpoint, Config& config) {
  if (config.ropes.empty()) return;
  RopeConfig& rope = config.ropes.front();
  const auto all = std::exchange(rope.divisors, {});
  const auto divide = [&](std::string_view name, std::vector<float>& divisors) {
    if (!checkpoint.has(name)) return;
    divisors = checkpoint.vector(name, static_cast<std::size_t>(config.dim_of(rope) / 2));
    for (const float divisor : divisors)
      if (!std::isfinite(divisor) || !(divisor > 0.0f))
        fail(ErrorCode::model, tensor_where(checkpoint.path(), name), "positive numbers", std::to_string(divisor));
    for (std::size_t i = 0; i < all.size(); ++i) divisors[i] *= all[i];
  };
  rope.divisors = all;
  divide(rope_freqs, rope.divisors);
  divide(rope_short, rope.divisors);
  divide(rope_long, rope.long_divisors);
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& path, const std::optional<fs::path>& gates, Access access) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status))
    fail(ErrorCode::file, path.string(), "a Hugging Face directory or a .gguf file",
         error ? error.message() : std::string("nothing there"));
  refuse_part_of_directory(path);

  Checkpoint out;
  out.path_ = path;
  GateText gate;
  std::optional<fs::path> sidecar = gates;
  if (fs::is_directory(status)) {
    out.container_ = Container::hugging_face;
    Reads reads{};
    gate = read_configs(path, out.config_, reads);
    StoredTensors named;
    read_hugging_face(path, access, named);
    if (reads == Reads::more) named = of_text(std::move(named));
    for (auto& [name, tensor] : named)
      add(out.tensors_, full_name(family_of(out.config_.architecture), name), std::move(tensor));
    if (!sidecar && present(path / gates_name)) sidecar = path / gates_name;
  } else {
    const auto file = gguf::open(path, access);
    out.container_ = Container::gguf;
    if (file.find("drop_gate") != nullptr)
      gate = {file.get<std::string>("drop_gate"), path.string() + ": key \"drop_gate\""};
    out.config_ = read_config(file);
    read_gguf(file, out.tensors_);
    read_rope_tensors(out, out.config_);
  }
  const Family& family = family_of(out.config_.architecture);
  if (sidecar) lay_over(*sidecar, access, family, out.tensors_, gate);
  out.config_.gate = resolve_gate(gate, out.config_, family, out.tensors_);
  return out;
}

std::set<std::shared_ptr<const InputFile>> Checkpoint::files() const {
  std::set<std::shared_ptr<const InputFile>> out;
  for (const auto& [name, tensor] : tensors_) out.insert(tensor.file);
  return out;
}

Contents Contents::of(const fs::path& path) {
  refuse_part_of_directory(path);
  Contents out;
  if (std::error_code ignored; fs::is_directory(path, ignored)) {
    const auto config = read_json(path / "config.json");
    if (const auto type = config.find("model_type"); type != config.end() && type->is_string())
      out.architecture = type->get<std::string>();
    read_hugging_face(path, Access::mapped, out.tensors);
  } else {
    const auto file = gguf::open(path);
    out.architecture = file.get_or<std::string>("general.architecture", "");
    read_gguf(file, out.tensors);
  }
  return out;
}

const StoredTensor& Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(ErrorCode::model, path_.string(), "tensor " + in_quotes(name), "no such tensor");
  const StoredTensor& tensor = found->second;
  if (!tensor.supported)
    fail(ErrorCode::unsupported, tensor_where(tensor.file->path(), name), known_types(), printable(tensor.dtype));
  return tensor;
}

Matrix Checkpoint::matrix(std::string_view name, std::size_t rows, std::size_t cols, TensorName::Layout layout,
                          std::size_t experts) const {
  const StoredTensor& tensor = find(name);
  const bool turned = layout == TensorName::Layout::in_out;
  std::vector<std::int64_t> expected = {static_cast<std::int64_t>(turned ? cols : rows),
                                        static_cast<std::int64_t>(turned ? rows : cols)};
  if (experts > 0) {
    expected.front() /= static_cast<std::int64_t>(experts);
    expected.insert(expected.begin(), static_cast<std::int64_t>(experts));
  }
  if (tensor.shape != expected || rows == 0 || cols == 0)
    fail(ErrorCode::model, tensor_where(tensor.file->path(), name), "shape " + shape_text(expected),
         shape_text(tensor.shape));

  if (turned) return transposed(tensor, rows, cols);
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.bytes.data());
  if (address % alignment_of(tensor.format) == 0) return {tensor.format, rows, cols, tensor.bytes, tensor.file};
  const auto copy = owned(tensor.bytes.size());
  std::memcpy(copy->data(), tensor.bytes.data(), tensor.bytes.size());
  return {tensor.format, rows, cols, (*copy)[0], copy};
}

std::vector<float> Checkpoint::vector(std::string_view name, std::size_t n) const {
  const StoredTensor& tensor = find(name);
  const bool scalar = n == 1 && tensor.shape.empty();
  if (!scalar && tensor.shape != std::vector{static_cast<std::int64_t>(n)})
    fail(ErrorCode::model, tensor_where(tensor.file->path(), name), "shape [" + std::to_string(n) + "]",
         shape_text(tensor.shape));
  return decoded(tensor, n);
}

}  // namespace pith
