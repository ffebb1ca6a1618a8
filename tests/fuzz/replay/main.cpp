// SPDX-License-Identifier: MIT
// Runs a fuzz target without a fuzzer: fuzz_NAME CORPUS, once over a file or every file of a folder; or
// fuzz_NAME --random SECONDS SEED, over bytes that a seed draws. That knows nothing of coverage, but an ordinary build
// is several times as fast as one with sanitizers, and for choices (choices.hpp) any bytes are good ones. What ends the
// program prints, as a command, how to meet it again.
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

const char* program = "";
std::vector<std::uint8_t> input;  // in work

void say_input(int signal) {
  std::fputs("again: printf '", stderr);
  for (const std::uint8_t byte : input) std::fprintf(stderr, "\\x%02x", static_cast<unsigned>(byte));
  std::fprintf(stderr, "' >input && %s input\n", program);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  input.assign(std::istreambuf_iterator<char>(file), {});
  std::cout << path.filename().string() << std::endl;  // before the run, so that a crash names its input
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

std::size_t replay(const std::filesystem::path& corpus) {
  if (!std::filesystem::is_directory(corpus)) {
    run(corpus);
    return 1;
  }
  std::size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    run(entry.path());
    ++inputs;
  }
  return inputs;
}

std::size_t try_random(double seconds, std::uint64_t seed) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::mt19937_64 random(seed);
  std::size_t inputs = 0;
  for (; std::chrono::steady_clock::now() < end; ++inputs) {
    input.resize(1 + random() % 300);
    // Small numbers choose, too, where there is little to choose from.
    for (std::uint8_t& byte : input) byte = static_cast<std::uint8_t>(random() % (random() % 2 == 0 ? 256 : 24));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  return inputs;
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGINT, SIGTERM}) std::signal(signal, say_input);
  std::size_t inputs = 0;
  if (argc == 4 && std::string(argv[1]) == "--random") {
    inputs = try_random(std::stod(argv[2]), std::stoull(argv[3]));
  } else if (argc == 2 && std::filesystem::exists(argv[1])) {
    inputs = replay(argv[1]);
  } else {
    std::cerr << "usage: " << argv[0] << " FILE | FOLDER | --random SECONDS SEED\n";
    return 2;
  }
  std::cout << inputs << " inputs were run\n";
  return inputs > 0 ? 0 : 1;
}
