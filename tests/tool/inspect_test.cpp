// SPDX-License-Identifier: MIT
// pith inspect describes what it can run, and what it cannot: what lies there, and what of it is not supported.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

class InspectTest : public CommandTest {
 protected:
  static Finished inspect(const fs::path& model) { return pith({"inspect", "-m", model.string()}); }

  /// What it says of a model that it cannot run: that it cannot, because of each of these.
  static Json described(const fs::path& model, const std::vector<std::string>& reasons) {
    const Json found = json_of({"inspect", "-m", model.string()});
    const std::string table = done({"inspect", "-m", model.string()}).out;
    for (const std::string& reason : reasons) {
      EXPECT_NE(found.at("unsupported").get<std::string>().find(reason), std::string::npos) << found.at("unsupported");
      EXPECT_NE(table.find(reason), std::string::npos) << table;
    }
    EXPECT_NE(table.find(found.at("architecture").get<std::string>()), std::string::npos) << table;
    for (const Json& tensor : found.at("tensors"))
      EXPECT_NE(table.find(tensor.at("name").get<std::string>()), std::string::npos) << table;
    return found;
  }
};

TEST_F(InspectTest, SaysWhatIsThere) {
  const Json json = json_of({"inspect", "-m", testing::golden(gated).path});
  EXPECT_EQ(json.at("architecture"), "llama");
  EXPECT_EQ(json.at("gate").at("dim"), 16);
  EXPECT_GT(json.at("parameters"), 100000);
  EXPECT_TRUE(json.at("kv_bytes_per_token").at("q8_0").is_null()) << "head_dim is 16";
  EXPECT_GT(json.at("kv_bytes_per_token").at("f32"), json.at("kv_bytes_per_token").at("f16"));
  std::uint64_t bytes = 0;
  for (const Json& tensor : json.at("tensors")) {
    EXPECT_FALSE(tensor.at("name").get<std::string>().empty());
    EXPECT_EQ(tensor.at("format"), "f32");
    bytes += tensor.at("bytes").get<std::uint64_t>();
  }
  EXPECT_EQ(json.at("formats").at("f32"), bytes);
  EXPECT_TRUE(json.at("unsupported").is_null());
  EXPECT_TRUE(json_of({"inspect", "-m", testing::golden("gpt2-dense").path}).at("gate").is_null());
  const std::string table = done({"inspect", "-m", testing::golden(gated).path}).out;
  EXPECT_NE(table.find("architecture"), std::string::npos);
  EXPECT_EQ(table.find("unsupported"), std::string::npos);
}

// The weights of the model that the shipped gates were made for are not shipped; its shape is known.
TEST_F(InspectTest, ShippedGatesLieOverTheirModel) {
  const fs::path folder = fs::path(PITH_MODELS_DIR) / "smollm2-135m-gates";
  std::vector<fs::path> models = {scratch("synthetic.gguf")};
  done({"quantize", "--synthetic", "smollm2-135m", "-o", models[0].string(), "--format", "q4_0"});
  if (const char* const real = std::getenv("PITH_MODELS"); real != nullptr)
    models.push_back(fs::path(real) / "smollm2-135m-instruct.q4_1.gguf");
  const fs::path gates = folder / "gates.safetensors";
  for (const fs::path& model : models) {
    SCOPED_TRACE(model);
    const Json json = json_of({"inspect", "-m", model.string(), "--gates", gates.string()});
    EXPECT_TRUE(json.at("unsupported").is_null()) << json.at("unsupported");
    EXPECT_EQ(json.at("gate").at("scope"), "kv_head");
    EXPECT_EQ(json.at("gate").at("dim"), 64);
    const std::string ids = file_of_ids(std::vector<Token>(200, 1000));
    const Json eval = json_of({"eval", "-m", model.string(), "--gates", gates.string(), "--tokens", ids});
    EXPECT_EQ(eval.at("policy"), "gate(tau=0)");
    EXPECT_EQ(eval.at("drop_at").at(0).size(), 3u) << "kv-heads";
    EXPECT_LE(eval.at("kept"), 1.0);
  }
}

TEST_F(InspectTest, CountsTheBytesThatASessionTakes) {
  const testing::Golden expected = testing::golden("gpt2-dense");
  const Json inspect = json_of({"inspect", "-m", expected.path});
  const Json eval = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens)});
  EXPECT_EQ(inspect.at("kv_bytes_per_token").at("f32").get<double>() * static_cast<double>(expected.tokens.size()),
            eval.at("kv_bytes").get<double>());
}

TEST_F(InspectTest, CountsTheBytesOfFormatsThatDiffer) {
  const testing::Golden expected = testing::golden("gpt2-dense");
  const std::string kv = "k=f32,v=f16", ids = file_of_ids(expected.tokens);
  const Json inspect = json_of({"inspect", "-m", expected.path, "--kv", kv});
  const Json eval = json_of({"eval", "-m", expected.path, "--tokens", ids, "--kv", kv});
  const Json& bytes = inspect.at("kv_bytes_per_token");
  EXPECT_EQ(bytes.at(kv).get<double>() * static_cast<double>(expected.tokens.size()),
            eval.at("kv_bytes").get<double>());
  EXPECT_LT(bytes.at("f16"), bytes.at(kv));
  EXPECT_LT(bytes.at(kv), bytes.at("f32"));
  EXPECT_FALSE(json_of({"inspect", "-m", expected.path}).at("kv_bytes_per_token").contains(kv));
  EXPECT_NE(done({"inspect", "-m", expected.path, "--kv", kv}).out.find("as " + kv), std::string::npos);
}

TEST_F(InspectTest, DescribesArchitecturesThatItDoesNotKnow) {
  const TempFolder folder;
  folder.write("config.json", R"({"model_type": "rwkv", "vocab_size": 3})");
  folder.write("model.safetensors", SafetensorsWriter()
                                        .f32("model.embed_tokens.weight", {3, 2})
                                        .add("experts", "BF16", {2, 2}, std::string(8, '\0'))
                                        .add("scale", "F8_E4M3", {4}, "abcd")
                                        .bytes());
  const Json hf = described(folder.path(), {"config.json", "model_type", "rwkv"});
  EXPECT_EQ(hf.at("architecture"), "rwkv");
  EXPECT_EQ(hf.at("parameters"), 14);
  EXPECT_EQ(hf.at("bytes"), 36);
  EXPECT_EQ(hf.at("formats"), (Json{{"f32", 24}, {"bf16", 8}, {"F8_E4M3", 4}}));
  EXPECT_EQ(hf.at("tensors")[1],
            (Json{{"name", "model.embed_tokens.weight"}, {"format", "f32"}, {"shape", {3, 2}}, {"bytes", 24}}));

  auto file = GgufWriter().text("general.architecture", "falcon").tensor_f32("token_embd.weight", {4, 6});
  file.tensor("blk.0.attn_qkv.weight", {256}, 13, std::string(176, 'x'));  // Q5_K
  const Json gguf = described(folder.write("m.gguf", file.bytes()), {"general.architecture", "falcon"});
  EXPECT_EQ(gguf.at("architecture"), "falcon");
  EXPECT_EQ(gguf.at("tensors").size(), 2u);
  EXPECT_EQ(gguf.at("formats").at("f32"), 96);
}

TEST_F(InspectTest, DescribesModelsOfWhichAPartIsNotSupported) {
  const TempFolder folder;
  const fs::path golden = testing::golden("llama-gated").path;
  fs::copy(golden / "model.safetensors", folder.path() / "model.safetensors");
  Json config = Json::parse(content(golden / "config.json"));
  config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2}};
  folder.write("config.json", config.dump());
  EXPECT_EQ(described(folder.path(), {"rope_scaling", "dynamic"}).at("architecture"), "llama");

  config.erase("rope_scaling");
  config["num_hidden_layers"] = config["num_hidden_layers"].get<int>() - 1;
  folder.write("config.json", config.dump());
  described(folder.path(), {"model.safetensors", "tensor \"model.layers.", "only tensors that the model uses"});

  described(folder.write("vocabulary.gguf", GgufWriter().text("general.architecture", "llama").bytes()),
            {"vocabulary only"});
}

TEST_F(InspectTest, FailsForFilesThatAreBroken) {
  const TempFolder folder;
  const auto whole =
      GgufWriter().text("general.architecture", "falcon").tensor_f32("token_embd.weight", {4, 6}).bytes();
  EXPECT_EQ(inspect(folder.write("cut.gguf", whole.substr(0, whole.size() / 2))).exit, 3);
  folder.write("config.json", R"({"model_type": "rwkv")");
  folder.write("model.safetensors", SafetensorsWriter().f32("t", {1}).bytes());
  EXPECT_EQ(inspect(folder.path()).exit, 3);
  folder.write("config.json", R"({"model_type": "rwkv"})");
  folder.write("model.safetensors", "no tensors");
  const Finished finished = inspect(folder.path());
  EXPECT_EQ(finished.exit, 3);
  EXPECT_EQ(finished.out, "");
  EXPECT_NE(finished.err.find("model.safetensors"), std::string::npos) << finished.err;
  fs::remove(folder.path() / "model.safetensors");
  EXPECT_EQ(inspect(folder.path()).exit, 3);
}

}  // namespace
}  // namespace pith::test
