// SPDX-License-Identifier: MIT
#include "mixture.hpp"

#include <array>
#include <string>

#include "pith/error.hpp"
#include "pith/quantize.hpp"

namespace pith {

namespace {

/// The layers to which llama.cpp gives more bits: the first and last eighth, and every third between.
constexpr bool wants_more(std::size_t layer, std::size_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

template <Format usual>
constexpr Format q6_k_where_wanted(std::size_t layer, std::size_t layers) {
  return wants_more(layer, layers) ? Format::q6_k : usual;
}

template <Format format>
constexpr Format always(std::size_t, std::size_t) {
  return format;
}

constexpr std::array known = {
    Mixture{
        .name = "q3_k_m",
        .most = Format::q3_k,
        .value = [](std::size_t layer, std::size_t) { return layer < 2 ? Format::q5_k : Format::q4_k; },
        .down = [](std::size_t layer, std::size_t layers) { return layer < layers / 16 ? Format::q5_k : Format::q4_k; },
        .out = Format::q4_k},
    Mixture{
        .name = "q4_k_s",
        .most = Format::q4_k,
        .value = [](std::size_t layer, std::size_t) { return layer < 4 ? Format::q5_k : Format::q4_k; },
        .down = [](std::size_t layer, std::size_t layers) { return layer < layers / 8 ? Format::q5_k : Format::q4_k; },
        .out = Format::q4_k},
    Mixture{.name = "q4_k_m",
            .most = Format::q4_k,
            .value = q6_k_where_wanted<Format::q4_k>,
            .down = q6_k_where_wanted<Format::q4_k>,
            .out = Format::q4_k},
    Mixture{.name = "q5_k_s",
            .most = Format::q5_k,
            .value = always<Format::q5_k>,
            .down = always<Format::q5_k>,
            .out = Format::q5_k},
    Mixture{.name = "q5_k_m",
            .most = Format::q5_k,
            .value = q6_k_where_wanted<Format::q5_k>,
            .down = q6_k_where_wanted<Format::q5_k>,
            .out = Format::q5_k},
};

}  // namespace

Format Mixture::format_of(const Parameter& parameter, const Config& config) const {
  const Role role = parameter.role;
  if (role == Role::head || (role == Role::embedding && config.tied_head)) return Format::q6_k;
  if (role == Role::wv) return value(parameter.layer.value(), config.layers.size());
  if (role == Role::mlp_down || role == Role::expert_down) return down(parameter.layer.value(), config.layers.size());
  return role == Role::wo ? out : most;
}

std::vector<std::string_view> mixtures() {
  std::vector<std::string_view> names;
  for (const Mixture& mixture : known) names.push_back(mixture.name);
  return names;
}

const Mixture& mixture_named(std::string_view name) {
  std::string names;
  for (const Mixture& mixture : known) {
    if (mixture.name == name) return mixture;
    names.append(names.empty() ? "" : ", ").append(mixture.name);
  }
  fail(ErrorCode::unsupported, "mixture of formats", "one of " + names, name);
}

}  // namespace pith
