// SPDX-License-Identifier: MIT
// From config.json, generation_config.json and GGUF metadata to a Config.
#include "nn/arch/config.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/files.hpp"

namespace pith {
namespace {

using nlohmann::json;
using test::expect_error;
using test::GgufWriter;
using test::TempFolder;

json gpt2() {
  return {{"model_type", "gpt2"}, {"n_embd", 64},       {"n_layer", 2},
          {"n_head", 4},          {"n_positions", 128}, {"vocab_size", 300}};
}

json llama_like(const char* type) {
  return {{"model_type", type},   {"hidden_size", 64},        {"num_hidden_layers", 4},
          {"vocab_size", 300},    {"num_attention_heads", 8}, {"intermediate_size", 172},
          {"rms_norm_eps", 1e-5}, {"num_key_value_heads", 2}, {"max_position_embeddings", 512},
          {"head_dim", 8}};
}

json changed(json config, const std::string& key, json value) {
  config[key] = std::move(value);
  return config;
}

json without(json config, const std::string& key) {
  config.erase(key);
  return config;
}

Config read(const json& config) { return read_config(config, "config.json"); }

void expect_refused(const json& config, ErrorCode code, std::vector<std::string> parts) {
  parts.push_back("config.json");
  expect_error(code, parts, [&] { read(config); });
}

TEST(Config, ReadsGpt2WithItsDefaults) {
  const Config c = read(gpt2());
  EXPECT_EQ(c.architecture, Architecture::gpt2);
  EXPECT_EQ(c.vocab_size, 300);
  EXPECT_EQ(c.d_model, 64);
  EXPECT_EQ(c.n_layers(), 2);
  EXPECT_EQ(c.n_heads, 4);
  EXPECT_EQ(c.n_kv_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.d_ff, 256);
  EXPECT_EQ(c.context, 128);
  EXPECT_EQ(c.norm_eps, 1e-5f);
  EXPECT_TRUE(c.tied_head && c.learned_positions && c.ropes.empty());
  EXPECT_EQ(c.final_norm, Norm::layer);
  const LayerPlan plan{.norm = Norm::layer,
                       .qkv_bias = true,
                       .o_bias = true,
                       .mlp_bias = true,
                       .mlp = Mlp::plain,
                       .activation = Activation::gelu_tanh,
                       .rope = -1};
  EXPECT_EQ(c.layers, std::vector(2, plan));
  EXPECT_EQ(read(changed(gpt2(), "n_inner", nullptr)).d_ff, 256);
  EXPECT_EQ(read(changed(gpt2(), "n_inner", 100)).d_ff, 100);
  EXPECT_EQ(read(changed(gpt2(), "activation_function", "gelu")).layers[1].activation, Activation::gelu);
  EXPECT_FALSE(read(changed(gpt2(), "tie_word_embeddings", false)).tied_head);
}

TEST(Config, ReadsLlamaWithItsDefaults) {
  const Config c = read(llama_like("llama"));
  EXPECT_EQ(c.architecture, Architecture::llama);
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_EQ(c.group(), 4);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.d_ff, 172);
  EXPECT_EQ(c.context, 512);
  EXPECT_FALSE(c.tied_head || c.learned_positions);
  EXPECT_EQ(c.layers, std::vector(4, LayerPlan{}));
  EXPECT_EQ(c.rope_pairs, RopePairs::halves);
  EXPECT_EQ(c.ropes, std::vector{RopeConfig{}});

  const Config few =
      read(without(without(without(llama_like("llama"), "rms_norm_eps"), "num_key_value_heads"), "head_dim"));
  EXPECT_EQ(few.norm_eps, 1e-6f);
  EXPECT_EQ(few.n_kv_heads, 8);
  EXPECT_EQ(few.head_dim, 8);
  const LayerPlan attention{.qkv_bias = true, .o_bias = true}, mlp{.mlp_bias = true};
  EXPECT_EQ(read(changed(llama_like("llama"), "attention_bias", true)).layers, std::vector(4, attention));
  EXPECT_EQ(read(changed(llama_like("llama"), "mlp_bias", true)).layers, std::vector(4, mlp));
  EXPECT_EQ(read(changed(llama_like("llama"), "hidden_act", "gelu")).layers[2].activation, Activation::gelu);
}

TEST(Config, ReadsQwen) {
  const Config two = read(changed(llama_like("qwen2"), "tie_word_embeddings", true));
  EXPECT_EQ(two.architecture, Architecture::qwen2);
  EXPECT_TRUE(two.tied_head);
  EXPECT_EQ(two.layers, std::vector(4, LayerPlan{.qkv_bias = true}));
  const Config three = read(changed(llama_like("qwen3"), "head_dim", 32));
  EXPECT_EQ(three.architecture, Architecture::qwen3);
  EXPECT_EQ(three.layers, std::vector(4, LayerPlan{.qk_norm = QkNorm::head}));
  EXPECT_EQ(three.d_query(), 256);
  EXPECT_EQ(three.d_kv(), 64);
  EXPECT_EQ(read(without(llama_like("qwen3"), "head_dim")).head_dim, 128);
  const LayerPlan biased{.qk_norm = QkNorm::head, .qkv_bias = true, .o_bias = true};
  EXPECT_EQ(read(changed(llama_like("qwen3"), "attention_bias", true)).layers, std::vector(4, biased));
}

TEST(Config, ReadsSlidingWindows) {
  using Windows = std::vector<int>;
  const auto windows = [](const json& config) {
    Windows out;
    for (const LayerPlan& plan : read(config).layers) out.push_back(plan.window);
    return out;
  };
  const Windows none(4, 0);
  const auto mistral = llama_like("mistral"), qwen = llama_like("qwen2");
  EXPECT_EQ(windows(changed(mistral, "sliding_window", 96)), (Windows{96, 96, 96, 96}));
  EXPECT_EQ(windows(changed(mistral, "sliding_window", nullptr)), none);
  EXPECT_EQ(read(mistral).layers[0].window, 4096);  // transformers' default where the key is absent
  EXPECT_EQ(windows(changed(llama_like("llama"), "sliding_window", 96)), none);

  EXPECT_EQ(windows(changed(qwen, "sliding_window", 96)), none);
  EXPECT_EQ(windows(changed(changed(qwen, "sliding_window", 96), "max_window_layers", 0)), none);
  auto sliding = changed(changed(qwen, "sliding_window", 96), "use_sliding_window", true);
  EXPECT_EQ(windows(changed(sliding, "max_window_layers", 3)), (Windows{0, 0, 0, 96}));
  EXPECT_EQ(read(changed(sliding, "max_window_layers", 0)).layers[0].window, 96);
  EXPECT_EQ(read(changed(sliding, "max_window_layers", 70)).layers[3].window, 0);
  sliding["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows(sliding), (Windows{96, 0, 0, 96}));

  expect_refused(changed(sliding, "use_sliding_window", false), ErrorCode::model, {"sliding_window"});
  expect_refused(changed(sliding, "layer_types", {"full_attention"}), ErrorCode::model, {"layer_types", "4"});
  sliding["layer_types"][1] = "linear_attention";
  expect_refused(sliding, ErrorCode::unsupported, {"layer_types", "linear_attention"});
  expect_refused(changed(mistral, "sliding_window", 0), ErrorCode::model, {"sliding_window", "found 0"});
  expect_refused(changed(mistral, "sliding_window", "96"), ErrorCode::model, {"sliding_window"});
}

TEST(Config, ReadsRopeThetaWhereverItIs) {
  EXPECT_EQ(read(changed(llama_like("llama"), "rope_theta", 1000000)).ropes[0].theta, 1e6f);
  const json parameters = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  EXPECT_EQ(read(changed(llama_like("llama"), "rope_parameters", parameters)).ropes[0].theta, 5e5f);
}

TEST(Config, ReadsRopeScaling) {
  const auto scaled = [](const char* key, json value) {
    return read(changed(llama_like("llama"), key, std::move(value)));
  };
  EXPECT_TRUE(scaled("rope_scaling", nullptr).ropes[0].divisors.empty());
  EXPECT_TRUE(scaled("rope_scaling", {{"type", "default"}}).ropes[0].divisors.empty());
  EXPECT_EQ(scaled("rope_scaling", {{"type", "linear"}, {"factor", 2.5}}).ropes[0].divisors,
            std::vector<float>(4, 2.5f));
  EXPECT_EQ(scaled("rope_parameters", {{"rope_type", "linear"}, {"factor", 4}}).ropes[0].divisors,
            std::vector<float>(4, 4.0f));
}

// The formula as the Llama 3.1 release has it: by wavelength, in three branches.
TEST(Config, ReadsLlama3Scaling) {
  const double factor = 32, low = 1, high = 4, original = 8192, theta = 500000;
  auto config = llama_like("llama");
  config["head_dim"] = 64;
  config["rope_theta"] = theta;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", factor},
                            {"low_freq_factor", low},
                            {"high_freq_factor", high},
                            {"original_max_position_embeddings", 8192}};
  const auto divisors = read(config).ropes[0].divisors;
  ASSERT_EQ(divisors.size(), 32u);
  int between = 0;
  for (int i = 0; i < 32; ++i) {
    const double frequency = 1.0 / std::pow(theta, 2.0 * i / 64), wavelength = 2.0 * 3.14159265358979323846 / frequency;
    double expected = frequency;
    if (wavelength > original / low) {
      expected = frequency / factor;
    } else if (wavelength > original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      expected = (1 - smooth) * frequency / factor + smooth * frequency;
      ++between;
    }
    EXPECT_NEAR(divisors[static_cast<std::size_t>(i)], frequency / expected, 1e-6 * frequency / expected) << i;
  }
  EXPECT_GT(between, 0);
  EXPECT_EQ(divisors.front(), 1.0f);
  EXPECT_EQ(divisors.back(), 32.0f);

  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    auto broken = config;
    broken["rope_scaling"].erase(key);
    expect_refused(broken, ErrorCode::model, {"rope_scaling", key, "no such key"});
    broken["rope_scaling"][key] = -1;
    expect_refused(broken, ErrorCode::model, {"rope_scaling", key, "-1"});
  }
  config["rope_scaling"]["high_freq_factor"] = 1;
  expect_refused(config, ErrorCode::model, {"high_freq_factor"});
}

TEST(Config, ReadsGemma) {
  auto config = without(without(llama_like("gemma2"), "head_dim"), "num_key_value_heads");
  const Config two = read(without(without(config, "num_attention_heads"), "vocab_size"));
  EXPECT_EQ(two.vocab_size, 256000);
  EXPECT_EQ(two.n_heads, 8);
  EXPECT_EQ(two.n_kv_heads, 4);
  EXPECT_EQ(two.head_dim, 256);
  EXPECT_TRUE(two.tied_head);
  EXPECT_EQ(two.embedding_scale, 8);
  EXPECT_EQ(two.logit_cap, 30);
  EXPECT_EQ(two.final_norm, Norm::rms_plus_one);
  LayerPlan plan{.norm = Norm::rms_plus_one,
                 .post_norms = true,
                 .activation = Activation::gelu_tanh,
                 .window = 4096,
                 .query_scale = 1.0f / 16,
                 .score_cap = 50};
  EXPECT_EQ(two.layers[0], plan);
  plan.window = 0;
  EXPECT_EQ(two.layers[1], plan);
  EXPECT_EQ(two.layers[2].window, 4096);
  const Config uncapped =
      read(changed(changed(config, "attn_logit_softcapping", nullptr), "final_logit_softcapping", nullptr));
  EXPECT_EQ(uncapped.layers[0].score_cap, 0);
  EXPECT_EQ(uncapped.logit_cap, 0);
  EXPECT_EQ(read(changed(config, "query_pre_attn_scalar", 144)).layers[0].query_scale, 1.0f / 12);
  EXPECT_EQ(read(changed(config, "hidden_activation", "gelu")).layers[0].activation, Activation::gelu);
  expect_refused(changed(config, "use_bidirectional_attention", true), ErrorCode::unsupported, {"bidirectional"});

  config["model_type"] = "gemma3_text";
  config["num_hidden_layers"] = 7;
  config["sliding_window"] = 512;
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  const Config three = read(config);
  EXPECT_EQ(three.architecture, Architecture::gemma3);
  EXPECT_EQ(three.logit_cap, 0);
  EXPECT_EQ(three.layers[0].qk_norm, QkNorm::head);
  EXPECT_EQ(three.layers[0].score_cap, 0);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(three.layers[i].window, i == 5 ? 0 : 512);
    EXPECT_EQ(three.layers[i].rope, i == 5 ? 0 : 1);
  }
  ASSERT_EQ(three.ropes.size(), 2u);
  EXPECT_EQ(three.ropes[0], (RopeConfig{.theta = 1e6f, .divisors = std::vector<float>(128, 8.0f)}));
  EXPECT_EQ(three.ropes[1], RopeConfig{});
  EXPECT_EQ(read(changed(config, "rope_local_base_freq", 5000)).ropes[1].theta, 5000);
  EXPECT_EQ(read(changed(config, "sliding_window_pattern", 2)).layers[1].window, 0);
  EXPECT_EQ(read(changed(config, "sliding_window_pattern", 1)).layers[0].window, 0);
  config["rope_parameters"] = {{"full_attention", {{"rope_theta", 5e5}}}, {"sliding_attention", {{"rope_theta", 3e4}}}};
  EXPECT_EQ(read(config).ropes[0], RopeConfig{.theta = 5e5f});
  EXPECT_EQ(read(config).ropes[1], RopeConfig{.theta = 3e4f});
  config["rope_parameters"] = {{"full_attention", {{"rope_theta", 5e5}}}};
  EXPECT_EQ(read(config).ropes[0], RopeConfig{.theta = 5e5f});
  EXPECT_EQ(read(config).ropes[1], RopeConfig{});
  config["rope_parameters"] = {{"sliding_attention", {{"rope_theta", 3e4}}}};
  EXPECT_EQ(read(config).ropes[0], RopeConfig{.theta = 1e6f});
  EXPECT_EQ(read(config).ropes[1], RopeConfig{.theta = 3e4f});
}

// What more it reads is said beside the text.
TEST(Config, ReadsTheTextOfModelsThatReadMore) {
  auto text = without(llama_like("gemma3_text"), "vocab_size");
  json config = {
      {"model_type", "gemma3"}, {"text_config", text}, {"eos_token_id", {1, 106}}, {"vision_config", json::object()}};
  const Config c = read(config);
  EXPECT_EQ(c.architecture, Architecture::gemma3);
  EXPECT_EQ(c.vocab_size, 262208);
  EXPECT_EQ(c.end_tokens, (std::vector<std::int32_t>{1, 106}));
  config["text_config"]["hidden_size"] = 0;
  expect_refused(config, ErrorCode::model, {"text_config: hidden_size"});
  config["text_config"]["model_type"] = "mllama_text_model";
  expect_refused(config, ErrorCode::unsupported, {"text_config: model_type", "mllama_text_model"});
}

TEST(Config, ReadsPhi3) {
  auto config = without(llama_like("phi3"), "head_dim");
  config["num_attention_heads"] = 4;  // of 16
  config["num_key_value_heads"] = 2;
  EXPECT_EQ(read(config).layers, std::vector(4, LayerPlan{}));
  EXPECT_EQ(read(without(config, "rms_norm_eps")).norm_eps, 1e-5f);
  EXPECT_EQ(read(changed(config, "sliding_window", 96)).layers[3].window, 96);
  config["partial_rotary_factor"] = 0.75;
  EXPECT_EQ(read(config).ropes[0], (RopeConfig{.dim = 12}));
  for (const double bad : {0.0, -0.5, 1.5, 0.05, 0.2})  // 0.2 * 16 is odd
    expect_refused(changed(config, "partial_rotary_factor", bad), ErrorCode::model, {"partial_rotary_factor"});

  config["original_max_position_embeddings"] = 128;
  config["rope_scaling"] = {
      {"type", "longrope"}, {"short_factor", {1, 2, 3, 4, 5, 6}}, {"long_factor", {2, 3, 4, 5, 6, 7}}};
  const RopeConfig rope = read(config).ropes[0];
  EXPECT_EQ(rope.divisors, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(rope.long_divisors, (std::vector<float>{2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(rope.original_context, 128);
  EXPECT_NEAR(rope.magnitude, std::sqrt(1 + std::log(4.0) / std::log(128.0)), 1e-6);
  auto older = config;
  older["rope_scaling"]["type"] = "su";
  EXPECT_EQ(read(older).ropes[0], rope);
  older["rope_scaling"]["type"] = "yarn";
  EXPECT_EQ(read(older).ropes[0], rope);
  older["rope_scaling"]["attention_factor"] = 1.5;
  EXPECT_EQ(read(older).ropes[0].magnitude, 1.5f);
  for (const char* key : {"short_factor", "long_factor"}) {
    auto broken = config;
    broken["rope_scaling"][key] = {1, 2, 3};
    expect_refused(broken, ErrorCode::model, {"rope_scaling", key, "a list of 6 positive numbers"});
    broken["rope_scaling"][key] = {1, 2, 3, 4, 5, 0};
    expect_refused(broken, ErrorCode::model, {key});
    broken["rope_scaling"].erase(key);
    expect_refused(broken, ErrorCode::model, {key});
  }
}

TEST(Config, ReadsSmolLm3Olmo2AndGranite) {
  const auto ropes = [](const Config& c) {
    std::vector<int> out;
    for (const LayerPlan& plan : c.layers) out.push_back(plan.rope);
    return out;
  };
  const auto smol = llama_like("smollm3");
  EXPECT_EQ(ropes(read(smol)), (std::vector{0, 0, 0, -1}));
  EXPECT_TRUE(read(smol).tied_head);
  EXPECT_EQ(read(smol).ropes[0].theta, 2e6f);
  EXPECT_EQ(ropes(read(changed(smol, "no_rope_layer_interval", 2))), (std::vector{0, -1, 0, -1}));
  EXPECT_EQ(ropes(read(changed(smol, "no_rope_layers", {0, 1, 1, 1}))), (std::vector{-1, 0, 0, 0}));
  expect_refused(changed(smol, "no_rope_layers", {1, 0}), ErrorCode::model, {"no_rope_layers", "4 numbers"});
  const auto sliding = changed(changed(smol, "use_sliding_window", true), "sliding_window", 32);
  EXPECT_EQ(read(sliding).layers[3].window, 32);
  EXPECT_EQ(read(sliding).layers[0].window, 0);
  EXPECT_EQ(read(without(sliding, "use_sliding_window")).layers[3].window, 0);

  const LayerPlan olmo{.pre_norms = false, .post_norms = true, .qk_norm = QkNorm::all};
  EXPECT_EQ(read(llama_like("olmo2")).layers, std::vector(4, olmo));

  auto config = llama_like("granite");
  config["attention_multiplier"] = 0.0625;
  config["embedding_multiplier"] = 12;
  config["residual_multiplier"] = 0.25;
  config["logits_scaling"] = 8;
  const Config granite = read(config);
  EXPECT_EQ(granite.layers, std::vector(4, LayerPlan{.query_scale = 0.0625f}));
  EXPECT_EQ(granite.embedding_scale, 12);
  EXPECT_EQ(granite.residual_scale, 0.25f);
  EXPECT_EQ(granite.logit_scale, 0.125f);
  EXPECT_EQ(read(llama_like("granite")).layers[0].query_scale, 1);
  expect_refused(changed(config, "logits_scaling", 0), ErrorCode::model, {"logits_scaling"});
}

TEST(Config, ReadsExperts) {
  const Config mixtral = read(changed(llama_like("mixtral"), "num_local_experts", 4));
  EXPECT_EQ(mixtral.layers, std::vector(4, LayerPlan{.experts = {.count = 4, .chosen = 2}}));
  EXPECT_EQ(mixtral.ropes[0].theta, 1e6f);
  EXPECT_EQ(read(without(llama_like("mixtral"), "rms_norm_eps")).norm_eps, 1e-5f);
  auto config = changed(llama_like("qwen3_moe"), "num_experts", 6);
  config["num_experts_per_tok"] = 3;
  config["moe_intermediate_size"] = 24;
  const LayerPlan plain{.qk_norm = QkNorm::head},
      mixture{.qk_norm = QkNorm::head, .d_ff = 24, .experts = {.count = 6, .chosen = 3, .renormalised = false}};
  EXPECT_EQ(read(config).layers, std::vector(4, mixture));
  EXPECT_TRUE(read(changed(config, "norm_topk_prob", true)).layers[0].experts.renormalised);
  EXPECT_EQ(read(changed(config, "decoder_sparse_step", 2)).layers, (std::vector{plain, mixture, plain, mixture}));
  EXPECT_EQ(read(changed(config, "mlp_only_layers", {1})).layers, (std::vector{mixture, plain, mixture, mixture}));
  expect_refused(changed(config, "mlp_only_layers", {4}), ErrorCode::model, {"mlp_only_layers", "below 4"});
  expect_refused(changed(config, "num_experts_per_tok", 7), ErrorCode::model, {"num_experts_per_tok", "6 experts"});
  expect_refused(changed(config, "num_experts", 0), ErrorCode::model, {"num_experts"});
}

// The formula as the paper's authors program it: which pairs turn how often in the original context.
TEST(Config, ReadsYarnScaling) {
  const double factor = 4, original = 64, theta = 10000;
  auto config = llama_like("llama");
  config["head_dim"] = 32;
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", original}};
  config["rope_scaling"]["original_max_position_embeddings"] = 64;
  const RopeConfig rope = read(config).ropes[0];
  EXPECT_NEAR(rope.magnitude, 1 + 0.1 * std::log(factor), 1e-6);
  const auto turning = [&](double turns) {
    return 32 * std::log(original / (turns * 2 * 3.14159265358979323846)) / (2 * std::log(theta));
  };
  const double low = std::max(std::floor(turning(32)), 0.0), high = std::min(std::ceil(turning(1)), 31.0);
  ASSERT_EQ(rope.divisors.size(), 16u);
  for (int i = 0; i < 16; ++i) {
    const double stretched = std::min(std::max((i - low) / (high - low), 0.0), 1.0);
    EXPECT_NEAR(1 / rope.divisors[static_cast<std::size_t>(i)], stretched / factor + 1 - stretched, 1e-6) << i;
  }
  EXPECT_EQ(rope.divisors.back(), 4.0f);

  auto changed_scaling = [&](const char* key, json value) {
    auto other = config;
    other["rope_scaling"][key] = std::move(value);
    return other;
  };
  EXPECT_EQ(read(changed_scaling("attention_factor", 1.25)).ropes[0].magnitude, 1.25f);
  auto both = changed_scaling("mscale", 0.5);
  both["rope_scaling"]["mscale_all_dim"] = 1;
  EXPECT_NEAR(read(both).ropes[0].magnitude, (1 + 0.05 * std::log(4.0)) / (1 + 0.1 * std::log(4.0)), 1e-6);
  EXPECT_NE(read(changed_scaling("beta_fast", 4)).ropes[0].divisors, rope.divisors);
  EXPECT_NE(read(changed_scaling("truncate", false)).ropes[0].divisors, rope.divisors);
  auto no_original = config;
  no_original["rope_scaling"].erase("original_max_position_embeddings");
  EXPECT_EQ(read(no_original).ropes[0].yarn->original_context, 512);
  for (const char* key : {"factor", "beta_fast", "beta_slow", "attention_factor"})
    expect_refused(changed_scaling(key, -1), ErrorCode::model, {"rope_scaling", key});
  expect_refused(changed(config, "rope_theta", 1), ErrorCode::model, {"theta above 1"});
}

TEST(Config, RefusesByNameWhatChangesTheMathematics) {
  const auto llama = llama_like("llama");
  for (const char* type : {"dynamic", "mrope"}) {
    expect_refused(changed(llama, "rope_scaling", {{"type", type}, {"factor", 2}}), ErrorCode::unsupported,
                   {"rope_scaling", type});
    expect_refused(changed(llama, "rope_parameters", {{"rope_type", type}}), ErrorCode::unsupported,
                   {"rope_parameters", type});
  }
  expect_refused(changed(llama, "partial_rotary_factor", 0.5), ErrorCode::unsupported,
                 {"partial_rotary_factor", "0.5"});
  expect_refused(changed(llama, "rope_parameters", {{"full_attention", json::object()}}), ErrorCode::unsupported,
                 {"full_attention"});
  expect_refused(changed(llama, "model_type", "falcon"), ErrorCode::unsupported,
                 {"falcon", "gpt2", "llama", "mistral", "qwen2", "gemma3_text"});
  expect_refused(changed(llama, "hidden_act", "relu"), ErrorCode::unsupported, {"hidden_act", "relu"});
  expect_refused(changed(llama, "quantization_config", {{"quant_method", "gptq"}}), ErrorCode::unsupported, {"gptq"});
  const auto dms = changed(llama, "dms_alpha_scale", 100.0);
  expect_refused(changed(dms, "dms_separate_alpha", true), ErrorCode::unsupported, {"dms_separate_alpha", "false"});
  expect_refused(changed(dms, "dms_disable_eviction", true), ErrorCode::unsupported, {"dms_disable_eviction"});
  expect_refused(changed(dms, "dms_alpha_per", "layer"), ErrorCode::unsupported, {"dms_alpha_per", "head", "layer"});
  expect_refused(changed(dms, "dms_window_size", -1), ErrorCode::model, {"dms_window_size", "-1"});
  expect_refused(changed(gpt2(), "scale_attn_weights", false), ErrorCode::unsupported, {"scale_attn_weights"});
  expect_refused(changed(gpt2(), "scale_attn_by_inverse_layer_idx", true), ErrorCode::unsupported,
                 {"scale_attn_by_inverse_layer_idx"});
  expect_refused(changed(gpt2(), "add_cross_attention", true), ErrorCode::unsupported, {"add_cross_attention"});
  EXPECT_NO_THROW(read(changed(gpt2(), "reorder_and_upcast_attn", true)));
}

TEST(Config, ReadsWhatDmsTaught) {
  const auto llama = llama_like("llama");
  EXPECT_FALSE(read(llama).dms);
  const auto some =
      changed(changed(changed(llama, "dms_alpha_scale", 50.0), "dms_initial_alpha_offset", 2.5), "dms_window_size", 64);
  ASSERT_TRUE(read(some).dms);
  EXPECT_EQ(read(some).dms->scale, 50);
  EXPECT_EQ(read(some).dms->offset, 2.5f);
  EXPECT_EQ(read(some).dms->window, 64);
  // As its authors' code has them where the file does not.
  const Config usual = read(changed(llama, "dms_window_size", 512));
  EXPECT_EQ(usual.dms->scale, 100);
  EXPECT_EQ(usual.dms->offset, 5);
}

TEST(Config, RefusesCountsThatAreNone) {
  const std::vector<json> bad = {
      0, -1, 1.5, "8", true, json::array(), json::object(), 4294967296, 18446744073709551615u, 1e300};
  for (const json& value : bad) {
    for (const char* key : {"n_embd", "n_layer", "n_head", "n_positions", "vocab_size", "n_inner"})
      expect_refused(changed(gpt2(), key, value), ErrorCode::model,
                     {key, "an integer from 1", "found " + value.dump()});
    for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                            "head_dim", "intermediate_size", "max_position_embeddings", "vocab_size"})
      expect_refused(changed(llama_like("llama"), key, value), ErrorCode::model, {key, "found " + value.dump()});
  }
  for (const char* key : {"n_embd", "n_layer", "n_head", "vocab_size"})
    expect_refused(without(gpt2(), key), ErrorCode::model, {key, "no such key"});
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "model_type"})
    expect_refused(without(llama_like("llama"), key), ErrorCode::model, {key, "no such key"});
}

TEST(Config, RefusesNumbersAndFlagsThatAreNone) {
  for (const json& value :
       std::vector<json>{0, -1e-5, "x", nullptr, json::array(), 1e300, 1e-300, std::nan(""), INFINITY}) {
    if (value.is_null()) continue;  // counts as absent
    expect_refused(changed(llama_like("llama"), "rms_norm_eps", value), ErrorCode::model, {"rms_norm_eps"});
    expect_refused(changed(llama_like("llama"), "rope_theta", value), ErrorCode::model, {"rope_theta"});
    expect_refused(changed(llama_like("llama"), "rope_scaling", {{"type", "linear"}, {"factor", value}}),
                   ErrorCode::model, {"rope_scaling", "factor"});
  }
  expect_refused(changed(llama_like("llama"), "tie_word_embeddings", "no"), ErrorCode::model,
                 {"tie_word_embeddings", "no"});
  expect_refused(changed(llama_like("llama"), "rope_scaling", 2), ErrorCode::model, {"rope_scaling", "object"});
  expect_refused(changed(llama_like("llama"), "hidden_act", 2), ErrorCode::model, {"hidden_act", "string"});
  expect_refused(changed(llama_like("llama"), "eos_token_id", "</s>"), ErrorCode::model, {"eos_token_id"});
  for (const json& value : std::vector<json>{nullptr, 1, "x", json::array()})
    expect_refused(value, ErrorCode::model, {"object"});
}

TEST(Config, RefusesShapesThatDoNotFitTogether) {
  expect_refused(changed(gpt2(), "n_head", 5), ErrorCode::model, {"n_embd", "5 heads", "found 64"});
  expect_refused(changed(llama_like("llama"), "num_key_value_heads", 3), ErrorCode::model, {"8 heads", "found 3"});
  expect_refused(changed(llama_like("llama"), "num_key_value_heads", 16), ErrorCode::model, {"8 heads", "found 16"});
  expect_refused(changed(llama_like("llama"), "head_dim", 7), ErrorCode::model, {"even", "found 7"});
  expect_refused(changed(llama_like("llama"), "head_dim", 1 << 24), ErrorCode::model, {"head_dim"});
  expect_refused(changed(without(llama_like("llama"), "head_dim"), "hidden_size", 60), ErrorCode::model,
                 {"hidden_size", "8 heads", "found 60"});
}

TEST(Config, CollectsEndTokens) {
  using Tokens = std::vector<std::int32_t>;
  Config c = read(changed(changed(llama_like("llama"), "eos_token_id", 2), "bos_token_id", 1));
  EXPECT_EQ(c.bos, 1);
  EXPECT_EQ(c.end_tokens, Tokens{2});
  read_generation_config({{"eos_token_id", {7, 2, 9}}, {"bos_token_id", 5}}, "generation_config.json", c);
  EXPECT_EQ(c.end_tokens, (Tokens{2, 7, 9}));
  EXPECT_EQ(c.bos, 1);

  EXPECT_EQ(read(changed(llama_like("llama"), "eos_token_id", {3, 4})).end_tokens, (Tokens{3, 4}));
  EXPECT_FALSE(read(llama_like("llama")).bos);
  // Ids that no embedding has are "none", as real files use them.
  EXPECT_FALSE(read(changed(llama_like("llama"), "bos_token_id", -1)).bos);
  EXPECT_TRUE(read(changed(llama_like("llama"), "eos_token_id", {300, -1, 18446744073709551615u})).end_tokens.empty());
}

TEST(Config, ReadsDropGates) {
  const auto read_gate = [](const json& gate) { return read_drop_gate(gate, "config.json: drop_gate"); };
  const json whole = {{"type", "interaction"}, {"dim", 16}, {"threshold", 0.25}, {"recent", 8}, {"scope", "kv_head"}};
  EXPECT_EQ(read_gate(whole).dim, 16);
  EXPECT_EQ(read_gate(whole).threshold, 0.25f);
  EXPECT_EQ(read_gate(whole).recent, 8);
  EXPECT_EQ(read_gate(whole).scope, GateScope::kv_head);
  EXPECT_EQ(read_gate(whole).sinks, 0);
  EXPECT_EQ(read_gate(changed(whole, "sinks", 4)).sinks, 4);
  EXPECT_EQ(read_gate(changed(whole, "scope", "layer")).scope, GateScope::layer);
  const DropGateConfig bare = read_gate({{"type", "interaction"}, {"propagate_in_depth", false}});
  EXPECT_EQ(bare.dim, 0);
  EXPECT_EQ(bare.threshold, 0.0f);
  EXPECT_EQ(bare.recent, 1);
  EXPECT_EQ(bare.scope, GateScope::layer);

  const auto refused = [&](const json& gate, ErrorCode code, const char* part) {
    expect_error(code, {"config.json: drop_gate", part}, [&] { read_gate(gate); });
  };
  refused(changed(whole, "type", "linear"), ErrorCode::unsupported, "linear");
  refused(changed(whole, "propagate_in_depth", true), ErrorCode::unsupported, "propagate_in_depth");
  refused(without(whole, "type"), ErrorCode::model, "type");
  refused(changed(whole, "scope", "head"), ErrorCode::unsupported, "kv_head");
  refused(changed(whole, "scope", 3), ErrorCode::model, "scope");
  for (const json& bad : std::vector<json>{0, -1, 1.5, "x", 4294967297}) {
    refused(changed(whole, "dim", bad), ErrorCode::model, "dim");
    refused(changed(whole, "recent", bad), ErrorCode::model, "recent");
    if (bad != 0) refused(changed(whole, "sinks", bad), ErrorCode::model, "sinks");
  }
  for (const json& bad : std::vector<json>{"x", 1e300, std::nan(""), true})
    refused(changed(whole, "threshold", bad), ErrorCode::model, "threshold");
  refused(json::array(), ErrorCode::model, "object");
}

GgufWriter gguf_model(const std::string& arch) {
  const bool gpt2_like = arch == "gpt2";
  GgufWriter out;
  out.text("general.architecture", arch).u32(arch + ".block_count", 2).u32(arch + ".embedding_length", 64);
  out.u32(arch + ".feed_forward_length", 128).u32(arch + ".attention.head_count", 8).u32(arch + ".context_length", 256);
  out.f32(arch + (gpt2_like ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon"), 1e-5f);
  out.tensor_f32("token_embd.weight", {64, 20});
  return out;
}

Config read_gguf(const GgufWriter& writer) {
  const TempFolder folder;
  return read_config(gguf::open(folder.write("m.gguf", writer.bytes())));
}

void expect_gguf_refused(const GgufWriter& writer, ErrorCode code, std::vector<std::string> parts) {
  parts.push_back("m.gguf");
  expect_error(code, parts, [&] { read_gguf(writer); });
}

TEST(Config, ReadsGgufArchitectures) {
  const Config llama = read_gguf(gguf_model("llama")
                                     .u32("llama.attention.head_count_kv", 2)
                                     .f32("llama.rope.freq_base", 5e5f)
                                     .u32("llama.rope.dimension_count", 8)
                                     .u32("tokenizer.ggml.bos_token_id", 1)
                                     .u32("tokenizer.ggml.eos_token_id", 2)
                                     .u32("tokenizer.ggml.eot_token_id", 3));
  EXPECT_EQ(llama.architecture, Architecture::llama);
  EXPECT_EQ(llama.vocab_size, 20);
  EXPECT_EQ(llama.d_model, 64);
  EXPECT_EQ(llama.n_kv_heads, 2);
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.d_ff, 128);
  EXPECT_EQ(llama.context, 256);
  EXPECT_EQ(llama.ropes[0].theta, 5e5f);
  EXPECT_EQ(llama.rope_pairs, RopePairs::adjacent);
  EXPECT_EQ(llama.bos, 1);
  EXPECT_EQ(llama.end_tokens, (std::vector<std::int32_t>{2, 3}));
  EXPECT_TRUE(llama.tied_head);
  EXPECT_EQ(llama.layers, std::vector(2, LayerPlan{}));

  const Config qwen =
      read_gguf(gguf_model("qwen2").tensor_f32("blk.0.attn_q.bias", {64}).tensor_f32("output.weight", {64, 20}));
  EXPECT_EQ(qwen.rope_pairs, RopePairs::halves);
  EXPECT_EQ(qwen.layers, std::vector(2, LayerPlan{.qkv_bias = true}));
  EXPECT_FALSE(qwen.tied_head);
  EXPECT_EQ(qwen.n_kv_heads, 8);

  const Config three =
      read_gguf(gguf_model("qwen3").u32("qwen3.attention.key_length", 32).u32("qwen3.attention.value_length", 32));
  EXPECT_EQ(three.head_dim, 32);

  const Config gpt2 = read_gguf(gguf_model("gpt2"));
  EXPECT_EQ(gpt2.layers, read(::pith::gpt2()).layers);
  EXPECT_TRUE(gpt2.learned_positions && gpt2.ropes.empty());
}

TEST(Config, ReadsGgufRopeScalingAndWindows) {
  const auto factor = [](GgufWriter writer) { return writer.f32("llama.rope.scaling.factor", 4.0f); };
  EXPECT_EQ(read_gguf(factor(gguf_model("llama"))).ropes[0].divisors, std::vector<float>(4, 4.0f));
  EXPECT_EQ(read_gguf(factor(gguf_model("llama")).text("llama.rope.scaling.type", "linear")).ropes[0].divisors.size(),
            4u);
  EXPECT_TRUE(read_gguf(factor(gguf_model("llama")).text("llama.rope.scaling.type", "none")).ropes[0].divisors.empty());
  EXPECT_EQ(read_gguf(gguf_model("llama").f32("llama.rope.scale_linear", 2.0f)).ropes[0].divisors.front(), 2.0f);
  expect_gguf_refused(factor(gguf_model("llama")).text("llama.rope.scaling.type", "mrope"), ErrorCode::unsupported,
                      {"mrope"});
  const Config yarn = read_gguf(factor(gguf_model("qwen3"))
                                    .text("qwen3.rope.scaling.type", "yarn")
                                    .f32("qwen3.rope.scaling.factor", 4.0f)
                                    .u32("qwen3.rope.scaling.original_context_length", 64)
                                    .f32("qwen3.rope.scaling.yarn_beta_fast", 16.0f));
  EXPECT_EQ(yarn.ropes[0].yarn, (YarnScaling{.factor = 4, .beta_fast = 16, .original_context = 64}));
  EXPECT_NEAR(yarn.ropes[0].magnitude, 1 + 0.1 * std::log(4.0), 1e-6);
  EXPECT_EQ(yarn.ropes[0].divisors.size(), 4u);

  EXPECT_EQ(read_gguf(gguf_model("llama").u32("llama.attention.sliding_window", 32)).layers[1].window, 32);
  EXPECT_EQ(read_gguf(gguf_model("llama").u32("llama.attention.sliding_window", 0)).layers[1].window, 0);
  expect_gguf_refused(gguf_model("qwen2").u32("qwen2.attention.sliding_window", 32), ErrorCode::unsupported,
                      {"sliding_window", "32"});
}

TEST(Config, RefusesGgufThatDoesNotFit) {
  expect_gguf_refused(GgufWriter().u32("x", 1).tensor_f32("t", {1}), ErrorCode::model, {"general.architecture"});
  expect_gguf_refused(gguf_model("falcon"), ErrorCode::unsupported, {"falcon", "gpt2", "llama", "qwen2", "qwen3"});
  expect_gguf_refused(gguf_model("mistral"), ErrorCode::unsupported, {"\"mistral\""});
  expect_gguf_refused(GgufWriter().text("general.architecture", "llama"), ErrorCode::unsupported, {"vocabulary only"});
  expect_gguf_refused(GgufWriter().text("general.architecture", "llama").tensor_f32("t", {1}), ErrorCode::model,
                      {"token_embd.weight"});
  expect_gguf_refused(gguf_model("llama").u32("llama.attention.head_count_kv", 3), ErrorCode::model, {"8 heads"});
  expect_gguf_refused(gguf_model("llama").u32("llama.attention.head_count_kv", 0), ErrorCode::model, {"head_count_kv"});
  expect_gguf_refused(gguf_model("llama").text("llama.attention.head_count_kv", "2"), ErrorCode::model,
                      {"head_count_kv"});
  expect_gguf_refused(gguf_model("llama").u32("llama.rope.dimension_count", 4), ErrorCode::unsupported,
                      {"dimension_count"});
  expect_gguf_refused(gguf_model("llama").u32("llama.attention.value_length", 16), ErrorCode::unsupported,
                      {"value_length"});
  expect_gguf_refused(gguf_model("llama").u32("llama.attention.key_length", 7).u32("llama.attention.value_length", 7),
                      ErrorCode::model, {"even"});
  expect_gguf_refused(gguf_model("llama").f32("llama.rope.freq_base", std::nanf("")), ErrorCode::model, {"freq_base"});
  expect_gguf_refused(gguf_model("llama").f32("llama.rope.freq_base", -1.0f), ErrorCode::model, {"freq_base"});
}

std::string array(std::uint32_t type, std::uint64_t n, const std::string& bytes) {
  return test::raw(type) + test::raw(n) + bytes;
}
std::string counts(const std::vector<std::uint32_t>& values) { return array(4, values.size(), test::raw(values)); }
std::string flags(const std::string& values) {
  std::string bytes;
  for (const char c : values) bytes += c == '1' ? '\1' : '\0';
  return array(7, values.size(), bytes);
}

TEST(Config, ReadsGgufNumbersOfEachLayer) {
  // The writer of tests keeps every key: these two are not in its usual ones.
  const auto with = [](const char* key, const std::string& bytes) { return gguf_model("gemma3").put(key, 9, bytes); };
  const char* kv = "gemma3.attention.head_count_kv";
  EXPECT_EQ(read_gguf(with(kv, counts({2, 2}))).n_kv_heads, 2);
  EXPECT_EQ(read_gguf(with(kv, counts({1, 1}))).n_kv_heads, 1);
  expect_gguf_refused(with(kv, counts({2, 4})), ErrorCode::unsupported,
                      {"head_count_kv", "the same for all layers", "2 and 4"});
  expect_gguf_refused(with(kv, counts({2, 2, 2})), ErrorCode::model,
                      {"head_count_kv", "each of the 2 layers", "found 3"});
  expect_gguf_refused(with(kv, counts({})), ErrorCode::model, {"head_count_kv", "found 0"});
  expect_gguf_refused(with(kv, counts({2, 0})), ErrorCode::model, {"head_count_kv", "found 0"});

  const auto windows = [&](GgufWriter writer) {
    std::vector<int> out;
    for (const LayerPlan& plan : read_gguf(writer.u32("gemma3.attention.sliding_window", 16)).layers)
      out.push_back(plan.window);
    return out;
  };
  const char* pattern = "gemma3.attention.sliding_window_pattern";
  EXPECT_EQ(windows(gguf_model("gemma3")), (std::vector{16, 16}));
  EXPECT_EQ(windows(gguf_model("gemma3").u32(pattern, 2)), (std::vector{16, 0}));
  EXPECT_EQ(windows(with(pattern, flags("01"))), (std::vector{0, 16}));
  EXPECT_EQ(windows(gguf_model("gemma3").u32(pattern, 1)), (std::vector{0, 0}));
  const auto refused = [&](GgufWriter writer, ErrorCode code, const std::vector<std::string>& parts) {
    expect_gguf_refused(writer.u32("gemma3.attention.sliding_window", 16), code, parts);
  };
  refused(with(pattern, flags("011")), ErrorCode::model, {"sliding_window_pattern", "each of the 2 layers", "found 3"});
  refused(with(pattern, counts({1, 0})), ErrorCode::model, {"sliding_window_pattern", "a bool"});
  refused(gguf_model("gemma3").put(pattern, 5, test::raw(-1)), ErrorCode::model, {"sliding_window_pattern", "-1"});

  GgufWriter wide;
  wide.text("general.architecture", "llama").u32("llama.block_count", 2).u32("llama.embedding_length", 64);
  wide.put("llama.feed_forward_length", 9, counts({128, 96})).u32("llama.attention.head_count", 8);
  wide.u32("llama.context_length", 256).f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const Config c = read_gguf(wide.tensor_f32("token_embd.weight", {64, 20}));
  EXPECT_EQ(c.d_ff_of(c.layers[0]), 128);
  EXPECT_EQ(c.d_ff_of(c.layers[1]), 96);
}

TEST(Config, ReadsGgufExperts) {
  const auto with = [](std::uint32_t chosen) {
    return gguf_model("llama").u32("llama.expert_count", 4).u32("llama.expert_used_count", chosen);
  };
  const Config c = read_gguf(with(2).tensor_f32("blk.1.ffn_gate_inp.weight", {64, 4}));
  EXPECT_EQ(c.layers[0], LayerPlan{});
  EXPECT_EQ(c.layers[1], (LayerPlan{.experts = {.count = 4, .chosen = 2}}));
  expect_gguf_refused(with(5), ErrorCode::model, {"expert_used_count", "4 experts", "found 5"});
  expect_gguf_refused(gguf_model("llama").u32("llama.expert_count", 4), ErrorCode::model, {"expert_used_count"});
  expect_gguf_refused(with(2).u32("llama.expert_shared_count", 1), ErrorCode::unsupported, {"expert_shared_count"});
  expect_gguf_refused(with(2).f32("llama.expert_weights_scale", 2.5f), ErrorCode::unsupported,
                      {"expert_weights_scale"});
  expect_gguf_refused(with(2).u32("llama.expert_gating_func", 2), ErrorCode::unsupported,
                      {"expert_gating_func", "softmax"});
  expect_gguf_refused(with(2).u32("llama.expert_group_count", 2), ErrorCode::unsupported, {"expert_group_count"});
}

TEST(Config, ReadsGgufOfLaterArchitectures) {
  const auto gemma =
      read_gguf(gguf_model("gemma3").u32("gemma3.attention.key_length", 32).u32("gemma3.attention.value_length", 32));
  EXPECT_EQ(gemma.embedding_scale, 8);
  EXPECT_EQ(gemma.final_norm, Norm::rms);
  EXPECT_EQ(gemma.layers[0].query_scale, 1 / std::sqrt(32.0f));
  EXPECT_EQ(gemma.ropes.size(), 2u);
  EXPECT_EQ(read_gguf(gguf_model("gemma2")).layers[0].window, 4096);
  EXPECT_EQ(read_gguf(gguf_model("gemma2").u32("gemma2.attention.sliding_window", 0)).layers[0].window, 0);
  EXPECT_EQ(read_gguf(gguf_model("granite").f32("granite.logit_scale", 8)).logit_scale, 0.125f);
  expect_gguf_refused(gguf_model("granite").flag("granite.rope.scaling.finetuned", false), ErrorCode::unsupported,
                      {"finetuned", "without RoPE"});
  expect_gguf_refused(gguf_model("olmo2").u32("olmo2.attention.sliding_window", 16), ErrorCode::unsupported,
                      {"sliding_window", "16"});
  EXPECT_EQ(read_gguf(gguf_model("phi3").u32("phi3.rope.dimension_count", 6)).ropes[0].dim, 6);
  expect_gguf_refused(gguf_model("phi3").u32("phi3.rope.dimension_count", 10), ErrorCode::model,
                      {"dimension_count", "10"});
}

}  // namespace
}  // namespace pith
