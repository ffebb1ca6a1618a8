// SPDX-License-Identifier: MIT
// Policies: those that the library names, and those whose scorer is a function of Python.
#include <algorithm>
#include <cmath>
#include <set>

#include <pith/prune/spec.hpp>

#include "bindings.hpp"

namespace pith::python {
namespace {

/// The rows of one lane, as a scorer of Python sees them: while it is asked, not later.
class Rows {
 public:
  Rows(const KvLayer& layer, std::size_t lane, const prune::Moment& moment)
      : layer_(&layer), lane_(lane), moment_(&moment) {}

  void end() { layer_ = nullptr; }

  std::size_t size() const { return lane().rows(); }
  std::size_t layer() const { return lane(), layer_->layer(); }
  std::size_t head() const { return lane(), layer_->lanes().number(lane_); }
  const prune::Moment& moment() const { return lane(), *moment_; }

  auto born() const {
    std::vector<Position> all(size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = lane().born(i);
    const std::size_t n = all.size();
    return array(std::move(all), {n});
  }

  auto column(const std::string& name) const {
    const Slot slot = slot_of(name);
    std::vector<float> all(size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = lane().evidence(slot, i);
    const std::size_t n = all.size();
    return array(std::move(all), {n});
  }

  void set_column(const std::string& name,
                  const nb::ndarray<const float, nb::ndim<1>, nb::device::cpu>& numbers) const {
    const Slot slot = slot_of(name);
    if (numbers.size() != size())
      fail(ErrorCode::argument, "rows: column '" + name + "'", std::to_string(size()) + " numbers",
           std::to_string(numbers.size()));
    const auto all = numbers.view();
    for (std::size_t i = 0; i < size(); ++i) lane().evidence(slot, i) = all(i);
  }

  /// [rows, kv-heads of the lane, head_dim]
  enum class Part { keys, values };
  auto vectors(Part part) const {
    const auto& shape = lane().layout().shape();
    const std::size_t n = size(), heads = shape.heads, dim = shape.head_dim;
    std::vector<float> all(n * heads * dim);
    for (std::size_t i = 0; i < n; ++i) {
      const Row row = lane().row(i);
      for (std::size_t h = 0; h < heads; ++h) {
        const std::span<float> out(&all[(i * heads + h) * dim], dim);
        part == Part::keys ? row.key(h, out) : row.value(h, out);
      }
    }
    return array(std::move(all), {n, heads, dim});
  }

 private:
  const Lane& lane() const {
    if (layer_ == nullptr) fail(ErrorCode::state, "rows: they are gone, as the scorer has answered");
    return layer_->lanes()[lane_];
  }

  Slot slot_of(const std::string& name) const {
    const Slot slot = lane().slot(Column(name));
    if (slot) return slot;
    std::string asked;
    for (const Column one : lane().layout().shape().evidence)
      asked.append(asked.empty() ? "" : ", ").append(one.name());
    fail(ErrorCode::argument, "rows: column", asked.empty() ? "none, as none was asked for" : "one of " + asked,
         "'" + name + "'");
  }

  const KvLayer* layer_;
  std::size_t lane_;
  const prune::Moment* moment_;
};

/// Names live as long as columns that have them.
Column column_named(const std::string& name) {
  static std::set<std::string> names;
  return Column(*names.insert(name).first);
}

/// An object of Python that threads without the interpreter's lock may copy and drop.
class Held {
 public:
  explicit Held(nb::object object)
      : object_(new nb::object(std::move(object)), [](nb::object* p) {
          const nb::gil_scoped_acquire lock;
          delete p;
        }) {}
  const nb::object& operator*() const { return *object_; }

 private:
  std::shared_ptr<nb::object> object_;
};

/// Asks a function of Python what rows are worth. Where it raises, all stays, and the call that fed tokens raises.
struct PythonScorer {
  Held function;
  Columns columns;
  std::shared_ptr<Failure> failure;

  prune::Needs needs() const { return {.evidence = columns}; }

  void score(const KvLayer& layer, std::size_t lane, const prune::Moment& moment, std::span<float> out) const {
    const nb::gil_scoped_acquire lock;
    std::ranges::fill(out, std::numeric_limits<float>::infinity());
    try {
      const nb::object rows = nb::cast(Rows(layer, lane, moment));
      struct End {
        Rows& rows;
        ~End() { rows.end(); }
      } const end{nb::cast<Rows&>(rows)};
      using Scores = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
      const nb::object answer =
          nb::module_::import_("numpy").attr("ascontiguousarray")((*function)(rows), "dtype"_a = "float32");
      const auto scores = nb::cast<Scores>(answer);
      if (scores.size() != out.size())
        fail(ErrorCode::argument, "scorer", std::to_string(out.size()) + " scores", std::to_string(scores.size()));
      const std::span<const float> numbers(scores.data(), scores.size());
      if (std::ranges::any_of(numbers, [](float x) { return std::isnan(x); }))
        fail(ErrorCode::argument, "scorer", "numbers", "NaN");
      std::ranges::copy(numbers, out.begin());
    } catch (...) {
      failure->keep(std::current_exception());
    }
  }
};

PyPolicy scored(nb::object function, const std::vector<std::string>& columns, std::size_t rows, float share, int sinks,
                int recent, std::size_t slack, bool per_head, bool on_prefill) {
  require(share >= 0 && share <= 1, ErrorCode::argument, "scored: share: expected 0 to 1");
  require(sinks >= 0 && recent >= 0, ErrorCode::argument, "scored: sinks, recent: expected at least 0");
  const auto failure = std::make_shared<Failure>();
  PythonScorer scorer{Held(std::move(function)), {}, failure};
  for (const std::string& name : columns) scorer.columns = scorer.columns | Columns(column_named(name));
  prune::AnyPolicy policy =
      prune::Evict{std::move(scorer), prune::Rows{rows, share}, prune::Both{prune::Sinks{sinks}, prune::Recent{recent}},
                   prune::Discard{}, slack};
  if (per_head) policy = prune::per_head(std::move(policy));
  if (on_prefill) policy = prune::on_prefill(std::move(policy));
  return {std::move(policy), {failure}};
}

PyPolicy chain(const std::vector<PyPolicy>& policies) {
  PyPolicy all;
  std::vector<prune::AnyPolicy> parts;
  for (const PyPolicy& one : policies) {
    parts.push_back(one.policy);
    all.failures.insert(all.failures.end(), one.failures.begin(), one.failures.end());
  }
  all.policy = prune::chain(std::move(parts));
  return all;
}

}  // namespace

void bind_policy(nb::module_& module) {
  nb::class_<prune::OptionText>(module, "OptionText", "One option of a method.")
      .def_ro("name", &prune::OptionText::name)
      .def_ro("fallback", &prune::OptionText::fallback)
      .def_ro("range", &prune::OptionText::range)
      .def_ro("what", &prune::OptionText::what);
  nb::class_<prune::MethodText>(module, "MethodText", "What can be said of a method or a combinator.")
      .def_ro("name", &prune::MethodText::name)
      .def_ro("paper", &prune::MethodText::paper)
      .def_ro("what", &prune::MethodText::what)
      .def_ro("acts", &prune::MethodText::acts)
      .def_ro("arguments", &prune::MethodText::arguments)
      .def_ro("options", &prune::MethodText::options);
  module.def("catalogue", &prune::catalogue, "All methods and combinators that a policy's text may name.");

  nb::class_<PyPolicy>(module, "Policy",
                       "What may be forgotten. Its text is what the library reads: \"gate,h2o(rows=1024)\".")
      .def(
          "__init__",
          [](PyPolicy* self, const std::string& text, float tau) { new (self) PyPolicy{prune::parse(text, tau)}; },
          "text"_a = "none", "tau"_a = 0.0f)
      .def("__str__", [](const PyPolicy& self) { return self.policy.describe(); })
      .def("__repr__", [](const PyPolicy& self) { return "<pith.Policy " + self.policy.describe() + ">"; })
      .def_prop_ro(
          "is_text", [](const PyPolicy& self) { return self.failures.empty(); },
          "Whether its text says all of it: no part of it is written in Python.");
  module.def("scored", &scored, "scorer"_a, "columns"_a, "rows"_a, "share"_a, "sinks"_a, "recent"_a, "slack"_a,
             "per_head"_a, "on_prefill"_a);
  module.def("chain", &chain, "policies"_a);

  nb::class_<Rows>(module, "Rows", "The rows of one lane, while a scorer is asked about them. Arrays are copies.")
      .def("__len__", &Rows::size)
      .def_prop_ro("layer", &Rows::layer)
      .def_prop_ro("head", &Rows::head, "The kv-head, where every one has a lane; else 0.")
      .def_prop_ro(
          "first", [](const Rows& self) { return self.moment().first; }, "The first position that this pass feeds.")
      .def_prop_ro(
          "next", [](const Rows& self) { return self.moment().next; }, "One past the last position that it feeds.")
      .def_prop_ro(
          "prompt_end", [](const Rows& self) { return self.moment().prompt_end; },
          "One past the last token of the latest prompt.")
      .def_prop_ro("born", &Rows::born, nb::rv_policy::automatic, "int32 [rows]: positions.")
      .def_prop_ro(
          "keys", [](const Rows& self) { return self.vectors(Rows::Part::keys); }, nb::rv_policy::automatic,
          "float32 [rows, heads, head_dim], turned by their positions.")
      .def_prop_ro(
          "values", [](const Rows& self) { return self.vectors(Rows::Part::values); }, nb::rv_policy::automatic,
          "float32 [rows, heads, head_dim].")
      .def("column", &Rows::column, "name"_a, "float32 [rows]: a column of evidence that the scorer asked for.")
      .def("set_column", &Rows::set_column, "name"_a, "numbers"_a,
           "Writes a column: one of a name of the scorer's own is 0 in a new row, and moves as rows move.");
}

}  // namespace pith::python
