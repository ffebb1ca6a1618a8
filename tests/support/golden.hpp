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

/// Those that transformers computed, which have a GGUF beside them.
inline std::vector<std::string> transformers_names() {
  return {"gemma2", "gemma3", "granite", "mixtral", "olmo2", "phi3", "qwen3-moe", "qwen3-yarn", "smollm3"};
}

inline std::vector<std::string> golden_names() {
  std::vector<std::string> names = {"gpt2-dense", "gpt2-gated", "gpt2-recent", "llama-gated", "qwen2-gated-bf16"};
  for (std::string& name : transformers_names()) names.push_back(std::move(name));
  return names;
}

/// Little-endian floats, [any][columns], as is every machine this library is built for.
inline std::vector<std::vector<float>> read_rows(const std::filesystem::path& path, std::size_t columns) {
  std::ifstream file(path, std::ios::binary);
  std::vector<std::vector<float>> rows(static_cast<std::size_t>(std::filesystem::file_size(path)) / sizeof(float) /
                                       columns);
  for (auto& row : rows) {
    row.resize(columns);
    file.read(reinterpret_cast<char*>(row.data()), static_cast<std::streamsize>(columns * sizeof(float)));
  }
  if (!file) throw std::runtime_error(path.string() + ": too short");
  return rows;
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

  const auto path = out.path / "expected_logits.f32";
  out.logits = read_rows(path, std::filesystem::file_size(path) / sizeof(float) / out.tokens.size());
  return out;
}

}  // namespace pith::testing
