// SPDX-License-Identifier: MIT
// Models written as GGUF: what is read back is what was written, from every container and in every format.
#include "pith/quantize.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "files/gguf.hpp"
#include "pith/prune/methods.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"
#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/random_model.hpp"
#include "support/shared_data.hpp"

namespace pith::testing {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempFolder;

/// Drop sets come out the same and logits equal; bitwise where no row has been moved.
void expect_same(const Model& written, const Model& model, std::span<const Token> tokens, double tolerance) {
  const SessionOptions options{.policy = prune::learned_gate()};
  const bool gated = model.config().gate.has_value();
  const Fed a = feed(written, tokens, {64}, gated ? options : SessionOptions());
  const Fed b = feed(model, tokens, {64}, gated ? options : SessionOptions());
  EXPECT_EQ(a.drop_at, b.drop_at);
  EXPECT_LE(relative_error(a.logits, b.logits), tolerance);
  if (tolerance == 0) {
    EXPECT_TRUE(same_bits(a.logits, b.logits));
  }
}

/// Rotated heads are stored with their rows in another order, which changes the order of additions.
double tolerance_for(const Config& config) {
  const bool moved = !config.ropes.empty() && config.rope_pairs != family_of(config.architecture).gguf_pairs;
  // 1 + weight is rounded when it is written out.
  return moved || config.final_norm == Norm::rms_plus_one ? 1e-5 : 0;
}

TEST(Quantize, KeepsEveryCheckpointInF32) {
  const TempFolder folder;
  for (const std::string& name : golden_names()) {
    SCOPED_TRACE(name);
    const Golden expected = golden(name);
    const auto file = folder.path() / (name + ".gguf");
    const Quantized result = quantize(expected.path, file, {.format = Format::f32});
    EXPECT_EQ(result.bytes, fs::file_size(file));
    const Model model = Model::load(expected.path), written = Model::load(file);
    EXPECT_EQ(written.config().gate.has_value(), model.config().gate.has_value());
    EXPECT_EQ(written.config().end_tokens, model.config().end_tokens);
    EXPECT_EQ(written.config().bos, model.config().bos);
    EXPECT_EQ(written.parameters(), model.parameters());
    expect_same(written, model, expected.tokens, tolerance_for(model.config()));
  }
}

TEST(Quantize, KeepsRandomModelsOfEveryKind) {
  const TempFolder folder;
  int kept = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const Model model = random_model({.seed = seed, .window = 0});
    SCOPED_TRACE(describe(model));
    const auto file = folder.path() / "model.gguf";
    if (model.config().architecture == Architecture::gpt2 && model.config().layers[0].activation == Activation::gelu) {
      expect_error(ErrorCode::unsupported, {"gelu_new", "gelu"}, [&] { quantize(model, file); });
      continue;
    }
    quantize(model, file, {.format = Format::f32});
    expect_same(Model::load(file), model, random_tokens(seed, model.config(), 80), tolerance_for(model.config()));
    ++kept;
  }
  EXPECT_GT(kept, 40);
}

/// The model with its matrices in a format, as quantize() chooses it row length by row length.
Model in_format(const Model& model, Format wanted) {
  const auto encoded = [&](const Matrix& matrix) {
    if (!matrix) return matrix;
    const Format format = fitting(wanted, matrix.cols());
    std::vector<float> values(matrix.rows() * matrix.cols());
    for (std::size_t r = 0; r < matrix.rows(); ++r)
      matrix.row(r, std::span(values).subspan(r * matrix.cols(), matrix.cols()));
    return Matrix::encode(format, {values.data(), matrix.rows(), matrix.cols()});
  };
  Weights w = model.weights();
  w.head = {};
  for_each_parameter(model.config(), w, [&](const Parameter& p, auto& kept) {
    if constexpr (std::is_same_v<decltype(kept), Matrix&>)
      if (!p.exact) kept = encoded(p.role == Role::head ? model.weights().head : kept);
  });
  return Model::create(model.config(), std::move(w));
}

TEST(Quantize, WritesWhatEncodingInMemoryGives) {
  const TempFolder folder;
  for (const Format format : all_formats) {
    for (const Architecture architecture :
         {Architecture::gpt2, Architecture::qwen2, Architecture::llama, Architecture::mixtral, Architecture::gemma3}) {
      const Model model = random_model({.seed = 7, .architecture = architecture, .head_dim = 32, .window = 0});
      SCOPED_TRACE(describe(model) + " as " + std::string(name(format)));
      if (model.config().layers[0].activation == Activation::gelu) continue;
      const auto file = folder.path() / "model.gguf";
      quantize(model, file, {.format = format});
      expect_same(Model::load(file), in_format(model, format), random_tokens(3, model.config(), 60),
                  tolerance_for(model.config()));
    }
  }
}

TEST(Quantize, SaysWhereRowsDoNotFitTheBlocks) {
  const TempFolder folder;
  const Model model = random_model({.architecture = Architecture::qwen2, .head_dim = 6, .window = 0});
  const Quantized result = quantize(model, folder.path() / "m.gguf", {.format = Format::q8_0});
  ASSERT_EQ(result.notes.size(), 1u);  // of wo, whose rows are heads of 6
  EXPECT_NE(result.notes[0].find("no multiple of the 32 of q8_0: f16 instead"), std::string::npos) << result.notes[0];
  for (const TensorInfo& tensor : result.tensors) {
    const bool wo = tensor.name.ends_with("attn_output.weight");
    const bool exact = tensor.shape.size() == 1 || tensor.name.find("_int") != std::string::npos;
    EXPECT_EQ(tensor.format, exact ? "f32" : wo ? "f16" : "q8_0") << tensor.name;
  }
}

/// A Llama whose wo and mlp_down have rows of 256 numbers, all others of 32.
Model narrow_llama(int layers, bool tied) {
  Config config = random_model({.architecture = Architecture::llama, .n_layers = layers, .window = 0}).config();
  config.d_model = 32;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 64;
  config.d_ff = 256;
  config.tied_head = tied;
  Weights weights;
  weights.layers.resize(config.layers.size());
  for_each_parameter(config, weights, [](const Parameter& p, auto& kept) {
    if constexpr (std::is_same_v<decltype(kept), Matrix&>)
      kept = Matrix::encode(Format::f32, Tensor<float>(p.rows, p.cols).view());
    else if constexpr (std::is_same_v<decltype(kept), std::vector<float>&>)
      kept.assign(p.rows, 1.0f);
  });
  return Model::create(config, std::move(weights));
}

struct Mixed {
  std::map<std::string, std::string> formats;
  std::vector<std::string> notes;

  const std::string& of(std::size_t layer, const std::string& name) const {
    return formats.at("blk." + std::to_string(layer) + "." + name + ".weight");
  }
};

Mixed mixed(const Model& model, const std::string& mixture) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  Quantized result = quantize(model, file, {.like = mixture});
  Mixed out{.formats = {}, .notes = std::move(result.notes)};
  for (const TensorInfo& tensor : result.tensors) out.formats[tensor.name] = tensor.format;
  const Model written = Model::load(file);
  EXPECT_EQ(written.tensors().size(), out.formats.size());
  return out;
}

TEST(Quantize, MixesFormatsAsLlamaCppDoes) {
  // What llama-quantize made of Gemma 3 270M, 18 layers: rows of 640 numbers fall back, so "8" and "5" are q8_0 and
  // q5_0 of attn_v; "6" and "4" are q6_k and q4_k of ffn_down, which has rows of 2048.
  const std::string values = "885585585585585888", downs = "664464464464464666";
  const Mixed like = mixed(narrow_llama(18, true), "q4_k_m");
  for (std::size_t i = 0; i < 18; ++i) {
    EXPECT_EQ(like.of(i, "attn_v"), values[i] == '8' ? "q8_0" : "q5_0") << i;
    EXPECT_EQ(like.of(i, "ffn_down"), downs[i] == '6' ? "q6_k" : "q4_k") << i;
    for (const char* name : {"attn_q", "attn_k", "ffn_up", "ffn_gate"}) EXPECT_EQ(like.of(i, name), "q5_0") << name;
    EXPECT_EQ(like.of(i, "attn_output"), "q4_k");
    EXPECT_EQ(like.of(i, "attn_norm"), "f32");
  }
  EXPECT_EQ(like.formats.at("token_embd.weight"), "q8_0");
  ASSERT_EQ(like.notes.size(), 2u);
  EXPECT_EQ(like.notes[0], "10 matrices have rows of 32 numbers, no multiple of the 256 of q6_k: q8_0 instead");
  EXPECT_EQ(like.notes[1], "81 matrices have rows of 32 numbers, no multiple of the 256 of q4_k: q5_0 instead");
}

TEST(Quantize, EveryMixtureGivesMoreBitsWhereItsNameSays) {
  struct Expected {
    std::string name;
    Format most;
    std::string values, downs;  // bits of the format, layer by layer
    Format out;
  };
  const Expected all[] = {{"q3_k_m", Format::q3_k, "5544444444444444", "5444444444444444", Format::q4_k},
                          {"q4_k_s", Format::q4_k, "5555444444444444", "5544444444444444", Format::q4_k},
                          {"q4_k_m", Format::q4_k, "6644644644644666", "6644644644644666", Format::q4_k},
                          {"q5_k_s", Format::q5_k, "5555555555555555", "5555555555555555", Format::q5_k},
                          {"q5_k_m", Format::q5_k, "6655655655655666", "6655655655655666", Format::q5_k}};
  EXPECT_EQ(mixtures().size(), std::size(all));
  const Model model = narrow_llama(16, false);
  const auto in_rows_of_32 = [](Format format) { return name(fitting(format, 32)); };
  const auto of_bits = [](char bits) { return *format_named(std::string("q") + bits + "_k"); };
  for (const Expected& expected : all) {
    SCOPED_TRACE(expected.name);
    const Mixed like = mixed(model, expected.name);
    for (std::size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(like.of(i, "attn_v"), in_rows_of_32(of_bits(expected.values[i]))) << i;
      EXPECT_EQ(like.of(i, "ffn_down"), name(of_bits(expected.downs[i]))) << i;
      EXPECT_EQ(like.of(i, "attn_output"), name(expected.out));
      for (const char* matrix : {"attn_q", "attn_k", "ffn_up", "ffn_gate"})
        EXPECT_EQ(like.of(i, matrix), in_rows_of_32(expected.most)) << matrix;
    }
    EXPECT_EQ(like.formats.at("output.weight"), in_rows_of_32(Format::q6_k));
    EXPECT_EQ(like.formats.at("token_embd.weight"), in_rows_of_32(expected.most));
  }
  const TempFolder folder;
  expect_error(ErrorCode::unsupported, {"q3_k_m", "q5_k_m", "q9_k_m"},
               [&] { quantize(model, folder.path() / "m.gguf", {.like = "q9_k_m"}); });
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Quantize, MixesWhatIsStoredTogetherByItsValues) {
  const Model model = random_model({.architecture = Architecture::gpt2, .format = Format::q4_k, .n_layers = 8});
  const Mixed like = mixed(model, "q4_k_m");
  std::string bits;
  for (std::size_t i = 0; i < 8; ++i) bits += like.of(i, "attn_qkv")[1];
  EXPECT_EQ(bits, "64464466");
  EXPECT_EQ(like.formats.at("position_embd.weight"), "f32");
}

TEST(Quantize, TakesAGgufApartAndPutsItTogether) {
  const TempFolder folder;
  const Golden expected = golden("llama-gated");
  const auto first = folder.path() / "first.gguf", second = folder.path() / "second.gguf",
             third = folder.path() / "third.gguf";
  quantize(expected.path, first, {.format = Format::f32});
  quantize(first, second, {.format = Format::f32});
  quantize(second, third, {.format = Format::q8_0});
  expect_same(Model::load(second), Model::load(first), expected.tokens, 0);

  const auto a = gguf::open(first), b = gguf::open(second), c = gguf::open(third);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) EXPECT_EQ(a.tensors[i].name, b.tensors[i].name);
  for (const auto& [key, value] : a.metadata) EXPECT_EQ(b.metadata.at(key), value) << key;
  EXPECT_EQ(a.metadata.size(), b.metadata.size());
  EXPECT_EQ(c.get<std::int64_t>("general.quantization_version"), 2);
  EXPECT_EQ(b.find("general.quantization_version"), nullptr);

  const Quantized again = quantize(third, second, {.format = Format::f16});
  ASSERT_EQ(again.notes.size(), 1u);
  EXPECT_NE(again.notes[0].find("quantised again"), std::string::npos);
}

TEST(Quantize, LaysGatesOver) {
  const fs::path model = fs::path(PITH_MODELS_DIR) / "bookworm-1m";
  const TempFolder folder;
  for (const char* gates : {"gates-light.safetensors", "gates-strong.safetensors"}) {
    const auto file = folder.path() / "model.gguf";
    quantize(model, file, {.format = Format::f32, .gates = model / gates});
    const auto tokens = random_tokens(1, Model::load(file).config(), 120);
    expect_same(Model::load(file), Model::load(model, {.gates = model / gates}), tokens, 1e-5);
  }
}

/// Texts that tell tokenizers apart.
const std::vector<std::string> texts = {"",
                                        "Hello world",
                                        "  two  spaces\n\nand lines\t.",
                                        "I'll don't 1234567 3.14",
                                        "caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd e\xcc\x81",
                                        "<|endoftext|></s><s>[INST] <unk>",
                                        "\xf0\x9f\x98\x80 \xff"};

void expect_same_tokenizer(const Tokenizer& written, const Tokenizer& tokenizer) {
  EXPECT_EQ(written.bos(), tokenizer.bos());
  for (const std::string& text : texts) {
    for (const Specials specials : {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain})
      EXPECT_EQ(written.encode(text, specials), tokenizer.encode(text, specials)) << text;
    const auto tokens = tokenizer.encode(text);
    EXPECT_EQ(written.decode(tokens), tokenizer.decode(tokens));
    EXPECT_EQ(written.decode(tokens, Tokenizer::Show::with_specials),
              tokenizer.decode(tokens, Tokenizer::Show::with_specials));
  }
  for (Token id = 0; id < tokenizer.vocab_size(); ++id) {
    EXPECT_EQ(written.is_end(id), tokenizer.is_end(id)) << id;
    EXPECT_EQ(written.is_special(id), tokenizer.is_special(id)) << id;
  }
}

/// A model whose directory has these files of a tokenizer, of which `ids` are the model's.
fs::path model_with(const TempFolder& folder, const std::string& name, const std::vector<fs::path>& files, int ids) {
  const auto path = folder.path() / name;
  fs::create_directories(path);
  for (const fs::path& file : files) fs::copy(file, path / file.filename());
  std::ofstream(path / "config.json") << nlohmann::json{
      {"model_type", "llama"},    {"vocab_size", ids},      {"hidden_size", 8},           {"num_hidden_layers", 1},
      {"num_attention_heads", 2}, {"intermediate_size", 8}, {"tie_word_embeddings", true}};
  test::SafetensorsWriter writer;
  const auto add = [&](const std::string& tensor, std::int64_t rows, std::int64_t cols) {
    std::vector<std::int64_t> shape = rows == 0 ? std::vector{cols} : std::vector{rows, cols};
    writer.add(tensor, "F32", shape,
               std::string(static_cast<std::size_t>(std::max<std::int64_t>(rows, 1) * cols) * 4, '\0'));
  };
  add("model.embed_tokens.weight", ids, 8);
  add("model.norm.weight", 0, 8);
  for (const char* vector : {"input_layernorm", "post_attention_layernorm"})
    add("model.layers.0." + std::string(vector) + ".weight", 0, 8);
  for (const char* matrix : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
    add("model.layers.0." + std::string(matrix) + ".weight", 8, 8);
  std::ofstream(path / "model.safetensors", std::ios::binary) << writer.bytes();
  return path;
}

struct Kit {
  std::string name;
  std::vector<std::string> files;
  int ids;
  std::string model;  // tokenizer.ggml.model
  std::string pre;    // tokenizer.ggml.pre; empty = none
};

class QuantizeTokenizer : public ::testing::TestWithParam<Kit> {};

TEST_P(QuantizeTokenizer, ComesAlong) {
  const Kit& kit = GetParam();
  std::vector<fs::path> files;
  for (const auto& file : kit.files) {
    files.push_back(test::shared_data("data/tokenizers/" + file));
    if (files.back().empty()) GTEST_SKIP() << test::shared_absent("data/tokenizers/" + file);
  }
  const TempFolder folder;
  const auto model = model_with(folder, "model", files, kit.ids);
  const auto written = folder.path() / "model.gguf", again = folder.path() / "again.gguf";
  const Quantized result = quantize(model, written, {.format = Format::f32});
  EXPECT_TRUE(result.notes.empty()) << ::testing::PrintToString(result.notes);
  quantize(written, again, {.format = Format::f16});
  for (const auto& path : {written, again}) {
    expect_same_tokenizer(Tokenizer::load(path), Tokenizer::load(model));
    const auto file = gguf::open(path);
    EXPECT_EQ(file.get<std::string>("tokenizer.ggml.model"), kit.model);
    EXPECT_EQ(file.get_or<std::string>("tokenizer.ggml.pre", ""), kit.pre);
    EXPECT_EQ(file.array<std::string>("tokenizer.ggml.tokens").size(), static_cast<std::size_t>(kit.ids));
    EXPECT_EQ(file.array<std::int64_t>("tokenizer.ggml.token_type").size(), static_cast<std::size_t>(kit.ids));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shared, QuantizeTokenizer,
    ::testing::Values(
        Kit{"gpt2_json", {"gpt2/tokenizer.json"}, 50257, "gpt2", "gpt-2"},
        Kit{"gpt2_vocab", {"gpt2/vocab.json", "gpt2/merges.txt"}, 50257, "gpt2", "gpt-2"},
        Kit{"padded", {"gpt2/vocab.json", "gpt2/merges.txt"}, 50304, "gpt2", "gpt-2"},
        Kit{"llama2_json", {"llama2/tokenizer.json"}, 32000, "llama", ""},
        Kit{"llama2_model", {"llama2/tokenizer.model"}, 32000, "llama", ""},
        Kit{"qwen2", {"qwen2/vocab.json", "qwen2/merges.txt", "qwen2/tokenizer_config.json"}, 151936, "gpt2", "qwen2"}),
    [](const auto& test) { return test.param.name; });

TEST(QuantizeTokenizer, ChatTemplatesComeAlong) {
  const TempFolder folder;
  const fs::path model = folder.path() / "model", written = folder.path() / "model.gguf",
                 again = folder.path() / "again.gguf";
  fs::copy(fs::path(PITH_MODELS_DIR) / "bookworm-1m", model);
  quantize(model, written, {.format = Format::f16});
  EXPECT_FALSE(ChatTemplate::find(written)) << "it has none";
  const auto text = [](const fs::path& path, const std::string& name) {
    return ChatTemplate::load(path).render({{"user", "hi"}}, {.name = name}).text;
  };
  std::ofstream(model / "chat_template.jinja") << "{{ messages[0].role }}: {{ messages[0].content }}";
  fs::create_directory(model / "additional_chat_templates");
  std::ofstream(model / "additional_chat_templates" / "rag.jinja") << "rag";
  quantize(model, written, {.format = Format::f16});
  quantize(written, again, {.format = Format::f16});
  for (const auto& path : {written, again})
    for (const char* const name : {"default", "rag"}) EXPECT_EQ(text(path, name), text(model, name));
  EXPECT_EQ(gguf::open(again).array<std::string>("tokenizer.chat_templates"), (std::vector<std::string>{"rag"}));
}

TEST(QuantizeTokenizer, OfTheShippedModelComesAlong) {
  const fs::path model = fs::path(PITH_MODELS_DIR) / "bookworm-1m";
  const TempFolder folder;
  quantize(model, folder.path() / "m.gguf");
  expect_same_tokenizer(Tokenizer::load(folder.path() / "m.gguf"), Tokenizer::load(model));
}

/// ggml's keys alone, as other programs read them, say the same as the tokenizer.json beside them.
TEST(QuantizeTokenizer, IsTheSameInGgmlsWords) {
  for (const char* name : {"gpt2/tokenizer.json", "llama2/tokenizer.json"}) {
    const auto json = test::shared_data("data/tokenizers/" + std::string(name));
    if (json.empty()) GTEST_SKIP() << test::shared_absent(name);
    const TempFolder folder;
    const auto model = model_with(folder, "model", {json}, 50304);
    quantize(model, folder.path() / "m.gguf");
    std::ifstream in(folder.path() / "m.gguf", std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    const std::string key = "tokenizer.huggingface.json";
    bytes.replace(bytes.find(key), key.size(), "tokenizer.huggingface.jsox");
    const Tokenizer words = Tokenizer::load(folder.write("words.gguf", bytes)), tokenizer = Tokenizer::load(model);
    for (const std::string& text : texts)
      EXPECT_EQ(words.encode(text, Specials::plain), tokenizer.encode(text, Specials::plain)) << name << ": " << text;
  }
}

TEST(Quantize, RefusesWhatAGgufCannotSay) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const auto refused = [&](const ModelSpec& spec, const std::vector<std::string>& parts) {
    const Model model = random_model(spec);
    expect_error(ErrorCode::unsupported, parts, [&] { quantize(model, file); });
    EXPECT_TRUE(fs::is_empty(folder.path()));
  };
  refused({.architecture = Architecture::qwen2, .window = 9}, {"as a GGUF", "sliding window", "found 9"});
  refused({.architecture = Architecture::mistral, .n_layers = 3, .window = 9},
          {"as a GGUF", "layer 1: sliding window"});
  refused({.architecture = Architecture::llama, .n_layers = 2, .lanes = ModelSpec::Lanes::shared},
          {"as a GGUF", "layer 1: layer whose keys and values it reads"});
  const Model one = random_model({.architecture = Architecture::mistral, .n_layers = 1, .window = 9});
  quantize(one, file, {.format = Format::f32});
  expect_same(Model::load(file), one, random_tokens(1, one.config(), 60), 1e-5);
}

TEST(Quantize, RefusesPlansThatItsArchitectureDoesNotHave) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const Model model = random_model({.architecture = Architecture::llama, .n_layers = 2});
  const auto refused = [&](const std::string& part, auto change) {
    Config config = model.config();
    change(config);
    const Model other = Model::create(config, model.weights());
    expect_error(ErrorCode::unsupported, {"as a GGUF", part}, [&] { quantize(other, file); });
  };
  refused("activation", [](Config& c) { c.layers[1].activation = Activation::gelu; });
  refused("RoPE", [](Config& c) { c.layers[1].rope = -1; });
  refused("RoPEs", [](Config& c) { c.ropes.emplace_back(); });
  refused("scores", [](Config& c) { c.layers[0].query_scale = 0.5f; });
  // What rounding does to a scale makes no other of it; five millionths more do.
  const float usual = 1 / std::sqrt(static_cast<float>(model.config().head_dim));
  refused("scores", [&](Config& c) { c.layers[0].query_scale = usual * 1.000005f; });
  refused("scores", [](Config& c) { c.layers[1].score_cap = 50; });
  refused("embedding", [](Config& c) { c.embedding_scale = 8; });
  refused("residual", [](Config& c) { c.residual_scale = 0.2f; });
  refused("logits", [](Config& c) { c.logit_scale = 0.5f; });
  refused("logits", [](Config& c) { c.logit_cap = 30; });
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Model any = random_model({.seed = seed, .plans = ModelSpec::Plans::any});
    SCOPED_TRACE(describe(any));
    expect_error(ErrorCode::unsupported, {"as a GGUF"}, [&] { quantize(any, file); });
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Quantize, SaysWhichLayersSlideWhereThatIsUnusual) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const Model model = random_model({.seed = 4, .architecture = Architecture::gemma2, .n_layers = 4});
  for (const std::string slides : {"1010", "0101", "1100"}) {
    SCOPED_TRACE(slides);
    Config config = model.config();
    for (std::size_t i = 0; i < 4; ++i) config.layers[i].window = slides[i] == '1' ? 20 : 0;
    quantize(Model::create(config, model.weights()), file, {.format = Format::f32});
    EXPECT_EQ(gguf::open(file).find("gemma2.attention.sliding_window_pattern") == nullptr, slides == "1010");
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_EQ(Model::load(file).config().layers[i].window, config.layers[i].window) << "layer " << i;
  }
}

TEST(Quantize, WritesOutWhatIsAddedToOne) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const Model model = random_model({.seed = 3, .architecture = Architecture::qwen3, .window = 0});
  Config config = model.config();
  Weights weights = model.weights();
  config.final_norm = Norm::rms_plus_one;
  for (LayerPlan& plan : config.layers) plan.norm = Norm::rms_plus_one;
  for_each_parameter(config, weights, [](const Parameter& p, auto& kept) {
    if constexpr (std::is_same_v<decltype(kept), std::vector<float>&>)
      if (p.plus_one)
        for (float& weight : kept) weight -= 1;
  });
  const Model one_more = Model::create(config, weights);
  quantize(one_more, file, {.format = Format::f32});
  const Model written = Model::load(file);
  EXPECT_EQ(written.config().layers, model.config().layers);
  expect_same(written, model, random_tokens(1, config, 60), 1e-5);
  expect_same(one_more, model, random_tokens(1, config, 60), 1e-5);
}

TEST(Quantize, RefusesNumbersThatAreNone) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const Model model = random_model({.architecture = Architecture::qwen2, .window = 0});
  const auto with = [&](float value) {
    Weights w = model.weights();
    const auto cols = static_cast<std::size_t>(model.config().d_model), rows = w.layers[0].wv.weight.rows();
    std::vector<float> values(rows * cols, 0.5f);
    values[cols + 1] = value;
    w.layers[0].wv.weight = Matrix::encode(Format::f32, {values.data(), rows, cols});
    return Model::create(model.config(), std::move(w));
  };
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
    expect_error(ErrorCode::model, {"blk.0.attn_v.weight", "finite"}, [&] { quantize(with(value), file); });
  expect_error(ErrorCode::model, {"blk.0.attn_v.weight", "f16", "70000"},
               [&] { quantize(with(7e4f), file, {.format = Format::f16}); });
  EXPECT_TRUE(fs::is_empty(folder.path()));
  quantize(with(7e4f), file, {.format = Format::bf16});
}

TEST(Quantize, LeavesNothingBehindWhereItFails) {
  const TempFolder folder;
  const auto file = folder.path() / "m.gguf";
  const fs::path model = fs::path(PITH_GOLDEN_DIR) / "gpt2-dense";
  std::stop_source source;
  const auto stop_late = [&](std::string_view tensor, double done) {
    EXPECT_LE(done, 1);
    if (tensor == "blk.0.ffn_up.weight") source.request_stop();
  };
  folder.write("m.gguf", "what was there");
  expect_error(ErrorCode::cancelled, {"stopped"},
               [&] { quantize(model, file, {.stop = source.get_token(), .progress = stop_late}); });
  EXPECT_EQ(fs::file_size(file), 14u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);

  quantize(model, file);
  expect_error(ErrorCode::file, {"m.gguf", "another file", "the same"}, [&] { quantize(file, file); });
  expect_error(ErrorCode::file, {"a directory"}, [&] { quantize(model, folder.path()); });
  expect_error(ErrorCode::file, {"nowhere"}, [&] { quantize(model, folder.path() / "nowhere" / "m.gguf"); });
  expect_error(ErrorCode::file, {"none.gguf"}, [&] { quantize(folder.path() / "none.gguf", folder.path() / "x"); });
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(Quantize, ReportsAFullDisk) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "needs /dev/full";
  expect_error(ErrorCode::file, {"/dev/full"},
               [&] { quantize(fs::path(PITH_GOLDEN_DIR) / "gpt2-dense", "/dev/full"); });
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

}  // namespace
}  // namespace pith::testing
