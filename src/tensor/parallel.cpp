// SPDX-License-Identifier: MIT
#include "pith/tensor/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

#include "pith/error.hpp"
#include "tensor/worth_sharing.hpp"

namespace pith::inline tensor {

namespace {

int usable_cores() {
#if defined(__linux__)
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long to wait for news before giving the core away, and then before going to sleep: about the time between two
// loops of a step, in turns of a few tens of nanoseconds.
constexpr int patient_turns = 2000;
constexpr int yielding_turns = 50;

}  // namespace

/// The threads of one step around the loop in work.
struct Threads::Crew {
  using Call = void (*)(void*, std::size_t);

  explicit Crew(int count) : shares(static_cast<std::size_t>(count)) {}

  struct Loop {
    std::atomic<std::uint32_t> tasks{0};
    std::atomic<Call> call{nullptr};
    std::atomic<void*> task{nullptr};
  };

  // Neighbouring tasks mostly go to the same thread, as they mostly work on neighbouring memory.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> ticket{0};  // number of the loop << 32 | the share's next task
  };

  // A thread that comes late may look at a loop that is already over, so everything is atomic, and loops take turns in
  // two places: what belongs to a loop does not change before its tickets have, and whoever sees it changed sees that.
  Loop loops[2];
  std::vector<Share> shares;
  std::atomic<std::uint32_t> latest{0};  // the loop's number again, to sleep on
  std::atomic<std::uint32_t> open{0};    // tasks not yet done
  std::atomic<int> asleep{0};
  std::atomic<bool> gathered{false};
  std::mutex turns;   // held from gathering to dismissal
  bool busy = false;  // a loop is in work; of the thread whose turn it is

  std::uint64_t first_of(std::size_t share, std::uint64_t tasks) const { return share * tasks / shares.size(); }

  void publish(std::size_t count, Call call, void* task) {
    const std::uint32_t number = latest.load(std::memory_order_relaxed) + 1;
    Loop& loop = loops[number % 2];
    loop.call.store(call, std::memory_order_release);
    loop.task.store(task, std::memory_order_release);
    loop.tasks.store(static_cast<std::uint32_t>(count), std::memory_order_release);
    open.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
    for (std::size_t i = 0; i < shares.size(); ++i)
      shares[i].ticket.store(std::uint64_t{number} << 32 | first_of(i, count), std::memory_order_release);
    latest.store(number);
    if (asleep.load() > 0) latest.notify_all();
  }

  /// Takes tasks of loop `number` until none is left: those of the thread's own share, then what others have left.
  void work(std::uint32_t number, std::size_t own) {
    for (std::size_t i = 0; i < shares.size(); ++i)
      if (!work_off(number, (own + i) % shares.size())) return;
  }

  /// False when the loop is over.
  bool work_off(std::uint32_t number, std::size_t share) {
    const Loop& loop = loops[number % 2];
    std::atomic<std::uint64_t>& ticket = shares[share].ticket;
    std::uint64_t now = ticket.load(std::memory_order_acquire);
    while (now >> 32 == number) {
      const auto i = static_cast<std::uint32_t>(now);
      const Call call = loop.call.load(std::memory_order_acquire);
      void* const task = loop.task.load(std::memory_order_acquire);
      if (i >= first_of(share + 1, loop.tasks.load(std::memory_order_acquire))) return true;
      // Success means that the loop is still this one, and so that call and task are its own.
      if (!ticket.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
      call(task, i);
      open.fetch_sub(1, std::memory_order_release);
      now = ticket.load(std::memory_order_acquire);
    }
    return false;
  }

  void finish_loop() {
    work(latest.load(std::memory_order_relaxed), 0);
    for (int turn = 0; open.load(std::memory_order_acquire) > 0; ++turn)
      turn < patient_turns ? pause() : std::this_thread::yield();
  }

  /// What the other threads do while the first one runs the step.
  void serve(std::size_t own) {
    while (gathered.load(std::memory_order_acquire)) {
      const std::uint32_t number = latest.load(std::memory_order_acquire);
      work(number, own);
      int turn = 0;
      while (latest.load(std::memory_order_acquire) == number && turn < patient_turns + yielding_turns)
        turn++ < patient_turns ? pause() : std::this_thread::yield();
      if (turn < patient_turns + yielding_turns) continue;
      ++asleep;
      if (gathered.load()) latest.wait(number);
      --asleep;
    }
  }

  void dismiss() {
    gathered.store(false);
    publish(0, nullptr, nullptr);
  }
};

namespace {

#if defined(_OPENMP)
/// OpenMP's threads do not follow a process into its children, and OpenMP there waits for them for ever. What a child
/// was made by decides: one of a process whose threads had never been gathered gathers its own.
std::atomic<bool> threads_stayed_behind = false;

void watch_forks() {
  [[maybe_unused]] static const int watched =
      pthread_atfork(nullptr, nullptr, [] { threads_stayed_behind.store(true, std::memory_order_relaxed); });
}
#endif

thread_local const void* gathered_here = nullptr;  // the crew whose turn this thread has

/// While it lives, this thread has a crew's turn.
class Turn {
 public:
  Turn(std::mutex& turns, const void* crew) : lock_(turns), before_(std::exchange(gathered_here, crew)) {}
  ~Turn() { gathered_here = before_; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::lock_guard<std::mutex> lock_;
  const void* before_;
};

}  // namespace

Threads::Threads(int count) : count_(count == 0 ? usable_cores() : count) {
  if (count < 0 || count > most_threads)
    fail(ErrorCode::argument, "threads", "from 0 to " + std::to_string(most_threads), std::to_string(count));
  if (count_ > 1) crew_ = std::make_shared<Crew>(count_);
}

void Threads::gather_erased(void (*call)(void*), void* body) const {
  if (!crew_ || gathered_here == crew_.get()) return call(body);
#if defined(_OPENMP)
  watch_forks();
  if (threads_stayed_behind.load(std::memory_order_relaxed)) return call(body);
#endif
  const Turn turn(crew_->turns, crew_.get());
#if defined(_OPENMP)
  crew_->gathered.store(true, std::memory_order_relaxed);
  std::exception_ptr thrown;
#pragma omp parallel num_threads(count_)
  {
    if (omp_get_thread_num() == 0) {
      try {
        call(body);
      } catch (...) {
        thrown = std::current_exception();
      }
      crew_->dismiss();
    } else {
      crew_->serve(static_cast<std::size_t>(omp_get_thread_num()));
    }
  }
  if (thrown) std::rethrow_exception(thrown);
#else
  call(body);
#endif
}

void Threads::run_erased(std::size_t tasks, std::size_t work, void (*call)(void*, std::size_t), void* task) const {
  if (tasks > 1 && work >= worth_sharing && crew_ && gathered_here == crew_.get() && !crew_->busy) {
    crew_->busy = true;
    crew_->publish(tasks, call, task);
    crew_->finish_loop();
    crew_->busy = false;
    return;
  }
  for (std::size_t i = 0; i < tasks; ++i) call(task, i);
}

}  // namespace pith::inline tensor
