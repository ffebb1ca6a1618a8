// SPDX-License-Identifier: MIT
// pith inspect describes what it cannot run: what lies there, and what of it is not supported.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "support/golden.hpp"

namespace pith {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::GgufWriter;
using test::SafetensorsWriter;
using test::TempFolder;

struct Finished {
  int exit;
  std::string out, err;
};

Finished inspect(const fs::path& model, const std::string& flags = "") {
  const TempFolder folder;
  const auto content = [&](const char* name) {
    std::ifstream in(folder.path() / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string to = " > " + (folder.path() / "out").string() + " 2> " + (folder.path() / "err").string();
  const int status = std::system((PITH_TOOL " inspect -m " + model.string() + " " + flags + to).c_str());
  return {WEXITSTATUS(status), content("out"), content("err")};
}

/// What it says of a model that it cannot run: that it cannot, because of each of these.
json described(const fs::path& model, const std::vector<std::string>& reasons) {
  const Finished finished = inspect(model, "--json"), table = inspect(model);
  EXPECT_EQ(finished.exit, 0) << finished.err;
  EXPECT_EQ(table.exit, 0) << table.err;
  const json found = json::parse(finished.out);
  for (const std::string& reason : reasons) {
    EXPECT_NE(found.at("unsupported").get<std::string>().find(reason), std::string::npos) << found.at("unsupported");
    EXPECT_NE(table.out.find(reason), std::string::npos) << table.out;
  }
  EXPECT_NE(table.out.find(found.at("architecture").get<std::string>()), std::string::npos) << table.out;
  for (const json& tensor : found.at("tensors"))
    EXPECT_NE(table.out.find(tensor.at("name").get<std::string>()), std::string::npos) << table.out;
  return found;
}

TEST(Inspect, SaysThatWhatCanBeRunIsSupported) {
  const Finished finished = inspect(testing::golden("llama-gated").path, "--json");
  EXPECT_EQ(finished.exit, 0) << finished.err;
  EXPECT_TRUE(json::parse(finished.out).at("unsupported").is_null());
  EXPECT_EQ(inspect(testing::golden("llama-gated").path).out.find("unsupported"), std::string::npos);
}

TEST(Inspect, DescribesArchitecturesThatItDoesNotKnow) {
  const TempFolder folder;
  folder.write("config.json", R"({"model_type": "mixtral", "vocab_size": 3})");
  folder.write("model.safetensors", SafetensorsWriter()
                                        .f32("model.embed_tokens.weight", {3, 2})
                                        .add("experts", "BF16", {2, 2}, std::string(8, '\0'))
                                        .add("scale", "F8_E4M3", {4}, "abcd")
                                        .bytes());
  const json hf = described(folder.path(), {"config.json", "model_type", "mixtral"});
  EXPECT_EQ(hf.at("architecture"), "mixtral");
  EXPECT_EQ(hf.at("parameters"), 14);
  EXPECT_EQ(hf.at("bytes"), 36);
  EXPECT_EQ(hf.at("formats"), (json{{"f32", 24}, {"bf16", 8}, {"F8_E4M3", 4}}));
  EXPECT_EQ(hf.at("tensors")[1],
            (json{{"name", "model.embed_tokens.weight"}, {"format", "f32"}, {"shape", {3, 2}}, {"bytes", 24}}));

  auto file = GgufWriter().text("general.architecture", "falcon").tensor_f32("token_embd.weight", {4, 6});
  file.tensor("blk.0.attn_qkv.weight", {256}, 13, std::string(176, 'x'));  // Q5_K
  const json gguf = described(folder.write("m.gguf", file.bytes()), {"general.architecture", "falcon"});
  EXPECT_EQ(gguf.at("architecture"), "falcon");
  EXPECT_EQ(gguf.at("tensors").size(), 2u);
  EXPECT_EQ(gguf.at("formats").at("f32"), 96);
}

TEST(Inspect, DescribesModelsOfWhichAPartIsNotSupported) {
  const TempFolder folder;
  const fs::path golden = testing::golden("llama-gated").path;
  fs::copy(golden / "model.safetensors", folder.path() / "model.safetensors");
  std::ifstream in(golden / "config.json");
  auto config = json::parse(in);
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 2}};
  folder.write("config.json", config.dump());
  EXPECT_EQ(described(folder.path(), {"rope_scaling", "yarn"}).at("architecture"), "llama");

  config.erase("rope_scaling");
  config["num_hidden_layers"] = config["num_hidden_layers"].get<int>() - 1;
  folder.write("config.json", config.dump());
  described(folder.path(), {"model.safetensors", "tensor \"model.layers.", "only tensors that the model uses"});

  described(folder.write("vocabulary.gguf", GgufWriter().text("general.architecture", "llama").bytes()),
            {"vocabulary only"});
}

TEST(Inspect, FailsForFilesThatAreBroken) {
  const TempFolder folder;
  const auto whole =
      GgufWriter().text("general.architecture", "falcon").tensor_f32("token_embd.weight", {4, 6}).bytes();
  EXPECT_EQ(inspect(folder.write("cut.gguf", whole.substr(0, whole.size() / 2))).exit, 3);
  folder.write("config.json", R"({"model_type": "mixtral")");
  folder.write("model.safetensors", SafetensorsWriter().f32("t", {1}).bytes());
  EXPECT_EQ(inspect(folder.path()).exit, 3);
  folder.write("config.json", R"({"model_type": "mixtral"})");
  folder.write("model.safetensors", "no tensors");
  const Finished finished = inspect(folder.path());
  EXPECT_EQ(finished.exit, 3);
  EXPECT_EQ(finished.out, "");
  EXPECT_NE(finished.err.find("model.safetensors"), std::string::npos) << finished.err;
  fs::remove(folder.path() / "model.safetensors");
  EXPECT_EQ(inspect(folder.path()).exit, 3);
}

}  // namespace
}  // namespace pith
