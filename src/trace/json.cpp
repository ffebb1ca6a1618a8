// SPDX-License-Identifier: MIT
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "pith/trace.hpp"

namespace pith {

namespace {

using nlohmann::json;

/// JSON has no NaN and no infinity; a report of many tokens has no use for more than four digits.
json finite(float x) {
  if (!std::isfinite(x)) return nullptr;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", static_cast<double>(x));
  return std::strtod(text.data(), nullptr);
}

json finite(const std::vector<float>& values) {
  json all = json::array();
  for (const float x : values) all.push_back(finite(x));
  return all;
}

}  // namespace

std::string to_json(const Trace& trace, const TraceInfo& info, const Config& config, const Tokenizer& tokenizer) {
  json out;
  out["format"] = "pith-trace/1";
  out["model"] = {{"name", info.model},
                  {"architecture", name(config.architecture)},
                  {"n_layers", config.n_layers()},
                  {"n_heads", config.n_heads},
                  {"n_kv_heads", config.n_kv_heads}};
  out["policy"] = info.policy;
  out["tau"] = finite(info.tau);
  out["kv"] = name(info.kv);
  out["prompt_tokens"] = info.prompt_tokens;
  out["tokens"] = trace.tokens;
  out["pieces"] = pieces(trace.tokens, tokenizer);
  out["drop_at"] = trace.drop_at;
  out["gate_score"] = nullptr;
  for (const auto& layer : trace.gate_score) {
    json lanes = json::array();
    for (const auto& lane : layer) lanes.push_back(finite(lane));
    out["gate_score"].push_back(std::move(lanes));
  }
  out["logprob"] = finite(trace.logprob);
  out["entropy"] = finite(trace.entropy);
  out["passes"] = json::array();
  for (const Trace::Pass& pass : trace.passes)
    out["passes"].push_back(
        {{"first", pass.first}, {"next", pass.next}, {"kv_bytes", pass.kv_bytes}, {"live_rows", pass.live_rows}});
  out["kv_row_bytes"] = trace.kv_row_bytes;
  out["page_rows"] = PageLayout::capacity;

  double all = 0;
  out["kept_per_layer"] = json::array();
  for (const auto& layer : trace.drop_at) {
    double sum = 0;
    for (const auto& lane : layer) sum += kept_fraction(lane);
    out["kept_per_layer"].push_back(sum / static_cast<double>(layer.size()));
    all += sum / static_cast<double>(layer.size());
  }
  out["kept"] = trace.drop_at.empty() ? 1.0 : all / static_cast<double>(trace.drop_at.size());
  return out.dump();
}

}  // namespace pith
