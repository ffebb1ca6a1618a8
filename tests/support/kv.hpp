// SPDX-License-Identifier: MIT
// The cache formats that laws are tried in: each alone, and pairs of which one side is in blocks or both are.
#pragma once

#include <vector>

#include "pith/tensor/kv_format.hpp"

namespace pith::testing {

inline std::vector<KvPair> mixed_kv_pairs() {
  return {{KvFormat::q8_0, KvFormat::f16},
          {KvFormat::f32, KvFormat::q4_0},
          {KvFormat::q8_0, KvFormat::q4_0},
          {KvFormat::f16, KvFormat::f32}};
}

inline std::vector<KvPair> kv_pairs() {
  std::vector<KvPair> all(kv_formats.begin(), kv_formats.end());
  for (const KvPair& pair : mixed_kv_pairs()) all.push_back(pair);
  return all;
}

}  // namespace pith::testing
