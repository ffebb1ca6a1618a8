// SPDX-License-Identifier: MIT
// Opening whole models: Hugging Face directories, shards, sidecars, GGUF files, and weights out of them.
#include "checkpoint.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "pith/model.hpp"
#include "pith/quantize.hpp"
#include "pith/tokenizer.hpp"
#include "support/files.hpp"
#include "support/shared_data.hpp"

namespace pith {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_error;
using test::GgufWriter;
using test::raw;
using test::SafetensorsWriter;
using test::TempFolder;

const char* const gpt2_config =
    R"({"model_type":"gpt2","n_embd":4,"n_layer":1,"n_head":2,"n_positions":8,"vocab_size":6,"eos_token_id":1})";
const char* const llama_config =
    R"({"model_type":"llama","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,)"
    R"("vocab_size":6,"eos_token_id":1,"bos_token_id":0})";

SafetensorsWriter llama_tensors() { return SafetensorsWriter().f32("model.embed_tokens.weight", {6, 4}); }

SafetensorsWriter gates(const std::string& prefix = "model.layers.0.self_attn.", std::int64_t dim = 3) {
  return SafetensorsWriter()
      .f32(prefix + "q_int.weight", {dim, 4}, 100.0f)
      .f32(prefix + "k_int.weight", {dim, 4}, 200.0f)
      .f32(prefix + "int_bias", {1}, 0.5f);
}

GgufWriter llama_gguf() {
  return GgufWriter()
      .text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.embedding_length", 4)
      .u32("llama.feed_forward_length", 8)
      .u32("llama.attention.head_count", 2)
      .u32("llama.context_length", 16)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .tensor_f32("token_embd.weight", {4, 6});
}

/// A Hugging Face directory of these files.
void write_model(const TempFolder& folder, std::string_view config, const SafetensorsWriter& tensors) {
  folder.write("config.json", config);
  folder.write("model.safetensors", tensors.bytes());
}

std::vector<float> values(const Matrix& m) {
  std::vector<float> out(m.rows() * m.cols());
  for (std::size_t r = 0; r < m.rows(); ++r) m.row(r, std::span(out).subspan(r * m.cols(), m.cols()));
  return out;
}

bool is_mapped(const Checkpoint& checkpoint, std::string_view name, const Matrix& m) {
  return m.data() == checkpoint.tensors().find(name)->second.bytes.data();
}

TEST(Checkpoint, OpensHuggingFaceDirectories) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  folder.write("generation_config.json", R"({"eos_token_id":[1,3]})");
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.container(), Checkpoint::Container::hugging_face);
  EXPECT_EQ(checkpoint.path(), folder.path());
  EXPECT_EQ(checkpoint.config().architecture, Architecture::llama);
  EXPECT_EQ(checkpoint.config().end_tokens, (std::vector<std::int32_t>{1, 3}));
  EXPECT_FALSE(checkpoint.config().gate);
  EXPECT_TRUE(checkpoint.has("model.embed_tokens.weight"));
  EXPECT_FALSE(checkpoint.has("lm_head.weight"));
}

TEST(Checkpoint, KeepsTheFileMappedAsLongAsAWeightLives) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  const Matrix m = Checkpoint::open(folder.path()).matrix("model.embed_tokens.weight", 6, 4);
  EXPECT_EQ(values(m)[23], 23.0f);
}

TEST(Checkpoint, CopiesOnlyWhatIsMisaligned) {
  const std::vector<float> expected = {1.0f, -2.0f, 3.0f, -4.0f};
  std::vector<f16> half;
  half.reserve(expected.size());
  for (const float x : expected) half.push_back(to_f16(x));
  const auto copies = [&](const char* dtype, const std::string& bytes, std::uintptr_t alignment) {
    int copied = 0;
    for (std::size_t padding = 0; padding < 4; ++padding) {
      const TempFolder folder;
      folder.write("config.json", llama_config);
      folder.write("model.safetensors", SafetensorsWriter().add("t", dtype, {2, 2}, bytes).bytes(padding));
      const auto checkpoint = Checkpoint::open(folder.path());
      const auto m = checkpoint.matrix("t", 2, 2);
      EXPECT_EQ(values(m), expected);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(m.data()) % alignment, 0u);
      EXPECT_EQ(values(checkpoint.matrix("t", 2, 2, TensorName::Layout::in_out)), (std::vector{1.f, 3.f, -2.f, -4.f}));
      copied += is_mapped(checkpoint, "t", m) ? 0 : 1;
    }
    return copied;
  };
  EXPECT_EQ(copies("F32", raw(expected), alignof(float)), 3);
  EXPECT_EQ(copies("F16", raw(half), alignof(f16)), 2);
}

TEST(Checkpoint, TransposesWhatIsStoredInputsFirst) {
  const TempFolder folder;
  std::vector<std::uint16_t> half;
  half.reserve(37 * 70);
  for (int i = 0; i < 37 * 70; ++i) half.push_back(static_cast<std::uint16_t>(i));
  write_model(folder, gpt2_config, SafetensorsWriter().f32("w", {37, 70}).add("h", "BF16", {37, 70}, raw(half)));
  const auto checkpoint = Checkpoint::open(folder.path());
  const auto w = checkpoint.matrix("w", 70, 37, TensorName::Layout::in_out);
  ASSERT_EQ(w.rows(), 70u);
  const auto all = values(w);
  for (std::size_t r = 0; r < 70; ++r)
    for (std::size_t c = 0; c < 37; ++c) ASSERT_EQ(all[r * 37 + c], static_cast<float>(c * 70 + r));
  const auto h = checkpoint.matrix("h", 70, 37, TensorName::Layout::in_out);
  EXPECT_EQ(h.format(), Format::bf16);
  EXPECT_EQ(values(h)[5 * 37 + 3], to_float(bf16{3 * 70 + 5}));
}

TEST(Checkpoint, DecodesVectorsOfEveryFormat) {
  const TempFolder folder;
  q8_0 block{to_f16(0.5f), {}};
  for (int i = 0; i < 32; ++i) block.quants[i] = static_cast<std::int8_t>(i - 16);
  auto writer = llama_gguf();
  writer.tensor("f32", {2}, 0, raw(std::vector{1.5f, -2.0f}))
      .tensor("f16", {2}, 1, raw(std::vector{to_f16(1.5f), to_f16(-2)}));
  writer.tensor("bf16", {2}, 30, raw(std::vector{to_bf16(1.5f), to_bf16(-2)})).tensor("q8_0", {32}, 8, raw(block));
  const auto checkpoint = Checkpoint::open(folder.write("m.gguf", writer.bytes()));
  for (const char* name : {"f32", "f16", "bf16"})
    EXPECT_EQ(checkpoint.vector(name, 2), (std::vector{1.5f, -2.0f})) << name;
  EXPECT_EQ(checkpoint.vector("q8_0", 32)[0], -8.0f);
  EXPECT_EQ(checkpoint.vector("q8_0", 32)[31], 7.5f);
}

template <Block B>
void expect_loaded() {
  constexpr std::size_t rows = 3, cols = 2 * BlockTraits<B>::values;
  std::vector<float> in(rows * cols), expected(rows * cols);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * i % 101) - 40.0f;
  std::vector<B> blocks(rows * 2);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    BlockTraits<B>::encode(&in[b * cols / 2], blocks[b]);
    BlockTraits<B>::decode(blocks[b], &expected[b * cols / 2]);
  }
  std::string bytes(sizeof(B) * blocks.size(), '\0');
  std::memcpy(bytes.data(), blocks.data(), bytes.size());
  const TempFolder folder;
  const auto open = [&](std::uint64_t columns) {
    return Checkpoint::open(
        folder.write("m.gguf", llama_gguf().tensor("w", {columns, rows}, BlockTraits<B>::ggml_type, bytes).bytes()));
  };
  const auto checkpoint = open(cols);
  const auto matrix = checkpoint.matrix("w", rows, cols);
  EXPECT_EQ(matrix.format(), format_of<B>);
  EXPECT_EQ(values(matrix), expected);
  EXPECT_TRUE(is_mapped(checkpoint, "w", matrix)) << "loaded as it lies";
  expect_error(ErrorCode::format,
               {"m.gguf", "\"w\"", "multiple of " + std::to_string(BlockTraits<B>::values), std::to_string(cols - 2)},
               [&] { open(cols - 2); });
}

TEST(Checkpoint, LoadsBlocksAsTheyLie) {
  const auto check = []<Block B>() {
    SCOPED_TRACE(BlockTraits<B>::name);
    if constexpr (BlockTraits<B>::values > 1) expect_loaded<B>();
  };
  for (const Format format : all_formats) visit(format, check);
}

TEST(Checkpoint, ReadsScalarsAsVectorsOfOne) {
  const TempFolder folder;
  write_model(folder, llama_config, SafetensorsWriter().f32("s", {}, 4.0f).f32("v", {1}, 5.0f));
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.vector("s", 1), std::vector{4.0f});
  EXPECT_EQ(checkpoint.vector("v", 1), std::vector{5.0f});
}

TEST(Checkpoint, NamesShapesThatDoNotFit) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors().f32("v", {4}).f32("none", {0, 4}));
  const auto checkpoint = Checkpoint::open(folder.path());
  const auto refused = [&](std::vector<std::string> parts, auto f) {
    parts.push_back(folder.path().string());
    expect_error(ErrorCode::model, parts, f);
  };
  const char* const name = "model.embed_tokens.weight";
  using enum TensorName::Layout;
  refused({"model.safetensors", name, "[4, 6]", "[6, 4]"}, [&] { checkpoint.matrix(name, 4, 6); });
  refused({name, "[4, 6]", "[6, 4]"}, [&] { checkpoint.matrix(name, 6, 4, in_out); });
  EXPECT_NO_THROW(checkpoint.matrix(name, 4, 6, in_out));
  refused({"\"v\"", "[1, 4]", "[4]"}, [&] { checkpoint.matrix("v", 1, 4); });
  refused({name, "[24]", "[6, 4]"}, [&] { checkpoint.vector(name, 24); });
  refused({"\"v\"", "[5]", "[4]"}, [&] { checkpoint.vector("v", 5); });
  refused({"\"none\""}, [&] { checkpoint.matrix("none", 0, 4); });
  refused({"\"absent\"", "no such tensor"}, [&] { checkpoint.matrix("absent", 1, 1); });
  refused({"\"absent\"", "no such tensor"}, [&] { checkpoint.vector("absent", 1); });
}

TEST(Checkpoint, RefusesDtypesOnlyWhereTheyAreUsed) {
  const TempFolder folder;
  SafetensorsWriter tensors;
  for (const char* dtype : {"F64", "I64", "U64"}) tensors.add(dtype, dtype, {1, 1}, std::string(8, '\0'));
  for (const char* dtype : {"I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"}) tensors.add(dtype, dtype, {1, 1}, "x");
  write_model(folder, gpt2_config, tensors);
  const auto checkpoint = Checkpoint::open(folder.path());
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    EXPECT_FALSE(tensor.supported);
    EXPECT_EQ(tensor.dtype, name);
    expect_error(ErrorCode::unsupported, {"model.safetensors", "tensor \"" + name, "found " + name},
                 [&, wanted = name] { checkpoint.matrix(wanted, 1, 1); });
  }
  auto writer = llama_gguf();
  writer.tensor("quantised", {256}, 21, std::string(110, 'x')).tensor("unknown", {256}, 99, std::string(144, 'x'));
  const auto gguf = Checkpoint::open(folder.write("m.gguf", writer.bytes()));
  expect_error(ErrorCode::unsupported, {"m.gguf", "quantised", "F32, F16, BF16 or (in GGUF) Q8_0", "IQ3_S"},
               [&] { gguf.vector("quantised", 256); });
  expect_error(ErrorCode::unsupported, {"m.gguf", "unknown", "ggml type 99"}, [&] { gguf.vector("unknown", 256); });
}

TEST(Checkpoint, CompletesTheNamesOfBaseModels) {
  const TempFolder folder;
  write_model(folder, gpt2_config,
              SafetensorsWriter()
                  .f32("wte.weight", {1})
                  .f32("wpe.weight", {1})
                  .f32("h.0.ln_1.bias", {1})
                  .f32("ln_f.bias", {1}));
  const auto gpt2 = Checkpoint::open(folder.path());
  for (const char* name : {"wte.weight", "wpe.weight", "h.0.ln_1.bias", "ln_f.bias"})
    EXPECT_TRUE(gpt2.has("transformer." + std::string(name)) && !gpt2.has(name)) << name;

  write_model(folder, llama_config,
              SafetensorsWriter()
                  .f32("embed_tokens.weight", {1})
                  .f32("layers.0.mlp.up_proj.weight", {1})
                  .f32("norm.weight", {1})
                  .f32("lm_head.weight", {1}));
  const auto llama = Checkpoint::open(folder.path());
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"})
    EXPECT_TRUE(llama.has(name)) << name;

  write_model(folder, gpt2_config, SafetensorsWriter().f32("wte.weight", {1}).f32("transformer.wte.weight", {1}));
  expect_error(ErrorCode::model, {"transformer.wte.weight", "twice"}, [&] { Checkpoint::open(folder.path()); });
}

TEST(Checkpoint, NamesWhatADirectoryLacks) {
  const TempFolder folder;
  const auto open = [&] { Checkpoint::open(folder.path()); };
  expect_error(ErrorCode::file, {"config.json"}, open);
  folder.write("config.json", llama_config);
  expect_error(ErrorCode::file, {folder.path().string(), "model.safetensors", "neither"}, open);
  folder.write("pytorch_model.bin", "");
  expect_error(ErrorCode::file, {"pytorch_model.bin"}, open);
  expect_error(ErrorCode::file, {"nowhere"}, [&] { Checkpoint::open(folder.path() / "nowhere"); });
  fs::create_directory(folder.path() / "model.safetensors");
  expect_error(ErrorCode::file, {"model.safetensors", "a directory"}, open);
  expect_error(ErrorCode::format, {"notes.txt", "GGUF"}, [&] { Checkpoint::open(folder.write("notes.txt", "hello")); });
}

TEST(Checkpoint, AFileOfADirectoryIsNoModel) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  folder.write("model-00001-of-00002.safetensors", llama_tensors().bytes());
  folder.write("model.safetensors.index.json", "{}");
  for (const char* name :
       {"model.safetensors", "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"}) {
    const fs::path path = folder.path() / name;
    const std::vector<std::string> says = {"a Hugging Face directory (such as '" + folder.path().string() + "')",
                                           ".gguf", "'" + path.string() + "'"};
    expect_error(ErrorCode::file, says, [&] { Checkpoint::open(path); });
    expect_error(ErrorCode::file, says, [&] { Model::load(path); });
    expect_error(ErrorCode::file, says, [&] { ModelFiles::read(path); });
    expect_error(ErrorCode::file, says, [&] { Tokenizer::load(path); });
    expect_error(ErrorCode::file, says, [&] { quantize(path, folder.path() / "out.gguf"); });
  }
  EXPECT_FALSE(fs::exists(folder.path() / "out.gguf"));
}

TEST(Checkpoint, RefusesEveryTruncationOfItsFiles) {
  const TempFolder folder;
  const std::string config = llama_config, tensors = llama_tensors().bytes(), generation = R"({"eos_token_id":[1,3]})";
  const auto all_prefixes = [&](const char* name, const std::string& whole) {
    for (std::size_t n = 0; n < whole.size(); ++n) {
      folder.write(name, whole.substr(0, n));
      EXPECT_THROW(Checkpoint::open(folder.path()), Error) << name << ": the first " << n << " bytes";
    }
    folder.write(name, whole);
    EXPECT_NO_THROW(Checkpoint::open(folder.path())) << name;
  };
  folder.write("config.json", config);
  folder.write("model.safetensors", tensors);
  all_prefixes("generation_config.json", generation);
  all_prefixes("config.json", config);
  all_prefixes("model.safetensors", tensors);
  all_prefixes("gates.safetensors", gates().bytes());
}

class Shards : public testing::Test {
 protected:
  Shards() {
    folder.write("config.json", llama_config);
    folder.write("one.safetensors", SafetensorsWriter().f32("embed_tokens.weight", {6, 4}).f32("extra", {1}).bytes());
    folder.write("two.safetensors", SafetensorsWriter().f32("lm_head.weight", {6, 4}, 50.0f).bytes());
  }

  void index(const json& map) { folder.write("model.safetensors.index.json", json{{"weight_map", map}}.dump()); }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) {
    expect_error(code, parts, [&] { Checkpoint::open(folder.path()); });
  }

  TempFolder folder;
};

TEST_F(Shards, AreOneModel) {
  index({{"embed_tokens.weight", "one.safetensors"}, {"lm_head.weight", "two.safetensors"}});
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(values(checkpoint.matrix("model.embed_tokens.weight", 6, 4))[1], 1.0f);
  EXPECT_EQ(values(checkpoint.matrix("lm_head.weight", 6, 4))[1], 51.0f);
}

TEST_F(Shards, AreNamedWhereTheyAreMissing) {
  index({{"a", "one.safetensors"}, {"b", "three.safetensors"}, {"c", "four.safetensors"}});
  expect_refused(ErrorCode::file, {"index.json", "four.safetensors, three.safetensors"});
  index({{"a", "one.safetensors"}});
  expect_refused(ErrorCode::model, {"one.safetensors", "\"a\"", "no such tensor"});
}

TEST_F(Shards, StayInTheirDirectory) {
  fs::create_directory(folder.path() / "sub");
  const auto outside = folder.path() / "one.safetensors";
  for (const std::string& name :
       {std::string("../one.safetensors"), outside.string(), std::string("sub/../one.safetensors"), std::string(".."),
        std::string("."), std::string(), std::string("sub\\one"), std::string("one.safetensors\0", 16)}) {
    index({{"embed_tokens.weight", name}});
    expect_refused(ErrorCode::format, {"index.json", "weight_map", "embed_tokens.weight", "same directory"});
  }
}

TEST_F(Shards, NeedAnIndexThatIsOne) {
  for (const char* text :
       {"[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":null}})"}) {
    folder.write("model.safetensors.index.json", text);
    expect_refused(ErrorCode::format, {"index.json", "weight_map"});
  }
  for (const char* text : {"", "{", "x"}) {
    folder.write("model.safetensors.index.json", text);
    expect_refused(ErrorCode::format, {"index.json", "JSON"});
  }
}

TEST(Gates, OfTheModelItself) {
  const TempFolder folder;
  auto config = json::parse(llama_config);
  config["drop_gate"] = {{"type", "interaction"}, {"dim", 3}, {"threshold", 0.5}, {"recent", 4}};
  write_model(folder, config.dump(), gates());
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.config().gate);
  EXPECT_EQ(checkpoint.config().gate->dim, 3);
  EXPECT_EQ(checkpoint.config().gate->threshold, 0.5f);
  EXPECT_EQ(checkpoint.config().gate->recent, 4);

  write_model(folder, llama_config, gates());  // unannounced
  EXPECT_EQ(Checkpoint::open(folder.path()).config().gate->dim, 3);
}

TEST(Gates, OfASidecar) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  folder.write("gates.safetensors", gates().bytes());
  const auto inferred = Checkpoint::open(folder.path());
  ASSERT_TRUE(inferred.config().gate);
  EXPECT_EQ(inferred.config().gate->dim, 3);
  EXPECT_EQ(inferred.config().gate->threshold, 0.0f);
  EXPECT_EQ(inferred.config().gate->recent, 1);
  EXPECT_EQ(inferred.vector("model.layers.0.self_attn.int_bias", 1), std::vector{0.5f});

  // A given one goes before the one that lies there, and what it says before what config.json says.
  auto config = json::parse(llama_config);
  config["drop_gate"] = {{"type", "interaction"}, {"dim", 3}, {"recent", 2}};
  folder.write("config.json", config.dump());
  const auto other = folder.write(
      "other.safetensors",
      gates("layers.0.self_attn.", 5).metadata("drop_gate", R"({"type":"interaction","recent":7})").bytes());
  EXPECT_EQ(Checkpoint::open(folder.path()).config().gate->recent, 2);
  const auto given = Checkpoint::open(folder.path(), other);
  EXPECT_EQ(given.config().gate->recent, 7);
  EXPECT_EQ(given.config().gate->dim, 5);
  EXPECT_NO_THROW(given.matrix("model.layers.0.self_attn.q_int.weight", 5, 4));
}

TEST(Gates, OfEachKvHead) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  const auto sidecar = [&](const char* metadata, std::int64_t rows) {
    return folder.write("gates.safetensors",
                        gates("layers.0.self_attn.", rows).metadata("drop_gate", metadata).bytes());
  };
  const char* const unsized = R"({"type":"interaction","scope":"kv_head"})";
  const auto checkpoint = Checkpoint::open(folder.path(), sidecar(unsized, 6));
  EXPECT_EQ(checkpoint.config().gate->dim, 3);
  EXPECT_EQ(checkpoint.config().gates(), 2);
  const auto odd = sidecar(unsized, 5);
  expect_error(ErrorCode::model, {odd.string(), "q_int", "2 times the gate's dim", "[5, 4]"},
               [&] { Checkpoint::open(folder.path(), odd); });
}

TEST(Gates, OfASidecarReplaceTheModelsAndNothingElse) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors().f32("model.layers.1.self_attn.int_bias", {1}));
  const auto sidecar = folder.write("full.safetensors", gates().f32("model.embed_tokens.weight", {1}, -1.0f).bytes());
  const auto checkpoint = Checkpoint::open(folder.path(), sidecar);
  EXPECT_FALSE(checkpoint.has("model.layers.1.self_attn.int_bias"));
  EXPECT_EQ(values(checkpoint.matrix("model.embed_tokens.weight", 6, 4))[1], 1.0f);
}

TEST(Gates, LieOverGguf) {
  const TempFolder folder;
  const auto sidecar = folder.write("gates.safetensors", gates().bytes());
  const auto plain = folder.write("plain.gguf", llama_gguf().bytes());
  EXPECT_FALSE(Checkpoint::open(plain).config().gate);  // only what is asked for lies over a file
  const auto gated = Checkpoint::open(plain, sidecar);
  EXPECT_EQ(gated.config().gate->dim, 3);
  EXPECT_NO_THROW(gated.matrix("model.layers.0.self_attn.q_int.weight", 3, 4));

  const auto own = folder.write("own.gguf", llama_gguf()
                                                .tensor_f32("blk.0.attn_q_int.weight", {4, 2})
                                                .text("drop_gate", R"({"type":"interaction","recent":9})")
                                                .bytes());
  EXPECT_EQ(Checkpoint::open(own).config().gate->dim, 2);
  EXPECT_EQ(Checkpoint::open(own).config().gate->recent, 9);
  EXPECT_FALSE(Checkpoint::open(own, sidecar).has("blk.0.attn_q_int.weight"));
}

TEST(Gates, ThatAreBrokenAreRefused) {
  const TempFolder folder;
  write_model(folder, llama_config, llama_tensors());
  const auto refused = [&](const SafetensorsWriter& sidecar, ErrorCode code, std::vector<std::string> parts) {
    folder.write("gates.safetensors", sidecar.bytes());
    parts.push_back("gates.safetensors");
    expect_error(code, parts, [&] { Checkpoint::open(folder.path()); });
  };
  refused(SafetensorsWriter().f32("model.norm.weight", {4}), ErrorCode::model, {"self_attn.q_int", "none"});
  refused(SafetensorsWriter().f32("model.layers.0.self_attn.q_int.weight", {4}), ErrorCode::model,
          {"[gate dim, features]", "[4]"});
  refused(SafetensorsWriter().f32("model.layers.0.self_attn.q_int.weight", {0, 4}), ErrorCode::model, {"[0, 4]"});
  refused(gates().metadata("drop_gate", "{"), ErrorCode::format, {"drop_gate", "JSON"});
  refused(gates().metadata("drop_gate", "[]"), ErrorCode::model, {"drop_gate", "object"});
  refused(gates().metadata("drop_gate", R"({"type":"interaction","propagate_in_depth":true})"), ErrorCode::unsupported,
          {"propagate_in_depth"});
  expect_error(ErrorCode::file, {"absent.safetensors"},
               [&] { Checkpoint::open(folder.path(), folder.path() / "absent.safetensors"); });

  fs::remove(folder.path() / "gates.safetensors");
  auto config = json::parse(llama_config);
  config["drop_gate"] = {{"type", "interaction"}};
  folder.write("config.json", config.dump());
  expect_error(ErrorCode::model, {"config.json", "drop_gate", "dim"}, [&] { Checkpoint::open(folder.path()); });
}

TEST(Checkpoint, OpensGguf) {
  const TempFolder folder;
  const auto checkpoint = Checkpoint::open(folder.write("m.gguf", llama_gguf().bytes()));
  EXPECT_EQ(checkpoint.container(), Checkpoint::Container::gguf);
  EXPECT_EQ(values(checkpoint.matrix("token_embd.weight", 6, 4))[5], 5.0f);
}

/// Part `number` of three, counted from 0: the metadata and no tensor, the embedding, a norm.
GgufWriter part(int number, std::uint16_t said_parts = 3, int said_number = -1) {
  GgufWriter out;
  if (number == 0) {
    out.text("general.architecture", "llama").u32("llama.block_count", 1).u32("llama.embedding_length", 4);
    out.u32("llama.feed_forward_length", 8).u32("llama.attention.head_count", 2).u32("llama.context_length", 16);
    out.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  }
  out.put("split.no", 2, test::raw(static_cast<std::uint16_t>(said_number < 0 ? number : said_number)));
  out.put("split.count", 2, test::raw(said_parts)).put("split.tensors.count", 5, test::raw(std::int32_t{2}));
  if (number == 1) out.tensor_f32("token_embd.weight", {4, 6});
  if (number == 2) out.tensor_f32("output_norm.weight", {4}, 7.0f);
  return out;
}

TEST(Checkpoint, OpensGgufsInParts) {
  const TempFolder folder;
  const std::string names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
  const auto write = [&](int number, const GgufWriter& writer) { return folder.write(names[number], writer.bytes()); };
  for (int i = 0; i < 3; ++i) write(i, part(i));
  folder.write("n-00001-of-00003.gguf", "of another model");
  for (const std::string& name : names) {
    const auto checkpoint = Checkpoint::open(folder.path() / name);
    EXPECT_EQ(checkpoint.config().d_model, 4);
    EXPECT_EQ(values(checkpoint.matrix("token_embd.weight", 6, 4))[5], 5.0f);
    EXPECT_EQ(checkpoint.vector("output_norm.weight", 4), (std::vector<float>{7, 8, 9, 10}));
    EXPECT_EQ(checkpoint.tensors().size(), 2u);
  }
  const auto refused = [&](ErrorCode code, const std::vector<std::string>& parts) {
    expect_error(code, parts, [&] { Checkpoint::open(folder.path() / names[0]); });
  };
  write(2, part(2, 3, 1));
  refused(ErrorCode::model, {names[2], "part 3 of 3", "part 2 of 3"});
  write(2, part(2, 4));
  refused(ErrorCode::model, {names[2], "part 3 of 3", "part 3 of 4"});
  write(2, part(2).tensor_f32("token_embd.weight", {4, 6}));
  refused(ErrorCode::model, {names[2], "token_embd.weight", "twice"});
  write(2, part(2).tensor_f32("output.weight", {4, 6}));
  refused(ErrorCode::model, {names[0], "2 tensors in all parts", "3"});
  std::filesystem::remove(folder.path() / names[1]);
  refused(ErrorCode::file, {names[0], "all 3 parts", "missing: " + names[1]});
  expect_error(ErrorCode::file, {"m.gguf", "a name that ends as that of one of 3 parts"},
               [&] { Checkpoint::open(folder.write("m.gguf", part(0).bytes())); });
}

TEST(Checkpoint, ReadsGgufFrequencyDivisors) {
  const TempFolder folder;
  const auto open = [&](const GgufWriter& writer) { return Checkpoint::open(folder.write("m.gguf", writer.bytes())); };
  EXPECT_EQ(open(llama_gguf().tensor_f32("rope_freqs.weight", {1}, 8.0f)).config().ropes[0].divisors,
            std::vector{8.0f});
  expect_error(ErrorCode::model, {"rope_freqs.weight", "[1]", "[2]"},
               [&] { open(llama_gguf().tensor_f32("rope_freqs.weight", {2})); });
  expect_error(ErrorCode::model, {"rope_freqs.weight", "positive"},
               [&] { open(llama_gguf().tensor_f32("rope_freqs.weight", {1}, 0.0f)); });
}

TEST(Checkpoint, RefusesSharedVocabulariesWithoutAModel) {
  const auto path = test::shared_data("data/tokenizers/ggml/ggml-vocab-gpt-2.gguf");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/tokenizers/ggml");
  expect_error(ErrorCode::unsupported, {"ggml-vocab-gpt-2.gguf", "vocabulary only"}, [&] { Checkpoint::open(path); });
}

TEST(Checkpoint, OpensTheSharedFixtures) {
  const auto fixtures = test::shared_data("fixtures");
  if (fixtures.empty()) GTEST_SKIP() << test::shared_absent("fixtures");
  for (const auto& [name, layers, gate, recent] : {std::tuple{"gpt2-gated", 3, 16, 1},
                                                   {"llama-gated", 3, 16, 1},
                                                   {"qwen2-gated-bf16", 2, 24, 1},
                                                   {"gpt2-recent", 2, 16, 8},
                                                   {"gpt2-dense", 2, 0, 0}}) {
    const auto checkpoint = Checkpoint::open(fixtures / name);
    const Config& c = checkpoint.config();
    EXPECT_EQ(c.n_layers(), layers) << name;
    EXPECT_EQ(c.gate ? c.gate->dim : 0, gate) << name;
    EXPECT_EQ(c.gate ? c.gate->recent : 0, recent) << name;
    const bool gpt2 = c.architecture == Architecture::gpt2;
    EXPECT_NO_THROW(checkpoint.matrix(gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight",
                                      static_cast<std::size_t>(c.vocab_size), static_cast<std::size_t>(c.d_model)));
  }
}

/// Row r of a head in Hugging Face's order, in the order of ggml: pairs (i, i + dim/2) become neighbours.
std::size_t permuted_row(std::size_t row, std::size_t head_dim) {
  const std::size_t head = row / head_dim, i = row % head_dim, half = head_dim / 2;
  return head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

TEST(Checkpoint, ReadsOneModelAlikeFromAllContainers) {
  const auto folder = test::shared_data("data/models/stories260K");
  if (folder.empty()) GTEST_SKIP() << test::shared_absent("data/models/stories260K");
  const auto hf = Checkpoint::open(folder);
  const Config& c = hf.config();
  const auto d = static_cast<std::size_t>(c.d_model), ff = static_cast<std::size_t>(c.d_ff);
  const auto dq = static_cast<std::size_t>(c.d_query()), dkv = static_cast<std::size_t>(c.d_kv());
  const auto head_dim = static_cast<std::size_t>(c.head_dim);

  for (const std::string name : {"stories260K-f32.gguf", "stories260K-f16.gguf"}) {
    const float tolerance = name == "stories260K-f32.gguf" ? 0.0f : 0.0005f;  // half a unit in the last place of f16
    const auto gguf = Checkpoint::open(folder / name);
    const Config& g = gguf.config();
    EXPECT_EQ(g.architecture, c.architecture);
    EXPECT_EQ(std::tie(g.vocab_size, g.d_model, g.layers, g.n_heads, g.n_kv_heads, g.head_dim, g.d_ff, g.context),
              std::tie(c.vocab_size, c.d_model, c.layers, c.n_heads, c.n_kv_heads, c.head_dim, c.d_ff, c.context));
    EXPECT_EQ(std::tie(g.norm_eps, g.tied_head, g.ropes, g.bos, g.end_tokens),
              std::tie(c.norm_eps, c.tied_head, c.ropes, c.bos, c.end_tokens));
    EXPECT_EQ(g.rope_pairs, RopePairs::adjacent);
    EXPECT_EQ(c.rope_pairs, RopePairs::halves);

    const auto same = [&](const std::string& theirs, const std::string& ours, std::size_t rows, std::size_t cols,
                          bool rotated = false) {
      const auto a = values(hf.matrix(ours, rows, cols)), b = values(gguf.matrix(theirs, rows, cols));
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < cols; ++i) {
          const float x = a[r * cols + i], y = b[(rotated ? permuted_row(r, head_dim) : r) * cols + i];
          ASSERT_LE(std::abs(x - y), tolerance * std::abs(x) + tolerance * 1e-3f)
              << name << " " << ours << " " << r << " " << i;
        }
    };
    same("token_embd.weight", "model.embed_tokens.weight", static_cast<std::size_t>(c.vocab_size), d);
    EXPECT_EQ(gguf.vector("output_norm.weight", d), hf.vector("model.norm.weight", d));
    for (int i = 0; i < c.n_layers(); ++i) {
      const auto theirs = "blk." + std::to_string(i) + ".", ours = "model.layers." + std::to_string(i) + ".";
      same(theirs + "attn_q.weight", ours + "self_attn.q_proj.weight", dq, d, true);
      same(theirs + "attn_k.weight", ours + "self_attn.k_proj.weight", dkv, d, true);
      same(theirs + "attn_v.weight", ours + "self_attn.v_proj.weight", dkv, d);
      same(theirs + "attn_output.weight", ours + "self_attn.o_proj.weight", d, dq);
      same(theirs + "ffn_gate.weight", ours + "mlp.gate_proj.weight", ff, d);
      same(theirs + "ffn_up.weight", ours + "mlp.up_proj.weight", ff, d);
      same(theirs + "ffn_down.weight", ours + "mlp.down_proj.weight", d, ff);
      EXPECT_EQ(gguf.vector(theirs + "attn_norm.weight", d), hf.vector(ours + "input_layernorm.weight", d));
      EXPECT_EQ(gguf.vector(theirs + "ffn_norm.weight", d), hf.vector(ours + "post_attention_layernorm.weight", d));
    }
  }
}

}  // namespace
}  // namespace pith
