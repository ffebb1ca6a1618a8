// SPDX-License-Identifier: MIT
// Every vector kernel, compiled for the plain twin of the vocabulary: so that the twin is tested, and means what the
// kernels take it for.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/plain_panels.hpp"
#include "kernels/plain_rows.hpp"
#include "kernels/scratch.hpp"
#include "kernels/table.hpp"
#include "kernels/vocabulary.hpp"

namespace pith::kernels {
namespace {
using namespace twin;
}
}  // namespace pith::kernels

#include "kernels/vector_kernels.hpp"
//
#include "kernels/vector_table.hpp"

namespace pith::kernels {

extern const Table twin_table;
constinit const Table twin_table = vector_table("twin", [] { return true; });

}  // namespace pith::kernels
