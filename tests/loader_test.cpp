// SPDX-License-Identifier: MIT
// Every tensor of a file is used, or is refused by name; in both containers.
#include "loader.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pith/model.hpp"
#include "pith/quantize.hpp"
#include "support/files.hpp"
#include "support/model_files.hpp"

namespace pith {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_error;
using test::GgufWriter;
using test::SafetensorsWriter;
using test::TempFolder;

json llama_like(const std::string& type) {
  return {{"model_type", type},          {"hidden_size", 8},
          {"num_hidden_layers", 2},      {"vocab_size", 12},
          {"num_attention_heads", 2},    {"intermediate_size", 16},
          {"num_key_value_heads", 1},    {"head_dim", 4},
          {"tie_word_embeddings", true}, {"num_experts", 3},
          {"num_experts_per_tok", 2},    {"moe_intermediate_size", 16}};
}

json gpt2() {
  return {{"model_type", "gpt2"}, {"n_embd", 8},       {"n_layer", 2},
          {"n_head", 2},          {"n_positions", 16}, {"vocab_size", 12}};
}

class Directory {
 public:
  explicit Directory(const json& config)
      : config_(config), tensors_(test::safetensors_of(read_config(config, "test"))) {}

  Directory& with(const std::string& tensor, const std::vector<std::int64_t>& shape = {8}) {
    tensors_.f32(tensor, shape);
    return *this;
  }
  fs::path write(const TempFolder& folder) const {
    folder.write("config.json", config_.dump());
    folder.write("model.safetensors", tensors_.bytes());
    return folder.path();
  }

 private:
  json config_;
  SafetensorsWriter tensors_;
};

/// A GGUF of such a model with these tensors beside its own.
class File {
 public:
  explicit File(const json& config) {
    const Config c = read_config(config, "test");
    const std::string arch(family_of(c.architecture).gguf);
    const auto size = [](int n) { return static_cast<std::uint32_t>(n); };
    writer_.text("general.architecture", arch).u32(arch + ".block_count", size(c.n_layers()));
    writer_.u32(arch + ".embedding_length", size(c.d_model)).u32(arch + ".feed_forward_length", size(c.d_ff));
    writer_.u32(arch + ".attention.head_count", size(c.n_heads)).u32(arch + ".context_length", size(c.context));
    writer_.u32(arch + ".attention.head_count_kv", size(c.n_kv_heads))
        .u32(arch + ".attention.key_length", size(c.head_dim));
    writer_.f32(arch + (c.learned_positions ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon"),
                1e-5f);
    if (const Experts& experts = c.layers[0].experts; experts.count > 0)
      writer_.u32(arch + ".expert_count", size(experts.count)).u32(arch + ".expert_used_count", size(experts.chosen));
    test::add_tensors(writer_, c);
  }

  File& with(const std::string& tensor, std::uint64_t numbers = 8) {
    writer_.tensor_f32(tensor, {numbers}, 1.0f);
    return *this;
  }
  fs::path write(const TempFolder& folder) const { return folder.write("m.gguf", writer_.bytes()); }

 private:
  GgufWriter writer_;
};

/// To load and to quantize such a model is refused, and each of these is said.
void expect_refused(const fs::path& model, const std::vector<std::string>& parts,
                    ErrorCode code = ErrorCode::unsupported) {
  expect_error(code, parts, [&] { Model::load(model); });
  const fs::path out = (fs::is_directory(model) ? model : model.parent_path()) / "out.gguf";
  expect_error(code, parts, [&] { quantize(model, out); });
  EXPECT_FALSE(fs::exists(out));
}

constexpr const char* unused = "only tensors that the model uses";

TEST(Loader, LoadsModelsThatAreWhole) {
  const TempFolder folder;
  for (const json& config :
       {gpt2(), llama_like("llama"), llama_like("mistral"), llama_like("qwen2"), llama_like("qwen3"),
        llama_like("mixtral"), llama_like("qwen3_moe"), llama_like("gemma2"), llama_like("gemma3_text"),
        llama_like("phi3"), llama_like("smollm3"), llama_like("olmo2"), llama_like("granite")}) {
    SCOPED_TRACE(config.dump());
    const Model a = Model::load(Directory(config).write(folder)), b = Model::load(File(config).write(folder));
    EXPECT_EQ(a.parameters(), b.parameters());
    EXPECT_EQ(a.config().layers.size(), 2u);
    const auto names = a.tensors().size();
    if (a.config().layers[0].experts.count == 0) {
      EXPECT_EQ(names, b.tensors().size()) << "no file has one that the other lacks";
    }
  }
}

TEST(Loader, NamesTensorsThatAreMissing) {
  const TempFolder folder;
  auto biased = llama_like("llama");
  biased["attention_bias"] = true;
  folder.write("config.json", biased.dump());
  folder.write("model.safetensors", test::safetensors_of(read_config(llama_like("llama"), "test")).bytes());
  expect_refused(folder.path(), {"model.layers.0.self_attn.q_proj.bias", "no such tensor"}, ErrorCode::model);
}

TEST(Loader, RefusesBiasesThatTheConfigDoesNotKnow) {
  const TempFolder folder;
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.o_proj.bias",
                           "model.layers.1.mlp.up_proj.bias", "model.norm.bias", "model.embed_tokens.bias"})
    expect_refused(Directory(llama_like("llama")).with(name).write(folder),
                   {"model.safetensors", name, unused, "by what the model says of itself"});
  // A base model's, whose name lacks the prefix.
  expect_refused(Directory(llama_like("qwen2")).with("layers.1.self_attn.o_proj.bias").write(folder),
                 {"model.layers.1.self_attn.o_proj.bias", unused});
  for (const char* name : {"blk.0.attn_k.bias", "blk.1.attn_q.bias", "blk.1.ffn_down.bias", "output_norm.bias"})
    expect_refused(File(llama_like("llama")).with(name).write(folder), {"m.gguf", name, unused});
}

TEST(Loader, RefusesNormsThatTheArchitectureDoesNotHave) {
  const TempFolder folder;
  for (const char* type : {"llama", "mistral", "qwen2"}) {
    expect_refused(Directory(llama_like(type)).with("model.layers.1.self_attn.q_norm.weight", {4}).write(folder),
                   {"model.safetensors", "model.layers.1.self_attn.q_norm.weight", unused});
    expect_refused(File(llama_like(type)).with("blk.0.attn_q_norm.weight", 4).write(folder),
                   {"m.gguf", "blk.0.attn_q_norm.weight", unused});
  }
  expect_refused(File(llama_like("qwen3")).with("blk.0.post_attention_norm.weight").write(folder),
                 {"blk.0.post_attention_norm.weight", unused});
}

TEST(Loader, RefusesLayersBeyondTheLast) {
  const TempFolder folder;
  expect_refused(Directory(llama_like("llama")).with("model.layers.2.input_layernorm.weight").write(folder),
                 {"model.safetensors", "model.layers.2.input_layernorm.weight", unused, "layer 2", "the last is 1"});
  expect_refused(Directory(gpt2()).with("transformer.h.7.ln_1.weight").write(folder),
                 {"transformer.h.7.ln_1.weight", "layer 7"});
  expect_refused(File(llama_like("qwen3")).with("blk.2.attn_norm.weight").write(folder),
                 {"m.gguf", "blk.2.attn_norm.weight", unused, "layer 2", "the last is 1"});
}

TEST(Loader, RefusesNamesThatNobodyKnows) {
  const TempFolder folder;
  for (const char* name : {"model.layers.0.self_attn.sinks", "model.layers.x.input_layernorm.weight", "score.weight",
                           "model.layers.0.mlp.up_proj.weight_scale", "transformer.wte.weight"})
    expect_refused(Directory(llama_like("llama")).with(name).write(folder),
                   {"model.safetensors", name, unused, "llama models do not have"});
  for (const char* name : {"blk.0.attn_sinks.weight", "blk.0.ffn_gate_shexp.weight", "model.norm.weight"})
    expect_refused(File(llama_like("qwen2")).with(name).write(folder), {"m.gguf", name, unused, "qwen2 models"});
  // Learned positions: no frequencies to divide.
  expect_refused(File(gpt2()).with("rope_freqs.weight", 2).write(folder), {"rope_freqs.weight", unused});
}

TEST(Loader, AllowsWhatIsKnownToBeHarmless) {
  const TempFolder folder;
  EXPECT_NO_THROW(Model::load(Directory(llama_like("llama"))
                                  .with("model.layers.0.self_attn.rotary_emb.inv_freq", {2})
                                  .with("model.rotary_emb.inv_freq", {2})
                                  .with("lm_head.weight", {12, 8})
                                  .write(folder)));
  EXPECT_NO_THROW(Model::load(Directory(gpt2())
                                  .with("transformer.h.0.attn.bias", {1, 1, 16, 16})
                                  .with("h.1.attn.masked_bias", {})
                                  .with("lm_head.weight", {12, 8})
                                  .write(folder)));
  const Model model = Model::load(
      File(llama_like("llama")).with("rope_freqs.weight", 2).with("blk.0.attn_rot_embd.weight").write(folder));
  EXPECT_EQ(model.config().ropes[0].divisors, (std::vector{1.0f, 2.0f}));
}

TEST(Loader, ReadsParametersOutOfOneTensor) {
  const TempFolder folder;
  const Model fused = Model::load(Directory(gpt2()).write(folder));
  const LayerWeights& w = fused.weights().layers[0];
  std::vector<float> row(8);
  w.wk.weight.row(1, row);  // column 8 + 1 of [8, 24]
  for (int i = 0; i < 8; ++i) EXPECT_EQ(row[static_cast<std::size_t>(i)], static_cast<float>(24 * i + 9));
  EXPECT_EQ(w.wv.bias, (std::vector<float>{16, 17, 18, 19, 20, 21, 22, 23}));

  const Model gguf = Model::load(File(gpt2()).write(folder));
  gguf.weights().layers[1].wv.weight.row(2, row);  // row 16 + 2 of [24, 8]
  for (int i = 0; i < 8; ++i) EXPECT_EQ(row[static_cast<std::size_t>(i)], static_cast<float>(8 * 18 + i));
}

/// A mixture of 3 experts of 16 features, tensor by tensor.
SafetensorsWriter mixture(const std::function<bool(const std::string&)>& left_out,
                          const std::function<std::string(const std::string&)>& dtype) {
  const Config c = read_config(llama_like("mixtral"), "test");
  SafetensorsWriter out;
  const Family& family = family_of(c.architecture);
  for (const auto& [name, shape] : test::shapes_of(
           c, [&](Role role) -> const TensorName& { return *hugging_face_spellings(family, role).front(); })) {
    if (left_out(name)) continue;
    std::size_t numbers = 1;
    for (const auto side : shape) numbers *= static_cast<std::size_t>(side);
    out.add(name, dtype(name), shape, std::string(numbers * (dtype(name) == "F32" ? 4 : 2), '\0'));
  }
  return out;
}

TEST(Loader, ReadsExpertsListedAndStacked) {
  const TempFolder folder;
  const Model stacked = Model::load(File(llama_like("mixtral")).write(folder));
  const auto& experts = stacked.weights().layers[1].experts;
  ASSERT_EQ(experts.size(), 3u);
  std::vector<float> row(8);
  experts[2].gate.weight.row(5, row);  // row 2 * 16 + 5 of [3 * 16, 8]
  for (int i = 0; i < 8; ++i) EXPECT_EQ(row[static_cast<std::size_t>(i)], static_cast<float>(8 * 37 + i));
  const Model listed = Model::load(Directory(llama_like("mixtral")).write(folder));
  listed.weights().layers[1].experts[2].gate.weight.row(5, row);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(row[static_cast<std::size_t>(i)], static_cast<float>(8 * 5 + i));
}

TEST(Loader, NamesExpertsThatAreMissingOrUnlike) {
  const TempFolder folder;
  const auto none = [](const std::string&) { return false; };
  const auto f32 = [](const std::string&) { return std::string("F32"); };
  const auto write = [&](const SafetensorsWriter& writer) {
    folder.write("config.json", llama_like("mixtral").dump());
    folder.write("model.safetensors", writer.bytes());
    return folder.path();
  };
  EXPECT_NO_THROW(Model::load(write(mixture(none, f32))));
  const std::string w3 = "model.layers.1.block_sparse_moe.experts.2.w3.weight";
  expect_refused(write(mixture([&](const std::string& name) { return name == w3; }, f32)), {w3, "no such tensor"},
                 ErrorCode::model);
  expect_refused(write(mixture(none, [&](const std::string& name) { return name == w3 ? "BF16" : "F32"; })),
                 {w3, "f32, as the first expert's", "bf16"}, ErrorCode::model);
  expect_refused(Directory(llama_like("mixtral"))
                     .with("model.layers.1.block_sparse_moe.experts.3.w1.weight", {16, 8})
                     .write(folder),
                 {"experts.3.w1.weight", unused, "expert 3", "the last is 2"});

  // A router that points past them.
  auto five = llama_like("mixtral");
  five["num_experts"] = 5;
  folder.write("config.json", llama_like("mixtral").dump());
  folder.write("model.safetensors", test::safetensors_of(read_config(five, "test")).bytes());
  expect_error(ErrorCode::unsupported, {"experts.3.", "the last is 2"}, [&] { Model::load(folder.path()); });
  folder.write("model.safetensors",
               mixture([](const std::string& name) { return name.ends_with("1.block_sparse_moe.gate.weight"); }, f32)
                   .f32("model.layers.1.block_sparse_moe.gate.weight", {5, 8})
                   .bytes());
  expect_refused(folder.path(), {"layers.1.block_sparse_moe.gate.weight", "shape [3, 8]", "[5, 8]"}, ErrorCode::model);
}

TEST(Loader, ReadsTheTextOfAModelThatReadsMore) {
  const TempFolder folder;
  auto text = llama_like("gemma3_text");
  const Config c = read_config(text, "test");
  for (const auto& [wrapped, vision] : {std::pair("language_model.model.", "vision_tower."),
                                        std::pair("model.language_model.", "model.vision_tower.")}) {
    SafetensorsWriter writer;
    const Family& family = family_of(c.architecture);
    for (const auto& [name, shape] : test::shapes_of(
             c, [&](Role role) -> const TensorName& { return *hugging_face_spellings(family, role).front(); }))
      writer.f32(wrapped + name.substr(std::string_view("model.").size()), shape);
    writer.f32(std::string(vision) + "patch.weight", {2, 2});
    folder.write("model.safetensors", writer.bytes());
    folder.write("config.json", json{{"model_type", "gemma3"}, {"text_config", text}}.dump());
    EXPECT_EQ(Model::load(folder.path()).config().layers.size(), 2u);
    folder.write("config.json", text.dump());
    expect_error(ErrorCode::unsupported, {"language_model", unused}, [&] { Model::load(folder.path()); });
  }
}

TEST(Loader, GatesThatLieOverAFileReplaceItsOwn) {
  const TempFolder folder, sidecar;
  auto config = llama_like("llama");
  config["num_hidden_layers"] = 1;
  const auto gates = [](SafetensorsWriter writer, const std::string& layer, std::int64_t dim) {
    const std::string at = "model.layers." + layer + ".self_attn.";
    return writer.f32(at + "q_int.weight", {dim, 8}).f32(at + "k_int.weight", {dim, 8}).f32(at + "int_bias", {1});
  };
  const auto over = sidecar.write("gates.safetensors", gates({}, "0", 3).f32("model.norm.weight", {8}).bytes());
  folder.write("config.json", config.dump());
  folder.write("model.safetensors", gates(test::safetensors_of(read_config(config, "test")), "0", 5).bytes());
  EXPECT_EQ(Model::load(folder.path()).config().gate->dim, 5);
  EXPECT_EQ(Model::load(folder.path(), {.gates = over}).config().gate->dim, 3);
  const auto gguf = File(config).write(folder);
  EXPECT_EQ(Model::load(gguf, {.gates = over}).config().gate->dim, 3);
  const auto deep = sidecar.write("deep.safetensors", gates(gates({}, "0", 3), "1", 3).bytes());
  expect_error(ErrorCode::unsupported, {"deep.safetensors", "model.layers.1.self_attn.", unused, "layer 1"},
               [&] { Model::load(gguf, {.gates = deep}); });
}

TEST(Loader, ModelsInMemoryHaveWhatTheirPlanSaysAndNothingElse) {
  const TempFolder folder;
  const Model model = Model::load(Directory(llama_like("llama")).write(folder));
  const auto refused = [&](const std::vector<std::string>& parts, auto change) {
    Config config = model.config();
    Weights weights = model.weights();
    change(config, weights);
    expect_error(ErrorCode::model, parts, [&] { Model::create(config, weights); });
  };
  refused({"blk.1.attn_q.bias", "none", "[8]"}, [](Config&, Weights& w) { w.layers[1].wq.bias.resize(8); });
  refused({"blk.0.attn_q.bias", "[8]", "none"}, [](Config& c, Weights&) { c.layers[0].qkv_bias = true; });
  refused({"blk.1.attn_q_norm.weight", "[4]"}, [](Config& c, Weights&) { c.layers[1].qk_norm = QkNorm::head; });
  refused({"blk.1.attn_k_norm.weight", "none"}, [](Config&, Weights& w) { w.layers[1].k_norm.weight.resize(4); });
  refused({"blk.0.ffn_gate.weight", "none", "[16, 8]"}, [](Config& c, Weights&) { c.layers[0].mlp = Mlp::plain; });
  refused({"blk.1.ffn_norm.weight", "none"}, [](Config& c, Weights& w) {
    c.layers[1].pre_norms = false;
    w.layers[1].attention_norm = {};
  });
  refused({"output_norm.bias", "[8]", "none"}, [](Config& c, Weights&) { c.final_norm = Norm::layer; });
  refused({"position_embd.weight", "none"}, [](Config& c, Weights&) { c.learned_positions = true; });
  refused({"head", "the embedding"}, [](Config&, Weights& w) { w.head = w.layers[0].mlp.up.weight; });
  refused({"output.weight", "[12, 8]", "none"}, [](Config& c, Weights& w) { c.tied_head = false, w.head = {}; });
  refused({"layers", "2", "1"}, [](Config&, Weights& w) { w.layers.pop_back(); });
  refused({"rope", "1"}, [](Config& c, Weights&) { c.layers[0].rope = 1; });
  refused({"rope divisors"}, [](Config& c, Weights&) { c.ropes[0].divisors = {1}; });
  refused({"window", "-1"}, [](Config& c, Weights&) { c.layers[0].window = -1; });
  refused({"logit_cap"}, [](Config& c, Weights&) { c.logit_cap = -1; });
}

}  // namespace
}  // namespace pith
