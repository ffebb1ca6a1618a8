// SPDX-License-Identifier: MIT
#include "pith/error.hpp"
#include "text/load.hpp"

namespace pith::text {

Definition load_directory(const std::filesystem::path& directory) {
  const auto has = [&](std::string_view name) {
    std::error_code ignored;
    return std::filesystem::exists(directory / name, ignored);
  };
  if (has("tokenizer.json"))
    return load_tokenizer_json(read_json(directory / "tokenizer.json"), directory / "tokenizer.json");
  if (has("vocab.json")) return load_vocab_and_merges(directory / "vocab.json", directory / "merges.txt");
  if (has("tokenizer.model")) return load_sentencepiece(directory / "tokenizer.model");
  fail(ErrorCode::file, directory.string(), "tokenizer.json, vocab.json with merges.txt, or tokenizer.model", "none");
}

}  // namespace pith::text
