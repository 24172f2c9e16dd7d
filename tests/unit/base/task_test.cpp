#include "base/task.hpp"

#include <gtest/gtest.h>

#include <latch>

#include "base/io_threads.hpp"

namespace imagecache::base {
namespace {

TEST(Offload, ComesBackWithWhatTheWorkReturned) {
  BlockingPool pool({.name = "test", .threads = 1});
  IoThreads io(1);
  auto task = [](BlockingPool& p) -> Task<Result<int>> {
    co_return co_await offload(p, []() -> Result<int> { return 42; });
  };
  EXPECT_EQ(io.run(task(pool)).value(), 42);
}

TEST(Offload, AFullPoolIsBusyAndDoesNotWait) {
  std::latch running(1);
  std::latch gate(1);
  BlockingPool pool({.name = "test", .threads = 1, .queue_limit = 1});
  ASSERT_TRUE(pool.post([&] {
    running.count_down();
    gate.wait();
  }));
  running.wait();
  ASSERT_TRUE(pool.post([] {}));
  IoThreads io(1);
  auto task = [](BlockingPool& p) -> Task<Result<int>> {
    co_return co_await offload(p, []() -> Result<int> { return 1; });
  };
  EXPECT_EQ(io.run(task(pool)).error().code, Errc::busy);
  gate.count_down();
}

Task<bool> wait_for(Signal& signal, std::uint64_t seen, Deadline deadline) {
  co_return co_await signal.wait_past(seen, deadline);
}

TEST(Signal, WakesAWaiterOnAnotherThread) {
  Signal signal;
  IoThreads io(2);
  auto waiting = asio::co_spawn(io.executor(0), wait_for(signal, signal.version(), never), asio::use_future);
  while (signal.waiters() == 0) std::this_thread::yield();
  signal.notify();
  EXPECT_TRUE(waiting.get());
}

TEST(Signal, ANotifyBeforeTheWaitIsNotLost) {
  Signal signal;
  IoThreads io(1);
  const auto seen = signal.version();
  signal.notify();
  EXPECT_TRUE(io.run(wait_for(signal, seen, never)));
}

TEST(Signal, ADeadlineThatPassedEndsTheWait) {
  Signal signal;
  IoThreads io(1);
  EXPECT_FALSE(io.run(wait_for(signal, signal.version(), in(std::chrono::milliseconds(1)))));
  EXPECT_EQ(signal.waiters(), 0U);
}

TEST(TaskGroup, JoinWaitsForTheLastTask) {
  IoThreads io(2);
  TaskGroup group;
  Signal gate;
  const auto seen = gate.version();
  auto body = [](Signal& g, std::uint64_t s) -> Task<void> { co_await g.wait_past(s); };
  group.spawn(io.executor(0), body(gate, seen));
  auto early = [](TaskGroup& g) -> Task<bool> { co_return co_await g.join(in(std::chrono::milliseconds(1))); };
  EXPECT_FALSE(io.run(early(group)));
  gate.notify();
  auto late = [](TaskGroup& g) -> Task<bool> { co_return co_await g.join(); };
  EXPECT_TRUE(io.run(late(group)));
}

}  // namespace
}  // namespace imagecache::base
