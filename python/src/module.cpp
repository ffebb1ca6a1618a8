// SPDX-License-Identifier: MIT
// The module pith._pith: the library's doors for Python. Its errors, and the order in which the rest is bound.
#include <nanobind/nanobind.h>

#include <exception>
#include <pith/version.hpp>

#include "bindings.hpp"

namespace pith::python {

void bind_errors(nb::module_&) {
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      const auto* const of_sequence = dynamic_cast<const SequenceError*>(&e);
      const nb::object made =
          nb::module_::import_("pith.errors")
              .attr("error_of")(
                  std::string(name(e.code())), e.what(),
                  of_sequence != nullptr ? nb::cast(static_cast<std::uint32_t>(of_sequence->sequence())) : nb::none());
      PyErr_SetObject(made.type().ptr(), made.ptr());
    }
  });
}

}  // namespace pith::python

NB_MODULE(_pith, module) {
  using namespace pith::python;
  namespace nb = nanobind;
  module.doc() = "The library as it is compiled; the package pith puts it into Python's words.";
  module.attr("version") = nb::str(pith::version.data(), pith::version.size());
  bind_errors(module);
  bind_policy(module);
  bind_model(module);
  bind_session(module);
  bind_generator(module);
  bind_trace(module);
}
