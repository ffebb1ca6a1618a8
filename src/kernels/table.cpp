// SPDX-License-Identifier: MIT
#include "kernels/table.hpp"

#include <atomic>

namespace pith::kernels {

extern const Table scalar;
#if defined(__x86_64__)
extern const Table avx2, avx512;
#elif defined(__aarch64__)
extern const Table neon;
#endif

namespace {

constexpr const Table* compiled[] = {
#if defined(__x86_64__)
    &avx512, &avx2,
#elif defined(__aarch64__)
    &neon,
#endif
    &scalar};

std::atomic<const Table*> in_use = nullptr;

const Table& best() {
  for (const Table* table : compiled)
    if (table->runs_here()) return *table;
  return scalar;
}

}  // namespace

std::span<const Table* const> tables() { return compiled; }

const Table& table() {
  const Table* chosen = in_use.load(std::memory_order_acquire);
  if (chosen != nullptr) return *chosen;
  // Two threads that come here at once store the same answer; one given to use() meanwhile is kept.
  if (in_use.compare_exchange_strong(chosen, &best(), std::memory_order_acq_rel)) return best();
  return *chosen;
}

void use(const Table& table) { in_use.store(&table, std::memory_order_release); }

}  // namespace pith::kernels
