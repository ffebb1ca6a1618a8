// SPDX-License-Identifier: MIT
// The fixtures of tests/golden: small checkpoints and what an exact implementation makes of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith::testing {

struct Golden {
  std::filesystem::path path;
  std::vector<Token> tokens;
  std::vector<std::vector<int>> drop_at;   // [layer][token], -1 = never
  std::vector<int> argmax;                 // [token]
  std::vector<double> min_margin;          // [layer]; empty without a gate
  std::vector<std::vector<float>> logits;  // [token][vocab_size]
};

inline std::vector<std::string> golden_names() {
  return {"gpt2-dense", "gpt2-gated", "gpt2-recent", "llama-gated", "qwen2-gated-bf16"};
}

inline Golden golden(const std::string& name) {
  Golden out;
  out.path = std::filesystem::path(PITH_GOLDEN_DIR) / name;
  std::ifstream file(out.path / "expected.json");
  const auto expected = nlohmann::json::parse(file);
  out.tokens = expected.at("tokens").get<std::vector<Token>>();
  out.drop_at = expected.at("drop_at").get<std::vector<std::vector<int>>>();
  out.argmax = expected.at("argmax").get<std::vector<int>>();
  for (const auto& margin : expected.value("min_margin", nlohmann::json::array()))
    if (margin.is_number()) out.min_margin.push_back(margin.get<double>());

  std::ifstream logits(out.path / "expected_logits.f32", std::ios::binary);
  const auto bytes = std::filesystem::file_size(out.path / "expected_logits.f32");
  const std::size_t vocab = static_cast<std::size_t>(bytes) / sizeof(float) / out.tokens.size();
  for (std::size_t t = 0; t < out.tokens.size(); ++t) {
    auto& row = out.logits.emplace_back(vocab);
    // The file is little-endian, as is every machine this library is built for.
    logits.read(reinterpret_cast<char*>(row.data()), static_cast<std::streamsize>(vocab * sizeof(float)));
  }
  if (!logits) throw std::runtime_error(out.path.string() + ": expected_logits.f32 is too short");
  return out;
}

}  // namespace pith::testing
