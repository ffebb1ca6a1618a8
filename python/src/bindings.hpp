// SPDX-License-Identifier: MIT
// What the files of the module share: how Python's objects stand for the library's, and how long what they hand out
// lasts.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pith/pith.hpp>

namespace pith::python {

namespace nb = nanobind;
using namespace nb::literals;

/// Tokens as Python hands them over.
using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
inline std::span<const Token> span_of(const Ids& ids) { return {ids.data(), ids.size()}; }
inline std::vector<Token> vector_of(const Ids& ids) { return {ids.data(), ids.data() + ids.size()}; }

/// An array of numpy over memory of its own.
template <class T>
nb::ndarray<nb::numpy, T> array(std::vector<T> numbers, std::vector<std::size_t> shape) {
  auto* const held = new std::vector<T>(std::move(numbers));
  const nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return {held->data(), shape.size(), shape.data(), owner};
}

/// What a scorer written in Python raised, until the call that asked it can raise it.
class Failure {
 public:
  void keep(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
  }
  void raise() {
    std::unique_lock lock(mutex_);
    const std::exception_ptr error = std::exchange(error_, nullptr);
    lock.unlock();
    if (error) std::rethrow_exception(error);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

/// A policy, and where the parts of it that are written in Python leave what they raise.
struct PyPolicy {
  prune::AnyPolicy policy = {};
  std::vector<std::shared_ptr<Failure>> failures = {};
};

/// The library's options, with what Python adds.
struct PyOptions {
  SessionOptions session;
  std::vector<std::shared_ptr<Failure>> failures = {};

  void raise_failures() const {
    for (const auto& failure : failures) failure->raise();
  }
};

/// Says that an object is in use as long as it lives: threads of Python, and functions that the library calls, may not
/// come between. The interpreter's lock guards the mark.
class InUse {
 public:
  InUse(bool& mark, const char* what) : mark_(mark) {
    if (mark) fail(ErrorCode::state, std::string(what) + ": another call is in it");
    mark = true;
  }
  ~InUse() { mark_ = false; }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  bool& mark_;
};

/// Ctrl-C, and other signals for which Python has functions, are heard here, between passes.
inline void hear_signals() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

using Dict = nb::typed<nb::dict, nb::str, nb::any>;
using Drops = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<3>>;  // [layer, lane, position]

Dict stats_of(const CacheStats& stats);
Drops drops_of(const std::vector<std::vector<std::vector<std::int32_t>>>& drop_at);

void bind_errors(nb::module_& module);
void bind_policy(nb::module_& module);
void bind_model(nb::module_& module);
void bind_session(nb::module_& module);
void bind_generator(nb::module_& module);
void bind_trace(nb::module_& module);

}  // namespace pith::python
