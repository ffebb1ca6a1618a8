// SPDX-License-Identifier: MIT
#include "nn/arch/keys.hpp"

#include <algorithm>
#include <cmath>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline nn {

namespace {

using Json = nlohmann::json;

/// Everything is computed in f32 in the end.
bool fits_float(double value) { return std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()); }

}  // namespace

void unsupported(std::string_view where, std::string_view expected, std::string_view found) {
  fail(ErrorCode::unsupported, where, expected, found);
}

Keys::Keys(const Json& object, std::string_view where) : object_(object), where_(where) {
  if (!object.is_object()) fail(ErrorCode::model, where_, "a JSON object", object.type_name());
}

const Json* Keys::find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool Keys::is_null(std::string_view key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

void Keys::refuse(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  fail(ErrorCode::model, where(key), expected, value == nullptr ? "no such key" : printable(value->dump()));
}

int Keys::count(std::string_view key, std::int64_t most, std::int64_t least) const {
  const Json* value = find(key);
  std::int64_t n = 0;
  // Beyond int64, get() wraps to a negative number; floats are not taken for integers.
  if (value != nullptr && value->is_number_integer()) n = value->get<std::int64_t>();
  if (value == nullptr || !value->is_number_integer() || n < least || n > most)
    refuse(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
  return static_cast<int>(n);
}

int Keys::count_or(std::string_view key, std::int64_t most, int fallback, std::int64_t least) const {
  return find(key) == nullptr ? fallback : count(key, most, least);
}

double Keys::number(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_number() || !fits_float(value->get<double>())) refuse(key, "a finite number");
  return value->get<double>();
}

double Keys::number_or(std::string_view key, double fallback) const {
  return find(key) == nullptr ? fallback : number(key);
}

double Keys::positive_or(std::string_view key, double fallback) const {
  const double value = number_or(key, fallback);
  if (!(static_cast<float>(value) > 0.0f)) refuse(key, "a positive number");
  return value;
}

double Keys::positive(std::string_view key) const {
  number(key);
  return positive_or(key, 1.0);
}

bool Keys::flag(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

std::string Keys::text(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_string()) refuse(key, "a string");
  return value->get<std::string>();
}

std::string Keys::text_or(std::string_view key, std::string_view fallback) const {
  return find(key) == nullptr ? std::string(fallback) : text(key);
}

std::vector<float> Keys::positives(std::string_view key, std::size_t n) const {
  const Json* value = find(key);
  const auto is_positive = [](const Json& x) {
    return x.is_number() && fits_float(x.get<double>()) && static_cast<float>(x.get<double>()) > 0.0f;
  };
  if (value == nullptr || !value->is_array() || value->size() != n || !std::ranges::all_of(*value, is_positive))
    refuse(key, "a list of " + std::to_string(n) + " positive numbers");
  return value->get<std::vector<float>>();
}

std::vector<std::int64_t> Keys::tokens(std::string_view key) const {
  const Json* value = find(key);
  std::vector<std::int64_t> out;
  if (value == nullptr) return out;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer()) refuse(key, "a token id or a list of them");
    out.push_back(id.get<std::int64_t>());
  };
  if (value->is_array()) {
    std::for_each(value->begin(), value->end(), add);
  } else {
    add(*value);
  }
  return out;
}

void Keys::refuse_unless(std::string_view key, bool supported) const {
  if (flag(key, supported) != supported)
    unsupported(where(key), supported ? "true" : "false", supported ? "false" : "true");
}

std::string GgufKeys::where(std::string_view key) const { return file_.where + ": key " + in_quotes(full(key)); }

const gguf::Tensor* GgufKeys::tensor(Role role, std::string_view suffix, std::size_t layer) const {
  for (const TensorName& line : gguf_names()) {
    if (!line.holds(role)) continue;
    const auto found =
        std::ranges::find(file_.tensors, filled(line.pattern, layer).append(suffix), &gguf::Tensor::name);
    if (found != file_.tensors.end()) return &*found;
  }
  return nullptr;
}

bool GgufKeys::has_tensor(std::string_view name) const {
  return std::ranges::find(file_.tensors, name, &gguf::Tensor::name) != file_.tensors.end();
}

int GgufKeys::count(std::string_view key, std::int64_t most) const {
  const bool each = is_array(key);
  const auto all = counts(key, most, each ? static_cast<std::size_t>(count("block_count", most_layers)) : 1);
  for (const int n : all)
    if (n != all.front())
      unsupported(where(key), "the same for all layers", std::to_string(all.front()) + " and " + std::to_string(n));
  return all.front();
}

bool GgufKeys::is_array(std::string_view key) const {
  const gguf::Value* value = file_.find(full(key));
  return value != nullptr && std::holds_alternative<gguf::Array>(*value);
}

void GgufKeys::check_length(std::string_view key, std::size_t found, std::size_t layers) const {
  if (found != layers)
    fail(ErrorCode::model, where(key), "one for each of the " + std::to_string(layers) + " layers",
         std::to_string(found));
}

std::vector<int> GgufKeys::counts(std::string_view key, std::int64_t most, std::size_t layers) const {
  std::vector<int> out;
  const auto add = [&](std::int64_t n) {
    if (n < 1 || n > most)
      fail(ErrorCode::model, where(key), "an integer from 1 to " + std::to_string(most), std::to_string(n));
    out.push_back(static_cast<int>(n));
  };
  if (is_array(key)) {
    const auto all = file_.array<std::int64_t>(full(key));
    check_length(key, all.size(), layers);
    std::ranges::for_each(all, add);
  } else {
    add(file_.get<std::int64_t>(full(key)));
    out.resize(layers, out.front());
  }
  return out;
}

std::vector<bool> GgufKeys::pattern(std::string_view key, int period, std::size_t layers) const {
  if (is_array(key)) {
    auto all = file_.array<bool>(full(key));
    check_length(key, all.size(), layers);
    return all;
  }
  const auto n = file_.get_or<std::int64_t>(full(key), period);
  if (n < 0 || n > most_layers)
    fail(ErrorCode::model, where(key), "an integer from 0 to " + std::to_string(most_layers), std::to_string(n));
  std::vector<bool> out;
  for (std::size_t i = 0; i < layers; ++i) out.push_back(n == 0 || (i + 1) % static_cast<std::size_t>(n) != 0);
  return out;
}

int GgufKeys::count_or(std::string_view key, std::int64_t most, int fallback) const {
  return has(key) ? count(key, most) : fallback;
}

float GgufKeys::positive(std::string_view key) const {
  const auto value = file_.get<double>(full(key));
  if (!fits_float(value) || !(static_cast<float>(value) > 0.0f))
    fail(ErrorCode::model, where(key), "a positive, finite number", std::to_string(value));
  return static_cast<float>(value);
}

float GgufKeys::nonzero_or(std::string_view key, float fallback) const {
  return file_.get_or(full(key), 0.0) != 0 ? positive(key) : fallback;
}

float GgufKeys::positive_or(std::string_view key, float fallback) const { return has(key) ? positive(key) : fallback; }

std::string GgufKeys::text_or(std::string_view key, std::string fallback) const {
  return file_.get_or(full(key), std::move(fallback));
}

template <class T>
void GgufKeysOut::put(std::string_view key, const T& encoded, gguf::Value value) {
  const std::string full = prefix_ + std::string(key);
  writer_.add(full, encoded);
  written_.metadata.insert_or_assign(full, std::move(value));
}

void GgufKeysOut::add(std::string_view key, int n) { put(key, static_cast<std::uint32_t>(n), std::int64_t{n}); }
void GgufKeysOut::add(std::string_view key, float x) { put(key, x, static_cast<double>(x)); }
void GgufKeysOut::add(std::string_view key, bool flag) { put(key, flag, flag); }
void GgufKeysOut::add(std::string_view key, const char* text) { put(key, text, std::string(text)); }

void GgufKeysOut::add(std::string_view key, const std::vector<int>& counts) {
  gguf::Array values;
  for (const int n : counts) values.emplace_back(std::int64_t{n});
  put(key, std::span<const std::int32_t>(counts), std::move(values));
}

void GgufKeysOut::add(std::string_view key, const std::vector<bool>& flags) {
  put(key, flags, gguf::Array(flags.begin(), flags.end()));
}

void GgufKeysOut::refuse(std::string_view what, std::string_view expected, std::string_view found) const {
  unsupported(where_ + ": as a GGUF: " + std::string(what), expected, found);
}

}  // namespace pith::inline nn
