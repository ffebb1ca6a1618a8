// SPDX-License-Identifier: MIT
// Reading safetensors: 8 bytes of header length, the header, the data.
#include "files/safetensors.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "files/json.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline files::safetensors {

namespace {

using Json = nlohmann::json;

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t longest_header = 100'000'000;  // the format's own limit

struct Dtype {
  std::string_view name;
  std::uint64_t bits;
};

constexpr std::array dtypes = {
    Dtype{"BOOL", 8},    Dtype{"U8", 8},   Dtype{"I8", 8},      Dtype{"F8_E5M2", 8}, Dtype{"F8_E4M3", 8},
    Dtype{"F8_E8M0", 8}, Dtype{"F4", 4},   Dtype{"F6_E2M3", 6}, Dtype{"F6_E3M2", 6}, Dtype{"I16", 16},
    Dtype{"U16", 16},    Dtype{"F16", 16}, Dtype{"BF16", 16},   Dtype{"I32", 32},    Dtype{"U32", 32},
    Dtype{"F32", 32},    Dtype{"C64", 64}, Dtype{"F64", 64},    Dtype{"I64", 64},    Dtype{"U64", 64},
};

/// Byte range of a tensor behind the header.
struct Range {
  std::uint64_t begin, end;
  std::string_view name;
};

class Header {
 public:
  Header(std::string where, std::span<const std::byte> data) : where_(std::move(where)), data_(data) {}

  void read(const Json& header, File& out) {
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry, out);
      } else {
        out.tensors.emplace(name, read_tensor(name, entry));
      }
    }
    check_cover();
  }

 private:
  [[noreturn]] void refuse(std::string_view tensor, std::string_view expected, std::string_view found) const {
    fail(ErrorCode::format, where_ + ": tensor " + in_quotes(tensor), expected, found);
  }

  void read_metadata(const Json& entry, File& out) const {
    const auto where = where_ + ": __metadata__";
    if (!entry.is_object()) fail(ErrorCode::format, where, "an object of strings", entry.type_name());
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail(ErrorCode::format, where + ": " + in_quotes(key), "a string", value.type_name());
      out.metadata.emplace(key, value.get<std::string>());
    }
  }

  Tensor read_tensor(const std::string& name, const Json& entry) {
    if (!entry.is_object()) refuse(name, "an object", entry.type_name());
    const Json& dtype = field(name, entry, "dtype");
    if (!dtype.is_string()) refuse(name, "dtype as a string", dtype.type_name());

    Tensor tensor{dtype.get<std::string>(), {}, {}};
    const auto shape = counts(name, field(name, entry, "shape"), "shape");
    const auto offsets = counts(name, field(name, entry, "data_offsets"), "data_offsets");
    tensor.shape.assign(shape.begin(), shape.end());
    if (offsets.size() != 2 || offsets[0] > offsets[1])
      refuse(name, "data_offsets [begin, end], ascending", field(name, entry, "data_offsets").dump().substr(0, 100));
    const auto begin = static_cast<std::uint64_t>(offsets[0]), end = static_cast<std::uint64_t>(offsets[1]);
    if (end > data_.size())
      refuse(name, "offsets within the file's " + std::to_string(data_.size()) + " bytes of data", std::to_string(end));
    check_size(name, tensor, end - begin);

    ranges_.push_back({begin, end, name});
    tensor.bytes = data_.subspan(begin, end - begin);
    return tensor;
  }

  const Json& field(std::string_view tensor, const Json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) refuse(tensor, key, "no such key");
    return *found;
  }

  std::vector<std::int64_t> counts(std::string_view tensor, const Json& list, std::string_view what) const {
    const auto expected = std::string(what) + " as an array of counts";
    if (!list.is_array()) refuse(tensor, expected, list.type_name());
    std::vector<std::int64_t> out;
    for (const Json& item : list) {
      // What does not fit a signed 64-bit integer is a number_unsigned whose signed value is negative.
      if (!item.is_number_integer() || item.get<std::int64_t>() < 0) refuse(tensor, expected, printable(item.dump()));
      out.push_back(item.get<std::int64_t>());
    }
    return out;
  }

  /// Bytes that shape and dtype ask for; those of a dtype without a known size are taken as they are.
  void check_size(std::string_view name, const Tensor& tensor, std::uint64_t bytes) const {
    const auto dtype =
        std::find_if(dtypes.begin(), dtypes.end(), [&](const Dtype& d) { return d.name == tensor.dtype; });
    if (dtype == dtypes.end()) return;
    const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
    std::uint64_t bits = empty ? 0 : dtype->bits;
    for (const std::int64_t n : tensor.shape) {
      if (!empty && __builtin_mul_overflow(bits, static_cast<std::uint64_t>(n), &bits))
        refuse(name, "a shape that can be stored", "more than 2^64 bits");
    }
    if (bits % 8 != 0 || bits / 8 != bytes)
      refuse(name, std::to_string(bits / 8) + " bytes by its shape and dtype " + tensor.dtype, std::to_string(bytes));
  }

  void check_cover() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const Range& a, const Range& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    std::uint64_t covered = 0;
    for (const Range& range : ranges_) {
      if (range.begin < covered)
        refuse(range.name, "data of its own", "an overlap with another tensor at " + std::to_string(range.begin));
      if (range.begin > covered)
        refuse(range.name, "its data at " + std::to_string(covered) + ", where the last tensor ends",
               "a hole before " + std::to_string(range.begin));
      covered = range.end;
    }
    if (covered != data_.size())
      fail(ErrorCode::format, where_, std::to_string(covered) + " bytes of data, as its tensors say",
           std::to_string(data_.size()));
  }

  std::string where_;
  std::span<const std::byte> data_;
  std::vector<Range> ranges_;
};

}  // namespace

File open(const std::filesystem::path& path, Access access) {
  File out;
  out.file = InputFile::open(path, access);
  const auto where = path.string();
  const auto bytes = out.file->bytes();

  if (bytes.size() < length_bytes)
    fail(ErrorCode::format, where, "a safetensors file of at least 8 bytes", std::to_string(bytes.size()) + " bytes");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  const auto rest = bytes.subspan(length_bytes);
  if (length > std::min<std::uint64_t>(longest_header, rest.size()))
    fail(ErrorCode::format, where,
         "a header within the file and of at most " + std::to_string(longest_header) + " bytes",
         "a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(bytes.size()));

  const std::string_view text(reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(length));
  const auto header_where = where + ": header";
  if (!text.starts_with('{')) fail(ErrorCode::format, header_where, "a JSON object", in_quotes(text.substr(0, 16)));
  const Json header = parse_json(text, header_where);

  Header(where, rest.subspan(text.size())).read(header, out);
  out.file->check();
  return out;
}

}  // namespace pith::inline files::safetensors
