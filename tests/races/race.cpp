// SPDX-License-Identifier: MIT
// What the thread sanitizer has to report: race loop|hosts
#include <chrono>
#include <cstdio>
#include <string_view>
#include <thread>

#include "pith/tensor/parallel.hpp"

int main(int argc, char** argv) {
  const std::string_view where = argc > 1 ? argv[1] : "";
  const pith::Threads threads(2);
  int count = 0;
  // Long enough that either thread takes some.
  const auto loop = [&](auto&& task) {
    threads.gather([&] {
      threads.run(40, std::size_t{1} << 30, [&](std::size_t) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        task();
      });
    });
  };
  if (where == "loop") {
    loop([&] { ++count; });
  } else if (where == "hosts") {
    const auto host = [&] {
      ++count;
      loop([] {});
    };
    std::thread one(host), two(host);
    one.join();
    two.join();
  } else {
    std::fprintf(stderr, "usage: %s loop|hosts\n", argv[0]);
    return 2;
  }
  std::printf("%d\n", count);
}
