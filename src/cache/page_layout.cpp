// SPDX-License-Identifier: MIT
#include "pith/cache/page_layout.hpp"

#include <cstring>

namespace pith::inline cache {

void PageLayout::copy_row(std::byte* to, std::size_t i, const std::byte* from, std::size_t j) const {
  const auto copy_number = [&](std::size_t column) {  // born, until and evidence are all of four bytes
    static_assert(sizeof(Position) == sizeof(float));
    std::memcpy(to + column + i * sizeof(float), from + column + j * sizeof(float), sizeof(float));
  };
  for (std::size_t h = 0; h < shape_.heads; ++h) {
    const std::size_t key = heads_ + h * head_bytes_, value = key + key_bytes_;
    tensor::copy_row(shape_.keys, Side::keys, shape_.key_dim, to + key, i, from + key, j);
    tensor::copy_row(shape_.values, Side::values, shape_.head_dim, to + value, i, from + value, j);
  }
  tensor::copy_row(shape_.gate_keys, Side::keys, shape_.gate_dim, to + gate_, i, from + gate_, j);
  copy_number(born_);
  copy_number(until_);
  for (std::size_t e = 0; e < shape_.evidence.size(); ++e) copy_number(evidence_ + e * capacity * sizeof(float));
}

void PageLayout::copy_but_keys(const PageLayout& other, std::byte* to, const std::byte* from) const {
  assert(other.heads_ == heads_);
  std::memcpy(to, from, heads_);
  for (std::size_t h = 0; h < shape_.heads; ++h)
    std::memcpy(to + other.heads_ + h * other.head_bytes_ + other.key_bytes_,
                from + heads_ + h * head_bytes_ + key_bytes_, head_bytes_ - key_bytes_);
}

}  // namespace pith::inline cache
