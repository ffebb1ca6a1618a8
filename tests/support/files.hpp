// SPDX-License-Identifier: MIT
// Files made for a test: a folder that goes away with it, and writers of the containers that pith reads.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pith/error.hpp"

namespace pith::test {

/// A fresh folder below testing::TempDir().
class TempFolder {
 public:
  TempFolder() {
    // Tests run as processes side by side, of several builds at times.
    std::string name = ::testing::TempDir() + "pith-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error(name + ": cannot be created");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Writes a file in the folder and returns where it is.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    auto path = path_ / name;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

 private:
  std::filesystem::path path_;
};

/// Runs `f`, which must throw an Error of this code whose message contains all of these.
template <class F>
void expect_error(ErrorCode code, const std::vector<std::string>& parts, F&& f) {
  try {
    f();
    ADD_FAILURE() << "no error; wanted one that says " << ::testing::PrintToString(parts);
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), name(code)) << error.what();
    for (const auto& part : parts) EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

/// A number's bytes, little-endian (as are the machines these tests run on).
template <class T>
std::string raw(T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  std::string bytes;
  for (const T& value : values) bytes += raw(value);
  return bytes;
}

/// A safetensors file of this header text and these bytes of data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  return raw(std::uint64_t{header.size()}) + std::string(header) + std::string(data);
}

/// Collects tensors into a safetensors file, one behind the other.
class SafetensorsWriter {
 public:
  SafetensorsWriter& add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape,
                         const std::string& bytes) {
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
    return *this;
  }

  SafetensorsWriter& f32(const std::string& name, const std::vector<std::int64_t>& shape, float first = 0.0f) {
    std::int64_t n = 1;
    for (const auto side : shape) n *= side;
    std::vector<float> values;
    for (std::int64_t i = 0; i < n; ++i) values.push_back(first + static_cast<float>(i));
    return add(name, "F32", shape, raw(values));
  }

  SafetensorsWriter& metadata(const std::string& key, const std::string& value) {
    header_["__metadata__"][key] = value;
    return *this;
  }

  /// `padding` spaces end the header, which shifts where the data lie.
  std::string bytes(std::size_t padding = 0) const {
    return safetensors_bytes(header_.dump() + std::string(padding, ' '), data_);
  }

 private:
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
};

/// Collects metadata and tensors into a GGUF file.
class GgufWriter {
 public:
  GgufWriter& u32(const std::string& key, std::uint32_t value) { return put(key, 4, raw(value)); }
  GgufWriter& f32(const std::string& key, float value) { return put(key, 6, raw(value)); }
  GgufWriter& flag(const std::string& key, bool value) { return put(key, 7, raw(static_cast<char>(value))); }
  GgufWriter& text(const std::string& key, const std::string& value) { return put(key, 8, string(value)); }
  GgufWriter& texts(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = raw(std::uint32_t{8}) + raw(std::uint64_t{values.size()});
    for (const auto& value : values) bytes += string(value);
    return put(key, 9, bytes);
  }
  /// Any type and bytes, honest or not.
  GgufWriter& put(const std::string& key, std::uint32_t type, const std::string& bytes) {
    keys_ += string(key) + raw(type) + bytes;
    ++n_keys_;
    return *this;
  }

  /// `sides` as ggml has them, innermost first.
  GgufWriter& tensor(const std::string& name, const std::vector<std::uint64_t>& sides, std::uint32_t type,
                     const std::string& bytes) {
    return tensor_at(name, sides, type, bytes, data_.size());
  }
  GgufWriter& tensor_at(const std::string& name, const std::vector<std::uint64_t>& sides, std::uint32_t type,
                        const std::string& bytes, std::uint64_t offset) {
    tensors_ += string(name) + raw(static_cast<std::uint32_t>(sides.size())) + raw(sides) + raw(type) + raw(offset);
    ++n_tensors_;
    data_ += bytes;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  GgufWriter& tensor_f32(const std::string& name, const std::vector<std::uint64_t>& sides, float first = 0.0f) {
    std::uint64_t n = 1;
    for (const auto side : sides) n *= side;
    std::vector<float> values;
    for (std::uint64_t i = 0; i < n; ++i) values.push_back(first + static_cast<float>(i));
    return tensor(name, sides, 0, raw(values));
  }

  std::string bytes(std::uint32_t version = 3) const {
    std::string out = "GGUF" + raw(version) + raw(n_tensors_) + raw(n_keys_) + keys_ + tensors_;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

  static std::string string(std::string_view text) { return raw(std::uint64_t{text.size()}) + std::string(text); }

 private:
  static constexpr std::size_t alignment = 32;
  std::uint64_t n_keys_ = 0, n_tensors_ = 0;
  std::string keys_, tensors_, data_;
};

}  // namespace pith::test
