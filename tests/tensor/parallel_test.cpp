// SPDX-License-Identifier: MIT
#include "pith/tensor/parallel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "pith/error.hpp"

namespace pith {
namespace {

constexpr std::size_t much_work = std::size_t{1} << 30;

TEST(Threads, EachTaskRunsOnceHoweverTheLoopsFollowEachOther) {
  for (const int count : {1, 2, 7}) {
    const Threads threads(count);
    for (int step = 0; step < 20; ++step)
      threads.gather([&] {
        for (std::size_t loop = 0; loop < 100; ++loop) {
          std::vector<std::atomic<int>> runs(1 + loop % 37);
          threads.run(runs.size(), much_work, [&](std::size_t i) { ++runs[i]; });
          for (const auto& n : runs) ASSERT_EQ(n, 1);
        }
      });
  }
  Threads(4).run(0, much_work, [](std::size_t) { FAIL(); });
}

// On memory that nothing else guards, so that the thread sanitizer judges what loops promise of it. Tasks take as long
// as others need to come.
TEST(Threads, TasksSeeWhatCameBeforeTheLoopAndWhatTheyWriteIsThereBehindIt) {
  const Threads threads(3);
  for (int step = 0; step < 5; ++step) {
    std::vector<int> numbers(12, 0), sums(12, 0);
    threads.gather([&] {
      for (int loop = 1; loop <= 20; ++loop) {
        for (int& number : numbers) ++number;
        threads.run(numbers.size(), much_work, [&](std::size_t i) {
          std::this_thread::sleep_for(std::chrono::microseconds(50));
          sums[i] += numbers[numbers.size() - 1 - i];
        });
        for (const int sum : sums) ASSERT_EQ(sum, loop * (loop + 1) / 2);
      }
    });
    for (const int sum : sums) ASSERT_EQ(sum, 210);
  }
}

TEST(Threads, OneNeverStartsAnother) {
  std::set<std::thread::id> ids;
  const Threads one(1);
  one.gather([&] { one.run(50, much_work, [&](std::size_t) { ids.insert(std::this_thread::get_id()); }); });
  EXPECT_EQ(ids, std::set{std::this_thread::get_id()});
}

std::set<std::thread::id> who_runs(const Threads& threads, std::size_t work) {
  std::mutex mutex;
  std::set<std::thread::id> ids;
  threads.gather([&] {
    threads.run(64, work, [&](std::size_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  });
  return ids;
}

TEST(Threads, ShareALoopAmongNoMoreThanCounted) {
  const auto ids = who_runs(Threads(3), much_work);
  EXPECT_LE(ids.size(), 3u);
#if defined(_OPENMP)
  EXPECT_GE(ids.size(), 2u);
#endif
}

TEST(Threads, KeepTooLittleWorkOnOne) { EXPECT_EQ(who_runs(Threads(3), 10).size(), 1u); }

TEST(Threads, RunWithinATaskStaysOnItsThread) {
  const Threads threads(2);
  std::atomic<int> runs = 0, elsewhere = 0;
  threads.gather([&] {
    threads.run(4, much_work, [&](std::size_t) {
      const auto self = std::this_thread::get_id();
      threads.run(5, much_work, [&](std::size_t) {
        ++runs;
        elsewhere += std::this_thread::get_id() == self ? 0 : 1;
      });
    });
  });
  EXPECT_EQ(runs, 20);
  EXPECT_EQ(elsewhere, 0);
}

TEST(Threads, WhatABodyThrowsComesOutAndTheThreadsWorkOn) {
  const Threads threads(3);
  EXPECT_THROW(threads.gather([] { throw std::runtime_error("stop"); }), std::runtime_error);
  std::atomic<int> runs = 0;
  threads.gather([&] { threads.run(10, much_work, [&](std::size_t) { ++runs; }); });
  EXPECT_EQ(runs, 10);
}

// Copies are used from several threads of a host: they take turns, and no task is lost or done twice.
TEST(Threads, CopiesTakeTurns) {
  const Threads threads(3);
  std::atomic<int> gathered{0}, most{0};
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host)
    hosts.emplace_back([&, mine = threads] {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> done(40);
        mine.gather([&] {
          most = std::max(most.load(), ++gathered);
          for (int loop = 0; loop < 3; ++loop) mine.run(done.size(), much_work, [&](std::size_t i) { ++done[i]; });
          --gathered;
        });
        mine.run(done.size(), much_work, [&](std::size_t i) { ++done[i]; });  // not gathered: on this thread
        for (const auto& count : done) EXPECT_EQ(count, 4);
      }
    });
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(most, 1);
}

TEST(Threads, GatheredTwiceAreGatheredOnce) {
  const Threads threads(2), others(2);
  std::atomic<int> done{0};
  threads.gather([&] {
    threads.gather([&] { threads.run(10, much_work, [&](std::size_t) { ++done; }); });
    others.gather([&] { others.run(10, much_work, [&](std::size_t) { ++done; }); });
    threads.run(10, much_work, [&](std::size_t) { ++done; });
  });
  EXPECT_EQ(done, 30);
}

TEST(Threads, ZeroIsOnePerCore) {
  EXPECT_GE(Threads(0).count(), 1);
  EXPECT_EQ(Threads(5).count(), 5);
  EXPECT_THROW(Threads(-1), Error);
  EXPECT_THROW(Threads(most_threads + 1), Error);
}

}  // namespace
}  // namespace pith
