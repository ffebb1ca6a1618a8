// SPDX-License-Identifier: MIT
#include "feed.hpp"

#include <algorithm>

#include "kvzip.hpp"
#include "pith/prune/combinators.hpp"

namespace pith::tool {

std::size_t FeedOptions::prompt_of(std::size_t tokens) const {
  return prompt ? std::min(static_cast<std::size_t>(*prompt), tokens) : tokens;
}

void add_options(CommandLine& line, FeedOptions& options) {
  line.number("--prompt-tokens", options.prompt, at_least(1),
              "Feed so many tokens of a text as its prompt, and the others one by one as decoding does [all]");
  line.number(
          "--kvzip", options.kvzip, Range<float>{.least = 0, .most = 1},
          "Once the prompt is read, keep this share of its rows: those that the model looks at as it writes it again")
      .needs("--prompt-tokens");
}

void take_kvzip(FeedOptions& options, const ModelOptions& model, const Tokenizer& tokenizer, SessionOptions& session) {
  if (!options.kvzip) return;
  options.replay = replay_of(model, tokenizer, *options.kvzip);
  session.policy = prune::per_head(*session.policy);  // each head keeps what it looks at itself
}

std::vector<std::string> unmeasured(const Kept& kept, const FeedOptions& options, const CacheOptions& cache,
                                    const prune::Needs& needs, std::size_t longest, const std::string& remedy) {
  const bool one_pass = longest <= static_cast<std::size_t>(cache.chunk), ends = options.prompt_of(longest) == longest;
  // Rows are judged by their evidence once a pass, or once a prompt where it is gathered at its end.
  const bool judges_at_end = !needs.evidence.empty() && (one_pass || needs.window > 0);
  if (kept.drops_at_end() && ends && judges_at_end)
    return {"--policy: what it drops at the end of a " + std::string(one_pass ? "pass" : "prompt") +
            " is missed by no token here, as each text is one to its end: the figures are those of a model that keeps "
            "it (" +
            remedy + ")"};
  if (!cache.policy.empty() && cache.policy != "none" && kept.mean() == 1)
    return {"--policy: it has dropped nothing that a token would have seen: the figures are those of the dense model"};
  // Decoding judges after every token; a pass of many tokens has seen them all before it judges.
  const std::size_t together = std::min(options.prompt_of(longest), static_cast<std::size_t>(cache.chunk));
  if (!options.prompt && !needs.evidence.empty() && needs.window == 0 && together > 1)
    return {"--policy: it judges once a pass, and a pass takes up to " + std::to_string(together) +
            " tokens of a text here, which see what decoding would have dropped (" + remedy + ")"};
  return {};
}

}  // namespace pith::tool
