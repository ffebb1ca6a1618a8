// SPDX-License-Identifier: MIT
// What is particular to the files of one architecture: their keys and the names of their tensors.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "nn/arch/keys.hpp"
#include "nn/arch/names.hpp"
#include "pith/nn/config.hpp"

namespace pith::inline nn {

struct Family {
  Architecture architecture;
  std::string_view model_type;  // in config.json
  std::string_view gguf;        // general.architecture in a GGUF
  std::string_view prefix;      // of tensors in Hugging Face's files; base models are saved without it
  int vocabulary = 0;           // where config.json does not name its size; 0: it must

  // config.json's keys, where vocabulary and special tokens are read already.
  void (*read)(const Keys& keys, Config& config);

  // A GGUF's, where general.architecture and the vocabulary are. What is written is what reads back; else it refuses.
  void (*read_gguf)(const GgufKeys& keys, Config& config);
  void (*write_gguf)(const Config& config, GgufKeysOut& out);

  RopePairs gguf_pairs = RopePairs::halves;
  // Of roles that hugging_face_names and gguf_names spell otherwise.
  std::span<const TensorName> names = {};
  std::span<const TensorName> own_gguf_names = {};
};

/// All of them. Where two share a name in GGUF files, the first reads those.
std::span<const Family* const> families();

const Family& family_of(Architecture architecture);

/// "one of gpt2, llama, …", by model_type or by the names in GGUF.
std::string known(std::string_view Family::*name);

/// How tensors with this role may be called, likeliest first.
std::vector<const TensorName*> hugging_face_spellings(const Family& family, Role role);
std::vector<const TensorName*> gguf_spellings(const Family& family, Role role);

/// The GGUF tensor that holds the parameters that Hugging Face's files have in one.
const TensorName& gguf_spelling(const Family& family, Role role);

}  // namespace pith::inline nn
