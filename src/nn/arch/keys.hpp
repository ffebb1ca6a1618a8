// SPDX-License-Identifier: MIT
// The keys of config.json and of a GGUF's metadata, read with type and range checks.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "files/gguf.hpp"
#include "files/gguf_writer.hpp"
#include "files/json.hpp"
#include "nn/arch/names.hpp"

namespace pith::inline nn {

// No model comes near these; below them no product of two of a config's numbers overflows.
inline constexpr std::int64_t most_layers = 1 << 14;
inline constexpr std::int64_t most_heads = 1 << 14;
inline constexpr std::int64_t most_experts = 1 << 12;
inline constexpr std::int64_t most_features = 1 << 24;  // of a row of activations
inline constexpr std::int64_t most_tokens = 1 << 26;    // in a vocabulary
inline constexpr std::int64_t most_positions = std::numeric_limits<std::int32_t>::max();

[[noreturn]] void unsupported(std::string_view where, std::string_view expected, std::string_view found);

/// An object's keys. One that is null counts as absent, as it does in transformers.
class Keys {
 public:
  Keys(const nlohmann::json& object, std::string_view where);

  std::string where(std::string_view key) const { return where_ + ": " + std::string(key); }
  const nlohmann::json* find(std::string_view key) const;
  bool is_null(std::string_view key) const;
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

  int count(std::string_view key, std::int64_t most, std::int64_t least = 1) const;
  int count_or(std::string_view key, std::int64_t most, int fallback, std::int64_t least = 1) const;
  double number(std::string_view key) const;
  double number_or(std::string_view key, double fallback) const;
  double positive(std::string_view key) const;
  double positive_or(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;
  /// A list of n positive numbers.
  std::vector<float> positives(std::string_view key, std::size_t n) const;
  /// An integer or a list of integers; empty when absent.
  std::vector<std::int64_t> tokens(std::string_view key) const;

  /// Throws Error (unsupported) where the flag is there and says otherwise.
  void refuse_unless(std::string_view key, bool supported) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

/// A GGUF's keys below the name of its architecture.
class GgufKeys {
 public:
  GgufKeys(const gguf::File& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + '.') {}

  std::string where(std::string_view key) const;
  bool has(std::string_view key) const { return file_.find(full(key)) != nullptr; }
  /// The tensor with this role, of a layer where layers have one; null where there is none.
  const gguf::Tensor* tensor(Role role, std::string_view suffix, std::size_t layer = 0) const;
  bool has_tensor(Role role, std::string_view suffix, std::size_t layer = 0) const {
    return tensor(role, suffix, layer) != nullptr;
  }

  bool has_tensor(std::string_view name) const;

  /// One number for all layers, be it said once or for each.
  int count(std::string_view key, std::int64_t most) const;
  int count_or(std::string_view key, std::int64_t most, int fallback) const;
  /// [layer] said once for all of them, or for each.
  std::vector<int> counts(std::string_view key, std::int64_t most, std::size_t layers) const;
  /// [layer] said for each, or by a period, whose last layer is not meant (1: none is, 0: all are); absent: `period`.
  std::vector<bool> pattern(std::string_view key, int period, std::size_t layers) const;
  float positive(std::string_view key) const;
  float positive_or(std::string_view key, float fallback) const;
  /// Positive; 0 counts as absent.
  float nonzero_or(std::string_view key, float fallback) const;
  bool flag_or(std::string_view key, bool fallback) const { return file_.get_or(full(key), fallback); }
  std::string text_or(std::string_view key, std::string fallback) const;
  /// Keys for which 0 means that there is nothing of the kind.
  bool nonzero(std::string_view key) const { return file_.get_or<std::int64_t>(full(key), 0) != 0; }

 private:
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  bool is_array(std::string_view key) const;
  void check_length(std::string_view key, std::size_t found, std::size_t layers) const;

  const gguf::File& file_;
  std::string prefix_;
};

/// Writes them.
class GgufKeysOut {
 public:
  /// `where` names the model in errors.
  GgufKeysOut(gguf::Writer& writer, std::string_view architecture, std::string_view where)
      : writer_(writer), prefix_(std::string(architecture) + '.'), where_(where) {
    written_.where = where_ + ": as a GGUF";
  }

  void add(std::string_view key, int n);
  void add(std::string_view key, float x);
  void add(std::string_view key, bool flag);
  void add(std::string_view key, const char* text);
  void add(std::string_view key, const std::vector<int>& counts);
  void add(std::string_view key, const std::vector<bool>& flags);

  /// What has been added, as reading it would give it; without tensors.
  const gguf::File& written() const { return written_; }

  /// Refuses what there is no key for.
  [[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view found) const;

 private:
  template <class T>
  void put(std::string_view key, const T& encoded, gguf::Value value);

  gguf::Writer& writer_;
  std::string prefix_, where_;
  gguf::File written_;
};

}  // namespace pith::inline nn
