// SPDX-License-Identifier: MIT
// What is behind the handles of pith/pith.h.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "pith/pith.h"
#include "pith/pith.hpp"

struct pith_stop {
  std::stop_source source;
};

struct pith_model {
  pith::Model model;
  std::string architecture;
  pith_model_info info;
};

struct pith_tokenizer {
  pith::Tokenizer tokenizer;
};

struct pith_text_stream {
  pith::TextStream stream;
  std::string text;  // that the latest call gave
};

struct pith_sampler {
  pith::Sampler sample;
};

struct pith_generator {
  pith::Generator generator;
};

struct pith_session {
  pith::Session session;
  std::vector<pith_output> outputs;  // of the latest step
};

namespace pith::c {

inline std::stop_token token_of(const pith_stop* stop) {
  return stop == nullptr ? std::stop_token() : stop->source.get_token();
}

}  // namespace pith::c
