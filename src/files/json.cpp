// SPDX-License-Identifier: MIT
// JSON text to a value, on nlohmann's event parser: the events let us bound the depth before anything recursive (a
// value's destructor, its dump) meets it, and see keys that come twice.
#include "files/json.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "files/input_file.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline files {

namespace {

using Json = nlohmann::json;

constexpr std::size_t deepest = 64;

class Builder {
 public:
  explicit Builder(std::string_view where) : where_(where) {}

  Json take() { return std::move(root_); }

  // The names, signatures and "go on?" results below are those of nlohmann::json_sax.
  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) { return put(value); }
  bool number_float(double value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t& value) { return put(std::move(value)); }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    const auto [slot, added] = open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!added)
      fail(ErrorCode::format, where_, "each key once in an object", "key " + in_quotes(slot->first) + " twice");
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    std::string_view what = error.what();
    if (const auto end = what.find("] "); end != std::string_view::npos)
      what.remove_prefix(end + 2);  // "[json.exception.…] "
    fail(ErrorCode::format, where_, "JSON", "at byte " + std::to_string(position) + ": " + printable(what));
  }

 private:
  Json* place(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
    *slot_ = std::move(value);
    return slot_;
  }

  template <class T>
  bool put(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }

  bool open(Json&& empty) {
    if (open_.size() == deepest)
      fail(ErrorCode::format, where_, "JSON nested at most " + std::to_string(deepest) + " deep", "deeper nesting");
    open_.push_back(place(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string where_;
  Json root_;
  std::vector<Json*> open_;  // the containers around the next value; nothing moves them while they are open
  Json* slot_ = nullptr;     // where the value of the last key goes
};

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view where) {
  // nlohmann takes a zero byte for the end of the text and would not look at what follows.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos)
    fail(ErrorCode::format, where, "JSON", "a zero byte at byte " + std::to_string(zero));
  Builder builder(where);
  Json::sax_parse(text, &builder);
  return builder.take();
}

nlohmann::json read_json(const std::filesystem::path& path) {
  return parse_json(InputFile::open(path)->text(), path.string());
}

}  // namespace pith::inline files
