// SPDX-License-Identifier: MIT
// Includes point down: every floor of the house names the floors it stands on, and no file includes from above.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace pith::testing {
namespace {

namespace fs = std::filesystem;

/// `paths`: folders (ending in '/') and files, as include/ and src/ spell them; the longest that fits a file decides.
struct Floor {
  std::string_view name;
  std::vector<std::string_view> paths;
  std::vector<std::string_view> stands_on;
};

const std::vector<Floor> house = {
    {"error", {"pith/api.hpp", "pith/error.hpp", "pith/version.hpp", "error.cpp", "numbers.hpp", "printable.hpp"}, {}},
    {"tensor", {"pith/tensor/", "tensor/", "kernels/"}, {"error"}},
    {"measure", {"measure/"}, {"tensor"}},
    {"cache", {"pith/cache/", "cache/"}, {"tensor"}},
    {"files", {"files/"}, {"tensor"}},
    {"prune", {"pith/prune/", "prune/"}, {"cache", "files"}},
    {"nn", {"pith/nn/", "nn/"}, {"prune"}},
    {"arch", {"nn/arch/"}, {"nn", "files"}},
    {"text", {"pith/tokenizer.hpp", "pith/stop_sequences.hpp", "pith/chat_template.hpp", "text/"}, {"files"}},
    {"model",
     {"pith/model.hpp", "pith/synthetic.hpp", "model.cpp", "synthetic.cpp", "checkpoint.hpp", "checkpoint.cpp",
      "fingerprint.hpp", "fingerprint.cpp", "loader.hpp", "loader.cpp"},
     {"arch"}},
    {"quantize", {"pith/quantize.hpp", "quantize.cpp", "mixture.hpp", "mixture.cpp"}, {"model", "text"}},
    {"sampler",
     {"pith/sampler.hpp", "pith/logprobs.hpp", "pith/rng.hpp", "sampler.cpp", "logprobs.cpp", "logits.hpp"},
     {"text"}},
    {"session",
     {"pith/session.hpp", "pith/retrieval.hpp", "session.cpp", "session/", "retrieval.cpp"},
     {"model", "text"}},
    {"generator",
     {"pith/generator.hpp", "pith/chat.hpp", "generator.cpp", "chat.cpp", "drafting.hpp", "drafting.cpp", "ngrams.hpp",
      "ngrams.cpp", "prefixes.hpp", "prefixes.cpp", "history.hpp", "history.cpp"},
     {"session", "sampler"}},
    {"trace", {"pith/trace.hpp", "pith/drawing.hpp", "trace/"}, {"session"}},
    {"door", {"pith/pith.hpp"}, {"generator", "quantize"}},
    {"c", {"pith/pith.h", "c/"}, {"door"}},
};

/// What comes from outside stays where it is named.
struct Guest {
  std::string_view header;  // the start of its includes
  std::vector<std::string_view> rooms;
};

const std::vector<Guest> guests = {
    {"Eigen/", {"pith/tensor/eigen.hpp"}},
    {"omp.h", {"tensor/parallel.cpp"}},
    {"immintrin.h", {"kernels/"}},
    {"arm_neon.h", {"kernels/"}},
    {"pcre2.h", {"text/"}},
    {"utf8proc.h", {"text/"}},
    {"nlohmann/", {"files/", "nn/arch/", "text/", "trace/", "checkpoint.cpp", "quantize.cpp"}},
};

const Floor* floor_of(std::string_view file) {
  const Floor* best = nullptr;
  std::size_t longest = 0;
  for (const Floor& floor : house)
    for (const std::string_view path : floor.paths)
      if ((path.back() == '/' ? file.starts_with(path) : file == path) && path.size() > longest) {
        best = &floor;
        longest = path.size();
      }
  return best;
}

bool reaches(const Floor& from, std::string_view name) {
  if (from.name == name) return true;
  for (const std::string_view below : from.stands_on)
    for (const Floor& floor : house)
      if (floor.name == below && reaches(floor, name)) return true;
  return false;
}

/// What is wrong with `file` including `header`; empty: nothing.
std::string objection(const std::string& file, const std::string& header, bool is_public) {
  const std::string arrow = file + " includes " + header;
  for (const Guest& guest : guests) {
    if (!header.starts_with(guest.header)) continue;
    for (const std::string_view room : guest.rooms)
      if (room.back() == '/' ? file.starts_with(room) : file == room) return {};
    return arrow + ", which is a guest of other rooms";
  }
  const Floor* to = floor_of(header);
  if (to == nullptr) return {};  // the standard library
  if (is_public && !header.starts_with("pith/")) return arrow + ", which is not public";
  const Floor* from = floor_of(file);
  if (from == nullptr) return file + " stands on no floor of the house";
  if (!reaches(*from, to->name)) return arrow + ", up from " + std::string(from->name) + " to " + std::string(to->name);
  return {};
}

std::vector<std::string> includes_of(const fs::path& path) {
  std::vector<std::string> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("#include ")) continue;
    const auto begin = line.find_first_of("\"<") + 1;
    out.push_back(line.substr(begin, line.find_first_of("\">", begin) - begin));
  }
  return out;
}

TEST(FloorsTest, NoIncludePointsUp) {
  std::size_t includes = 0;
  for (const char* root : {"include", "src"}) {
    const fs::path base = fs::path(PITH_SOURCE_DIR) / root;
    for (const auto& entry : fs::recursive_directory_iterator(base)) {
      const auto extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp" && extension != ".h") continue;
      const std::string file = fs::relative(entry.path(), base).generic_string();
      for (const std::string& header : includes_of(entry.path())) {
        ++includes;
        EXPECT_EQ(objection(file, header, std::string_view(root) == "include"), "");
      }
    }
  }
  EXPECT_GT(includes, 500u);
}

TEST(FloorsTest, EveryFloorStandsOnFloorsThatAreThere) {
  std::set<std::string_view> names;
  for (const Floor& floor : house) {
    for (const std::string_view below : floor.stands_on) EXPECT_TRUE(names.contains(below)) << floor.name;
    EXPECT_TRUE(names.insert(floor.name).second) << floor.name << " twice";
  }
}

TEST(FloorsTest, ArrowsThatClimbAreSeen) {
  EXPECT_NE(objection("pith/cache/lane.hpp", "pith/prune/policy.hpp", true), "");
  EXPECT_NE(objection("pith/tensor/matrix.hpp", "kernels/table.hpp", true), "");
  EXPECT_NE(objection("nn/attention.cpp", "Eigen/Core", false), "");
  EXPECT_NE(objection("tensor/matrix.cpp", "omp.h", false), "");
  EXPECT_NE(objection("nn/attention.cpp", "nn/arch/config.hpp", false), "");
  EXPECT_EQ(objection("nn/arch/config.cpp", "files/json.hpp", false), "");
  EXPECT_EQ(objection("tensor/parallel.cpp", "omp.h", false), "");
}

}  // namespace
}  // namespace pith::testing
