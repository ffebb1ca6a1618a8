// SPDX-License-Identifier: MIT
// Runs a fuzz target without a fuzzer: fuzz_NAME CORPUS_DIRECTORY, once over every file of its corpus; or
// fuzz_NAME --random SECONDS SEED, over bytes that a seed draws. That knows nothing of coverage, but an ordinary build
// is several times as fast as one with sanitizers, and for choices (choices.hpp) any bytes are good ones.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "fuzz/scratch_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::size_t replay(const char* corpus) {
  std::size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
    const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
    std::cout << entry.path().filename().string() << std::endl;  // before the run, so that a crash names its input
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++inputs;
  }
  return inputs;
}

/// Each input lies in a file while it is run, which a crash leaves there.
std::size_t try_random(double seconds, std::uint64_t seed, const std::filesystem::path& file) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::mt19937_64 random(seed);
  std::size_t inputs = 0;
  std::vector<std::uint8_t> input;
  for (; std::chrono::steady_clock::now() < end; ++inputs) {
    input.resize(1 + random() % 300);
    // Small numbers choose, too, where there is little to choose from.
    for (std::uint8_t& byte : input) byte = static_cast<std::uint8_t>(random() % (random() % 2 == 0 ? 256 : 24));
    std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char*>(input.data()), std::ssize(input));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::filesystem::remove(file);
  return inputs;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t inputs = 0;
  if (argc == 4 && std::string(argv[1]) == "--random") {
    const std::string name = std::filesystem::path(argv[0]).filename().string() + "-" + argv[3] + ".input";
    const std::filesystem::path file = pith::test::scratch_folder() / name;
    std::cout << "the input in work is in " << file.string() << std::endl;
    inputs = try_random(std::stod(argv[2]), std::stoull(argv[3]), file);
  } else if (argc == 2 && std::filesystem::is_directory(argv[1])) {
    inputs = replay(argv[1]);
  } else {
    std::cerr << "usage: " << argv[0] << " CORPUS_DIRECTORY | --random SECONDS SEED\n";
    return 2;
  }
  std::cout << inputs << " inputs were run\n";
  return inputs > 0 ? 0 : 1;
}
