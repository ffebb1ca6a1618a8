// SPDX-License-Identifier: MIT
#include "pith/sampler.hpp"

#include "c/call.hpp"
#include "c/handles.hpp"
#include "c/options.hpp"
#include "pith/logprobs.hpp"

using namespace pith::c;

pith_status pith_sampler_create(const pith_sampler_options* options, pith_sampler** sampler) {
  return call(__func__, [&](const Given& given) {
    pith_sampler*& out = given(sampler, "sampler");
    out = new pith_sampler{pith::Sampler(sampler_options(given, options, "options"))};
  });
}

void pith_sampler_free(pith_sampler* sampler) { delete sampler; }

pith_status pith_sampler_choose(pith_sampler* sampler, const float* logits, size_t vocab_size, pith_token* token) {
  return call(__func__, [&](const Given& given) {
    pith_sampler& of = given(sampler, "sampler");
    const auto row = given(logits, vocab_size, "logits");
    given(token, "token") = of.sample(row);
  });
}

pith_status pith_sampler_accept(pith_sampler* sampler, const pith_token* tokens, size_t count) {
  return call(__func__,
              [&](const Given& given) { given(sampler, "sampler").sample.accept(given(tokens, count, "tokens")); });
}

pith_status pith_logprob(const float* logits, size_t vocab_size, pith_token token, float* logprob) {
  return call(__func__, [&](const Given& given) {
    const pith::Logprobs row(given(logits, vocab_size, "logits"));
    given(logprob, "logprob") = row[token];
  });
}

pith_status pith_top_logprobs(const float* logits, size_t vocab_size, pith_token_logprob* top, size_t capacity) {
  return call(__func__, [&](const Given& given) {
    const pith::Logprobs row(given(logits, vocab_size, "logits"));
    const auto out = given(top, capacity, "top");
    std::vector<pith::TokenLogprob> likeliest(std::min(capacity, vocab_size));
    std::ranges::copy(in_c(row.top(likeliest)), out.begin());
  });
}
