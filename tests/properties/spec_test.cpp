// SPDX-License-Identifier: MIT
// A policy says what it is in words that are read back to an equal one; what cannot be read is refused.
#include "pith/prune/spec.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cmath>

#include "pith/prune/methods.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

using namespace prune;

bool equal(const Needs& a, const Needs& b) {
  return a.gate == b.gate && a.lane_per_head == b.lane_per_head && a.evidence == b.evidence && a.window == b.window &&
         a.layers == b.layers && a.kv_heads == b.kv_heads && a.after_pass == b.after_pass;
}

/// Specs in the very words of describe(), at random.
class Grammar {
 public:
  explicit Grammar(std::uint64_t seed) : random_(seed) {}

  std::string policy(int depth) {
    std::string text = step(depth);
    for (int more = random_.integer(0, 2); more > 0; --more) text += "," + step(depth);
    return text;
  }

 private:
  std::string tau() {
    float value = 0;
    do value = std::bit_cast<float>(static_cast<std::uint32_t>(random_.integer(0, 1 << 30)) * 4u);
    while (std::isnan(value));
    char digits[64];
    return {digits, std::to_chars(digits, digits + sizeof digits, random_.integer(0, 1) == 0 ? value : -value).ptr};
  }

  /// A number for an option, such that rows are never fewer than what is spared, and windows agree.
  std::string number(const OptionText& option) {
    const std::string& name = option.name;
    if (name == "tau") return tau();
    if (name == "window") return "32";
    if (name == "pool") return std::to_string(2 * random_.integer(0, 20) + 1);
    if (name == "rows" || name == "tokens") return std::to_string(random_.integer(4096, 1 << random_.integer(13, 30)));
    if (name == "sinks" || name == "recent") return std::to_string(random_.integer(1, 2048));
    if (option.range.find(" to 1") == option.range.size() - 5) return std::to_string(random_.integer(0, 1));
    if (option.range.ends_with(" to 2")) return std::to_string(random_.integer(0, 2));
    return std::to_string(random_.integer(2, 1000));
  }

  std::string step(int depth) {
    static const auto methods = [] {
      auto all = catalogue();
      std::erase_if(all, [](const MethodText& one) { return !one.arguments.empty() || one.name == "none"; });
      return all;
    }();
    if (const int which = random_.integer(0, depth > 0 ? 8 : 3); which >= 4) return combined(which, depth);
    const MethodText& one = methods[static_cast<std::size_t>(random_.integer(0, static_cast<int>(methods.size()) - 1))];
    std::string options;
    for (const OptionText& option : one.options)
      options += (options.empty() ? "" : ",") + option.name + "=" + number(option);
    return one.name + "(" + options + ")";
  }

  std::string combined(int which, int depth) {
    switch (which) {
      case 4:
        return "on_prefill(" + policy(depth - 1) + ")";
      case 5:
        return "per_head(" + policy(depth - 1) + ")";
      case 6: {
        const int first = random_.integer(0, 40), last = first + random_.integer(0, 3);
        return "for_layers(layers=" + std::to_string(first) + (last > first ? "-" + std::to_string(last) : "") + "," +
               policy(depth - 1) + ")";
      }
      case 7:
        return "for_heads(heads=" + heads("") + "," + policy(depth - 1) + ")";
      default: {
        std::string list;
        for (int layer = random_.integer(0, 3), n = random_.integer(1, 3); n > 0; --n, layer += random_.integer(1, 4))
          list += (list.empty() ? "" : "+") + heads(std::to_string(layer) + ".");
        return "for_heads(heads=" + list + "," + policy(depth - 1) + ")";
      }
    }
  }

  std::string heads(const std::string& layer) {
    std::string list;
    for (int head = random_.integer(0, 5), n = random_.integer(1, 3); n > 0; --n, head += random_.integer(1, 3))
      list += (list.empty() ? "" : "+") + layer + std::to_string(head);
    return list;
  }

  Random random_;
};

TEST(SpecTest, ReadsWhatPoliciesSayOfThemselves) {
  Grammar grammar(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const std::string text = grammar.policy(3);
    const AnyPolicy policy = parse(text);
    ASSERT_EQ(policy.describe(), text);
    ASSERT_TRUE(equal(parse(policy.describe()).needs(), policy.needs()));
  }
}

TEST(SpecTest, SpellsWhatIsPutTogetherByHand) {
  EXPECT_EQ(none().describe(), "none");
  EXPECT_EQ(AnyPolicy().describe(), "none");
  EXPECT_EQ(learned_gate({.tau = 0.1f}).describe(), "gate(tau=0.1)");
  EXPECT_EQ(learned_gate({.tau = -INFINITY}).describe(), "gate(tau=-inf)");
  EXPECT_EQ(streaming().describe(), "streaming(sinks=4,recent=508)");
  EXPECT_EQ(chain(none(), h2o(), none(), snapkv()).describe(),
            "h2o(rows=1024,recent=256,per_query=0,share=0,sinks=4,slack=0,merge=0),"
            "snapkv(rows=2048,window=32,pool=7,average=0,share=0,sinks=4,slack=0,merge=0)");
  EXPECT_EQ(chain(none(), none()).describe(), "none");
  EXPECT_EQ(per_head(none()).describe(), "per_head(none)");
  EXPECT_EQ(on_prefill(chain(learned_gate(), h2o())).describe(),
            "on_prefill(gate(tau=0),h2o(rows=1024,recent=256,per_query=0,share=0,sinks=4,slack=0,merge=0))");
  EXPECT_EQ(for_layers(3, 4, learned_gate()).describe(), "for_layers(layers=3,gate(tau=0))");
  EXPECT_EQ(for_heads({2, 0, 2}, learned_gate()).describe(), "for_heads(heads=0+2,gate(tau=0))");
  EXPECT_EQ(for_heads(std::vector<std::vector<std::size_t>>{{}, {2, 0}, {}, {1}, {}}, learned_gate()).describe(),
            "for_heads(heads=1.0+1.2+3.1,gate(tau=0))");
}

TEST(SpecTest, LeavesRoomAndFillsIn) {
  EXPECT_EQ(parse(" gate , for_layers( layers=0-3 , per_head(h2o( rows=500 )) ) ").describe(),
            "gate(tau=0),for_layers(layers=0-3,per_head(h2o(rows=500,recent=256,per_query=0,share=0,sinks=4,slack=0,"
            "merge=0)))");
  EXPECT_EQ(parse("for_heads(gate,heads=1)", 0.25f).describe(), "for_heads(heads=1,gate(tau=0.25))");
  EXPECT_EQ(parse("gate(tau=2),gate", 0.25f).describe(), "gate(tau=2),gate(tau=0.25)");
  EXPECT_EQ(parse("none").describe(), "none");
  EXPECT_EQ(parse("per_head(chain(none,gate,chain(streaming)))").describe(),
            "per_head(gate(tau=0),streaming(sinks=4,recent=508))");
}

TEST(SpecTest, RefusesWhatItCannotRead) {
  for (const char* text : {"",
                           " ",
                           ",",
                           "gate,",
                           "gates",
                           "gate(",
                           "gate)",
                           "gate()x",
                           "gate(tau)",
                           "gate(tau=)",
                           "gate(tau=x)",
                           "gate(tau=1,tau=2)",
                           "gate(rows=1)",
                           "gate(h2o)",
                           "h2o(3)",
                           "h2o(rows=)",
                           "h2o(rows=1e3)",
                           "h2o(rows=0)",
                           "snapkv(pool=2)",
                           "chain",
                           "chain(tau=1,gate)",
                           "on_prefill",
                           "on_prefill()",
                           "on_prefill(rows=3)",
                           "on_prefill(gate,)",
                           "per_head(x)",
                           "for_layers(gate)",
                           "for_layers(layers=,gate)",
                           "for_layers(layers=3-2,gate)",
                           "for_layers(layers=-1,gate)",
                           "for_layers(layers=0-3)",
                           "for_layers(layers=0-99999999999999999999,gate)",
                           "for_layers(layers=1+2,gate)",
                           "for_heads(gate)",
                           "for_heads(heads=,gate)",
                           "for_heads(heads=0+,gate)",
                           "for_heads(heads=0+1.2,gate)",
                           "for_heads(heads=1.,gate)",
                           "for_heads(heads=.1,gate)",
                           "for_heads(heads=0)",
                           "for_heads(heads=0-2,gate)",
                           "none(gate)",
                           "[Mine]"})
    EXPECT_EQ(error_of([&] { parse(text); }), ErrorCode::argument) << text;
  EXPECT_EQ(error_of([] { for_layers(2, 2, none()); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { for_heads(std::vector<std::size_t>{}, none()); }), ErrorCode::argument);
}

TEST(SpecTest, NumbersAreDecimalAndWithinARangeThatIsNamed) {
  struct Case {
    std::string method, option, range;
  };
  const std::string whole = "a whole number from ", most = " to 2147483647";
  const std::vector<Case> cases = {
      {"streaming", "sinks", whole + "0" + most}, {"streaming", "recent", whole + "1" + most},
      {"h2o", "rows", whole + "1" + most},        {"h2o", "recent", whole + "0" + most},
      {"snapkv", "rows", whole + "1" + most},     {"snapkv", "window", whole + "1" + most},
      {"snapkv", "pool", whole + "1" + most},     {"gate", "tau", "a number from -inf to inf"}};
  for (const Case& one : cases) {
    const std::string &method = one.method, &option = one.option, &range = one.range;
    // By a share, so that rows may be fewer than what is spared.
    const std::string more = method == "h2o" || method == "snapkv" ? ",share=0.5)" : ")";
    const auto spec = [&](const std::string& word) { return method + "(" + option + "=" + word + more; };
    std::vector<std::string> refused = {"x",     "nan", "-nan",  "nan(1)", "NAN", "0x1",
                                        "0x1p3", "+1",  "1e999", "1 2",    "1f"};
    if (method != "gate")
      refused.insert(refused.end(), {"-1", "2147483648", "99999999999999999999", "1e3", "1.0", "inf", "-inf"});
    for (const std::string& word : refused)
      test::expect_error(ErrorCode::argument, {"policy: " + method + "(" + option + "=)", range, "'" + word + "'"},
                         [&] { parse(spec(word)); });
    EXPECT_NE(parse(spec("0011")).describe().find(option + "=11"), std::string::npos);
    if (method != "gate") {
      EXPECT_NE(parse(spec("2147483647")).describe().find(option + "=2147483647"), std::string::npos);
    }
  }
  for (const char* word : {"0", "-1"})
    test::expect_error(ErrorCode::argument, {"policy: h2o(rows=)", whole + "1" + most, "'" + std::string(word) + "'"},
                       [&] { parse("h2o(rows=" + std::string(word) + ")"); });
  EXPECT_EQ(parse("gate(tau=-inf),gate(tau=inf)").describe(), "gate(tau=-inf),gate(tau=inf)");
  EXPECT_EQ(parse("gate(tau=1e-60)").describe(), "gate(tau=0)");
  for (const char* list : {"65536", "0-65536", "+1", "0x1", "1e3", "-1"})
    test::expect_error(ErrorCode::argument, {"for_layers(layers=)", "0 to 65535", "'" + std::string(list) + "'"},
                       [&] { parse("for_layers(layers=" + std::string(list) + ",gate)"); });
  for (const char* list : {"65536", "0+65536", "65536.0", "0.65536", "0x1", "1e3", "-1"})
    test::expect_error(ErrorCode::argument, {"for_heads(heads=)", "0 to 65535", "'" + std::string(list) + "'"},
                       [&] { parse("for_heads(heads=" + std::string(list) + ",gate)"); });
}

struct Mine {
  Needs needs() const { return {}; }
  void after_attention(const KvLayer&, const Moment&) const {}
};
struct MineWithWords : Mine {
  int n = 3;
  std::string describe() const { return spell("mine", {{"n", n}}); }
};

TEST(SpecTest, NamesPoliciesOfTheHostsOwn) {
  EXPECT_EQ(AnyPolicy(Mine{}).describe(), "[Mine]");
  EXPECT_EQ(AnyPolicy(MineWithWords{}).describe(), "mine(n=3)");
  EXPECT_EQ(AnyPolicy(Evict{attention_mass, Rows{3}}).describe(), "[Evict]");
  EXPECT_EQ(chain(learned_gate(), Mine{}).describe(), "gate(tau=0),[Mine]");
  EXPECT_EQ(error_of([] { parse(AnyPolicy(Mine{}).describe()); }), ErrorCode::argument);
}

std::string refusal(const Model& model, AnyPolicy policy) {
  try {
    Session session(model, {.policy = std::move(policy)});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::argument);
    return error.what();
  }
  return "";
}

TEST(SpecTest, LayersAndHeadsThatTheModelLacksAreRefused) {
  const Model model = random_model({.seed = 2, .n_layers = 3});
  const auto heads = static_cast<std::size_t>(model.config().n_kv_heads);
  EXPECT_EQ(refusal(model, for_layers(0, 3, h2o())), "");
  const std::string layers = refusal(model, on_prefill(for_layers(2, 5, h2o())));
  EXPECT_NE(layers.find("layer 4"), std::string::npos) << layers;
  EXPECT_NE(layers.find("3"), std::string::npos) << layers;
  EXPECT_EQ(refusal(model, for_heads({heads - 1}, h2o())), "");
  const std::string lacking = refusal(model, chain(learned_gate(), for_heads({heads}, h2o())));
  EXPECT_NE(lacking.find("kv-head " + std::to_string(heads)), std::string::npos) << lacking;
  EXPECT_NE(refusal(model, for_heads(std::vector<std::vector<std::size_t>>{{}, {}, {}, {0}}, h2o())), "");
}

TEST(SpecTest, SessionsSayWhatTheirPolicyIs) {
  const Model model = random_model({.seed = 2});
  const Session session(model, {.policy = parse("gate,h2o(rows=300)"), .threads = 1});
  EXPECT_EQ(session.policy().describe(),
            "gate(tau=0),h2o(rows=300,recent=256,per_query=0,share=0,sinks=4,slack=0,merge=0)");
  EXPECT_EQ(session.stats().policy, session.policy().describe());
  EXPECT_EQ(Session(model, {.threads = 1}).policy().describe(), "gate(tau=0)") << "what a gated model does by itself";
}

// A list for each layer acts there as a list for all layers does, and nowhere else.
TEST(SpecTest, HeadsOfALayerForgetThereAlone) {
  std::uint64_t seed = 34;
  const auto make = [&] { return random_model({.seed = seed, .n_layers = 3, .window = 0}); };
  while (make().config().n_kv_heads < 3) ++seed;
  const Model model = make();
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(seed, model.config(), 90);
  const Fed fed = feed(model, tokens, {32}, {.policy = parse("for_heads(heads=0.2+2.0+2.1,h2o(rows=20,recent=4))")});
  for (std::size_t layer = 0; layer < 3; ++layer)
    for (std::size_t head = 0; head < fed.drop_at[layer].size(); ++head) {
      const auto& lane = fed.drop_at[layer][head];
      const bool listed = (layer == 0 && head == 2) || (layer == 2 && head < 2);
      EXPECT_EQ(std::ranges::any_of(lane, [](int drop) { return drop >= 0; }), listed) << layer << '.' << head;
    }
}

}  // namespace
}  // namespace pith::testing
