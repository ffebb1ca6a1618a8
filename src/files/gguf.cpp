// SPDX-License-Identifier: MIT
// Reading GGUF. Every count is checked against the bytes that are left before anything is allocated for it.
#include "files/gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <span>
#include <type_traits>
#include <utility>

#include "files/model_files.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline files::gguf {

namespace {

// Bounds on what a sane file holds, so that a lying one cannot make us allocate without measure.
constexpr std::size_t most_metadata_bytes = std::size_t{1} << 29;  // of the file, up to the tensors' data
constexpr std::uint64_t most_elements = 1u << 22;                  // of all arrays together; vocabularies have < 2^19
constexpr std::uint64_t most_tensors = 1u << 20;
constexpr std::uint32_t most_dimensions = 4;  // ggml's own limit
constexpr int deepest_array = 4;
constexpr std::uint64_t default_alignment = 32;

enum class Kind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
constexpr std::array<std::string_view, 13> kind_names = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                         "bool", "string", "array", "u64", "i64", "f64"};
constexpr std::array<std::uint64_t, 13> least_bytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

/// ggml's tensor types, more than pith's formats: numbers and bytes of a block.
struct TypeInfo {
  std::uint32_t type;
  std::string_view name;
  std::uint64_t values, bytes;
};

constexpr std::array types = {
    TypeInfo{0, "F32", 1, 4},         TypeInfo{1, "F16", 1, 2},         TypeInfo{2, "Q4_0", 32, 18},
    TypeInfo{3, "Q4_1", 32, 20},      TypeInfo{6, "Q5_0", 32, 22},      TypeInfo{7, "Q5_1", 32, 24},
    TypeInfo{8, "Q8_0", 32, 34},      TypeInfo{9, "Q8_1", 32, 36},      TypeInfo{10, "Q2_K", 256, 84},
    TypeInfo{11, "Q3_K", 256, 110},   TypeInfo{12, "Q4_K", 256, 144},   TypeInfo{13, "Q5_K", 256, 176},
    TypeInfo{14, "Q6_K", 256, 210},   TypeInfo{15, "Q8_K", 256, 292},   TypeInfo{16, "IQ2_XXS", 256, 66},
    TypeInfo{17, "IQ2_XS", 256, 74},  TypeInfo{18, "IQ3_XXS", 256, 98}, TypeInfo{19, "IQ1_S", 256, 50},
    TypeInfo{20, "IQ4_NL", 32, 18},   TypeInfo{21, "IQ3_S", 256, 110},  TypeInfo{22, "IQ2_S", 256, 82},
    TypeInfo{23, "IQ4_XS", 256, 136}, TypeInfo{24, "I8", 1, 1},         TypeInfo{25, "I16", 1, 2},
    TypeInfo{26, "I32", 1, 4},        TypeInfo{27, "I64", 1, 8},        TypeInfo{28, "F64", 1, 8},
    TypeInfo{29, "IQ1_M", 256, 56},   TypeInfo{30, "BF16", 1, 2},       TypeInfo{34, "TQ1_0", 256, 54},
    TypeInfo{35, "TQ2_0", 256, 66},   TypeInfo{39, "MXFP4", 32, 17},
};

constexpr const TypeInfo* info(std::uint32_t type) {
  const auto found = std::find_if(types.begin(), types.end(), [&](const TypeInfo& t) { return t.type == type; });
  return found == types.end() ? nullptr : &*found;
}

/// Is a block type what ggml's table says?
template <Block B>
constexpr bool is_in_table = [] {
  const TypeInfo* found = info(BlockTraits<B>::ggml_type);
  return found != nullptr && found->values == BlockTraits<B>::values && found->bytes == sizeof(B) &&
         std::ranges::equal(found->name, BlockTraits<B>::name,
                            [](char upper, char c) { return upper == (c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c); });
}();
static_assert([]<class... B>(TypeList<B...>) { return (is_in_table<B> && ...); }(Formats()));

/// Walks the file from its start; every step is checked.
class Reader {
 public:
  explicit Reader(const InputFile& file)
      : where_(file.path().string()), bytes_(file.bytes().first(std::min(file.bytes().size(), most_metadata_bytes))) {}

  const std::string& where() const { return where_; }
  std::size_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }
  std::span<const std::byte> since(std::size_t begin) const { return bytes_.subspan(begin, position_ - begin); }

  template <class T>
  T number(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    const auto raw = take(sizeof(T), what);
    std::array<std::byte, sizeof(T)> little;
    std::copy(raw.begin(), raw.end(), little.begin());
    if constexpr (std::endian::native == std::endian::big) std::reverse(little.begin(), little.end());
    return std::bit_cast<T>(little);
  }

  std::string string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const auto raw = take(length, what);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  Value value(std::string_view key) { return value(kind(key), key, 0); }

  [[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view found) const {
    fail(ErrorCode::format, where_ + ": " + std::string(what), expected, found);
  }

 private:
  std::span<const std::byte> take(std::uint64_t n, std::string_view what) {
    if (n > left())
      refuse(what, std::to_string(n) + " bytes at byte " + std::to_string(position_),
             bytes_.size() < most_metadata_bytes ? std::to_string(left()) + " to the end of the file"
                                                 : std::to_string(left()) + " to where metadata must end");
    const auto out = bytes_.subspan(position_, static_cast<std::size_t>(n));
    position_ += out.size();
    return out;
  }

  Kind kind(std::string_view key) {
    const auto number_of = number<std::uint32_t>(key);
    if (number_of >= kind_names.size()) refuse(key, "a value type from 0 to 12", std::to_string(number_of));
    return static_cast<Kind>(number_of);
  }

  Value value(Kind kind_of, std::string_view key, int depth) {
    switch (kind_of) {
      case Kind::u8:
        return std::int64_t{number<std::uint8_t>(key)};
      case Kind::i8:
        return std::int64_t{number<std::int8_t>(key)};
      case Kind::u16:
        return std::int64_t{number<std::uint16_t>(key)};
      case Kind::i16:
        return std::int64_t{number<std::int16_t>(key)};
      case Kind::u32:
        return std::int64_t{number<std::uint32_t>(key)};
      case Kind::i32:
        return std::int64_t{number<std::int32_t>(key)};
      case Kind::u64:
        return number<std::uint64_t>(key);
      case Kind::i64:
        return number<std::int64_t>(key);
      case Kind::f32:
        return static_cast<double>(number<float>(key));
      case Kind::f64:
        return number<double>(key);
      case Kind::string:
        return string(key);
      case Kind::array:
        return array(key, depth + 1);
      case Kind::boolean:
        break;
    }
    const auto byte = number<std::uint8_t>(key);
    if (byte > 1) refuse(key, "a bool of 0 or 1", std::to_string(byte));
    return byte == 1;
  }

  Array array(std::string_view key, int depth) {
    if (depth > deepest_array)
      refuse(key, "arrays nested at most " + std::to_string(deepest_array) + " deep", "deeper nesting");
    const Kind kind_of = kind(key);
    const auto count = number<std::uint64_t>(key);
    const auto least = least_bytes[static_cast<std::size_t>(kind_of)];
    if (count > left() / least)
      refuse(key, "an array within the file",
             std::to_string(count) + " elements in " + std::to_string(left()) + " bytes");
    if (count > most_elements - elements_)
      refuse(key, "at most " + std::to_string(most_elements) + " array elements in a file",
             std::to_string(count) + " more");
    elements_ += count;

    Array out;
    out.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) out.push_back(value(kind_of, key, depth));
    return out;
  }

  std::string where_;
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  std::uint64_t elements_ = 0;  // of all arrays so far
};

std::uint32_t read_version(Reader& reader) {
  constexpr std::string_view magic = "GGUF";
  std::string found;
  for (std::size_t i = 0; i < magic.size() && reader.left() > 0; ++i) found += reader.number<char>("magic");
  if (found != magic) reader.refuse("magic", "\"GGUF\"", in_quotes(found));

  const auto version = reader.number<std::uint32_t>("version");
  const auto unsupported = [&](std::string_view what) {
    fail(ErrorCode::unsupported, reader.where(), "GGUF version 2 or 3, little-endian", what);
  };
  if (version == 1) unsupported("version 1; convert the model again");
  // The bytes of a small number in the other order make a huge one.
  if (version != 0 && (version & 0xffffu) == 0) unsupported("a big-endian file");
  if (version != 2 && version != 3) unsupported("version " + std::to_string(version));
  return version;
}

void read_metadata(Reader& reader, std::uint64_t count, File& out) {
  for (std::uint64_t i = 0; i < count; ++i) {
    auto key = reader.string("a metadata key");
    const auto what = "key " + in_quotes(key);
    const std::size_t begin = reader.position();
    Value value = reader.value(what);
    out.encoded.emplace(key, reader.since(begin));
    if (!out.metadata.emplace(std::move(key), std::move(value)).second) reader.refuse(what, "it once", "it twice");
  }
}

std::uint64_t read_alignment(const Reader& reader, const File& file) {
  const auto alignment = file.get_or<std::int64_t>("general.alignment", default_alignment);
  if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment)))
    reader.refuse("key \"general.alignment\"", "a power of two", std::to_string(alignment));
  return static_cast<std::uint64_t>(alignment);
}

/// What a tensor's type says of its size; 0 for a type that is not known.
std::uint64_t size_of(const Reader& reader, const Tensor& tensor, std::string_view what) {
  std::uint64_t numbers = 1;
  for (const std::int64_t n : tensor.shape) {
    if (__builtin_mul_overflow(numbers, static_cast<std::uint64_t>(n), &numbers) ||
        numbers > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
      reader.refuse(what, "dimensions whose product is below 2^63", "a larger product");
  }
  const TypeInfo* type = info(tensor.type);
  if (type == nullptr) return 0;
  const auto row = tensor.shape.empty() ? 1 : static_cast<std::uint64_t>(tensor.shape.back());
  if (row % type->values != 0)
    reader.refuse(what,
                  "rows of a multiple of " + std::to_string(type->values) + " numbers for " + std::string(type->name),
                  std::to_string(row));
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(numbers / type->values, type->bytes, &bytes))
    reader.refuse(what, "less than 2^64 bytes", std::to_string(numbers) + " numbers of " + std::string(type->name));
  return bytes;
}

Tensor read_tensor(Reader& reader) {
  Tensor tensor;
  tensor.name = reader.string("a tensor's name");
  const auto what = "tensor " + in_quotes(tensor.name);
  const auto dimensions = reader.number<std::uint32_t>(what);
  if (dimensions > most_dimensions)
    reader.refuse(what, "at most " + std::to_string(most_dimensions) + " dimensions", std::to_string(dimensions));
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto n = reader.number<std::uint64_t>(what);
    if (n == 0 || n > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
      reader.refuse(what, "positive dimensions", std::to_string(n));
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(n));
  }
  tensor.type = reader.number<std::uint32_t>(what);
  tensor.offset = reader.number<std::uint64_t>(what);  // from the start of the data, until that is known
  tensor.bytes = size_of(reader, tensor, what);
  return tensor;
}

/// Makes offsets count from the start of the file, and checks that the data lie in it, aligned and apart.
void place(const Reader& reader, std::uint64_t file_bytes, std::uint64_t alignment, std::vector<Tensor>& tensors) {
  const std::uint64_t position = reader.position();
  const std::uint64_t padding = (alignment - position % alignment) % alignment;
  // A file that ends with its directory need not pad it.
  const std::uint64_t start = padding > file_bytes - position ? file_bytes : position + padding;

  std::vector<const Tensor*> order;
  for (Tensor& tensor : tensors) {
    const auto what = "tensor " + in_quotes(tensor.name);
    if (tensor.offset % alignment != 0)
      reader.refuse(what, "an offset that is a multiple of " + std::to_string(alignment),
                    std::to_string(tensor.offset));
    if (tensor.offset > file_bytes - start || tensor.bytes > file_bytes - start - tensor.offset)
      reader.refuse(what, "data within the file's " + std::to_string(file_bytes) + " bytes",
                    std::to_string(tensor.bytes) + " bytes at offset " + std::to_string(tensor.offset) +
                        " behind byte " + std::to_string(start));
    tensor.offset += start;
    if (tensor.bytes > 0) order.push_back(&tensor);
  }

  std::sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const Tensor &before = *order[i - 1], &tensor = *order[i];
    if (before.offset + before.bytes > tensor.offset)
      reader.refuse("tensor " + in_quotes(tensor.name), "data of its own",
                    "an overlap with tensor " + in_quotes(before.name));
  }
}

std::string_view kind_name(const Value& value) {
  constexpr std::array<std::string_view, 6> names = {"an integer", "an integer", "a float",
                                                     "a bool",     "a string",   "an array"};
  return names[value.index()];
}

/// `value` as a T, if it is one: integers of every size are one type, and are floats where floats are asked for.
template <class T>
bool convert(const Value& value, T& out) {
  if constexpr (std::is_same_v<T, std::int64_t>) {
    if (const auto* u = std::get_if<std::uint64_t>(&value); u != nullptr && std::in_range<std::int64_t>(*u)) {
      out = static_cast<std::int64_t>(*u);
      return true;
    }
  } else if constexpr (std::is_same_v<T, double>) {
    std::int64_t integer = 0;
    if (convert(value, integer)) {
      out = static_cast<double>(integer);
      return true;
    }
  }
  const T* exact = std::get_if<T>(&value);
  if (exact != nullptr) out = *exact;
  return exact != nullptr;
}

template <class T>
constexpr std::string_view wanted = "an integer below 2^63";
template <>
constexpr std::string_view wanted<double> = "a number";
template <>
constexpr std::string_view wanted<bool> = "a bool";
template <>
constexpr std::string_view wanted<std::string> = "a string";

[[noreturn]] void refuse_key(const File& file, std::string_view key, std::string_view expected,
                             std::string_view found) {
  fail(ErrorCode::model, file.where + ": key " + in_quotes(key), expected, found);
}

}  // namespace

std::string type_name(std::uint32_t type) {
  const TypeInfo* found = info(type);
  return found == nullptr ? "ggml type " + std::to_string(type) : std::string(found->name);
}

std::uint32_t type_of(Format format) {
  return visit(format, []<Block B>() { return BlockTraits<B>::ggml_type; });
}

std::optional<Format> format_of(std::uint32_t type) {
  return find_format([&]<Block B>() { return BlockTraits<B>::ggml_type == type; });
}

const Value* File::find(std::string_view key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

template <class T>
T File::get(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) refuse_key(*this, key, wanted<T>, "no such key");
  T out{};
  if (!convert(*value, out)) refuse_key(*this, key, wanted<T>, kind_name(*value));
  return out;
}

template <class T>
T File::get_or(std::string_view key, T fallback) const {
  return find(key) == nullptr ? fallback : get<T>(key);
}

template <class T>
std::vector<T> File::array(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return {};
  const Array* elements = std::get_if<Array>(value);
  if (elements == nullptr) refuse_key(*this, key, "an array", kind_name(*value));
  std::vector<T> out;
  out.reserve(elements->size());
  for (const Value& element : *elements) {
    T converted{};
    if (!convert(element, converted))
      refuse_key(*this, key, "an array, each element " + std::string(wanted<T>), kind_name(element));
    out.push_back(std::move(converted));
  }
  return out;
}

template std::int64_t File::get(std::string_view) const;
template double File::get(std::string_view) const;
template bool File::get(std::string_view) const;
template std::string File::get(std::string_view) const;
template std::int64_t File::get_or(std::string_view, std::int64_t) const;
template double File::get_or(std::string_view, double) const;
template bool File::get_or(std::string_view, bool) const;
template std::string File::get_or(std::string_view, std::string) const;
template std::vector<std::int64_t> File::array(std::string_view) const;
template std::vector<double> File::array(std::string_view) const;
template std::vector<bool> File::array(std::string_view) const;
template std::vector<std::string> File::array(std::string_view) const;

namespace {

File open_part(const std::filesystem::path& path, Access access) {
  File out;
  out.file = InputFile::open(path, access);
  out.where = path.string();
  Reader reader(*out.file);

  out.version = read_version(reader);
  const auto tensors = reader.number<std::uint64_t>("the number of tensors");
  const auto keys = reader.number<std::uint64_t>("the number of metadata keys");
  constexpr std::uint64_t least_key = 8 + 4 + 1, least_tensor = 8 + 4 + 4 + 8;
  if (keys > reader.left() / least_key)
    reader.refuse("the number of metadata keys", "as many as fit the file", std::to_string(keys));
  if (tensors > std::min(most_tensors, reader.left() / least_tensor))
    reader.refuse("the number of tensors", "as many as fit the file, and at most " + std::to_string(most_tensors),
                  std::to_string(tensors));

  read_metadata(reader, keys, out);
  const auto alignment = read_alignment(reader, out);

  std::set<std::string, std::less<>> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    out.tensors.push_back(read_tensor(reader));
    const auto& name = out.tensors.back().name;
    if (!names.insert(name).second) reader.refuse("tensor " + in_quotes(name), "it once", "it twice");
  }
  place(reader, out.file->bytes().size(), alignment, out.tensors);
  for (Tensor& tensor : out.tensors) tensor.file = out.file;
  out.file->check();
  return out;
}

std::int64_t parts_of(const File& file) { return file.get_or<std::int64_t>("split.count", 1); }

/// The part that `path` says it is, of as many as it says: both are said by the metadata, too.
File open_part(const SplitName& name, int part, std::int64_t parts, Access access) {
  File out = open_part(name.part(part), access);
  const auto number = out.get_or<std::int64_t>("split.no", 0) + 1;
  if (number != part || parts_of(out) != parts)
    fail(ErrorCode::model, out.where, "part " + std::to_string(part) + " of " + std::to_string(parts),
         "part " + std::to_string(number) + " of " + std::to_string(parts_of(out)));
  return out;
}

void add_tensors(File& whole, File&& part, std::set<std::string, std::less<>>& names) {
  for (Tensor& tensor : part.tensors) {
    if (!names.insert(tensor.name).second)
      fail(ErrorCode::model, part.where, "tensor " + in_quotes(tensor.name) + " once", "it twice");
    whole.tensors.push_back(std::move(tensor));
  }
}

}  // namespace

File open(const std::filesystem::path& path, Access access) {
  File file = open_part(path, access);
  const std::int64_t parts = parts_of(file);
  if (parts == 1) return file;
  const auto name = SplitName::of(path);
  if (!name || name->parts != parts)
    fail(ErrorCode::file, file.where, "a name that ends as that of one of " + std::to_string(parts) + " parts does",
         in_quotes(path.filename().string()));

  std::string missing;
  for (int part = 1; part <= name->parts; ++part)
    if (std::error_code ignored; !std::filesystem::exists(name->part(part), ignored))
      missing += (missing.empty() ? "" : ", ") + name->part(part).filename().string();
  if (!missing.empty())
    fail(ErrorCode::file, file.where, "all " + std::to_string(parts) + " parts of the model beside it",
         "missing: " + missing);

  File whole = open_part(*name, 1, parts, access);
  std::set<std::string, std::less<>> names;
  for (const Tensor& tensor : whole.tensors) names.insert(tensor.name);
  for (int part = 2; part <= name->parts; ++part) add_tensors(whole, open_part(*name, part, parts, access), names);
  const auto tensors = static_cast<std::int64_t>(whole.tensors.size());
  if (const auto said = whole.get_or<std::int64_t>("split.tensors.count", tensors); said != tensors)
    fail(ErrorCode::model, whole.where, std::to_string(said) + " tensors in all parts", std::to_string(tensors));
  return whole;
}

}  // namespace pith::inline files::gguf
