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

TEST(Config, RefusesByNameWhatChangesTheMathematics) {
  const auto llama = llama_like("llama");
  for (const char* type : {"dynamic", "yarn", "longrope", "su", "mrope"}) {
    expect_refused(changed(llama, "rope_scaling", {{"type", type}, {"factor", 2}}), ErrorCode::unsupported,
                   {"rope_scaling", type});
    expect_refused(changed(llama, "rope_parameters", {{"rope_type", type}}), ErrorCode::unsupported,
                   {"rope_parameters", type});
  }
  expect_refused(changed(llama, "partial_rotary_factor", 0.5), ErrorCode::unsupported,
                 {"partial_rotary_factor", "0.5"});
  expect_refused(changed(llama, "rope_parameters", {{"full_attention", json::object()}}), ErrorCode::unsupported,
                 {"full_attention"});
  expect_refused(changed(llama, "model_type", "mixtral"), ErrorCode::unsupported,
                 {"mixtral", "gpt2", "llama", "mistral", "qwen2", "qwen3"});
  expect_refused(changed(llama, "hidden_act", "relu"), ErrorCode::unsupported, {"hidden_act", "relu"});
  expect_refused(changed(llama, "quantization_config", {{"quant_method", "gptq"}}), ErrorCode::unsupported, {"gptq"});
  expect_refused(changed(gpt2(), "scale_attn_weights", false), ErrorCode::unsupported, {"scale_attn_weights"});
  expect_refused(changed(gpt2(), "scale_attn_by_inverse_layer_idx", true), ErrorCode::unsupported,
                 {"scale_attn_by_inverse_layer_idx"});
  expect_refused(changed(gpt2(), "add_cross_attention", true), ErrorCode::unsupported, {"add_cross_attention"});
  EXPECT_NO_THROW(read(changed(gpt2(), "reorder_and_upcast_attn", true)));
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
  expect_gguf_refused(factor(gguf_model("llama")).text("llama.rope.scaling.type", "yarn"), ErrorCode::unsupported,
                      {"yarn"});

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
  expect_gguf_refused(gguf_model("llama").u32("llama.expert_count", 8), ErrorCode::unsupported, {"expert_count"});
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

}  // namespace
}  // namespace pith
