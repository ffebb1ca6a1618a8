// SPDX-License-Identifier: MIT
// Any text as token ids: an Error, or numbers from 0 on.
#include "ids.hpp"

#include "fuzz/choices.hpp"
#include "pith/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    for (const pith::Token id : pith::tool::parse_ids({reinterpret_cast<const char*>(data), size}, "ids"))
      pith::test::hold(id >= 0, "ids are not negative");
  } catch (const pith::Error&) {
  }
  return 0;
}
