// SPDX-License-Identifier: MIT
// What makes rows narrower rather than fewer: which channels of keys are stored.
#pragma once

#include <cstddef>
#include <span>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// At the end of a prompt, the keys of every kv-head keep the channels that its queries meet them in most: of channel c
/// the mean of q_c^2 over the prompt's last `window` queries times the mean of k_c^2 over the rows (ThinK, Xu et al.,
/// arXiv 2407.21018, section 3). Later rows store the same ones, and later prompts change nothing. Of a sequence with
/// a mark, keys stay whole until the next prompt's end.
struct PITH_API MostMetChannels {
  float share =
      0.5f;  // of the channels, to the nearest number of whole blocks of the format of keys, and no fewer than one
  int window = 32;

  Needs needs() const { return {.key_blocks = share < 1 ? std::size_t{2} : std::size_t{1}}; }
  void after_attention(const KvLayer& layer, const Moment& moment) const;

  /// How many channels of a head stay.
  std::size_t kept(const PageLayout::Shape& shape) const;
};

}  // namespace pith::prune
