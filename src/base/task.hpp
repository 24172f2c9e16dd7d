// Coroutines, and the one bridge from them to work that blocks.
//
// A Task runs on one executor from its start to its end; IoThreads below gives executors on which nothing runs twice at
// once, so a Task's own state needs no lock. Whatever Tasks share does.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "base/blocking_pool.hpp"
#include "imagecache/error.hpp"

namespace imagecache::base {

namespace asio = boost::asio;

template <class T = void>
using Task = asio::awaitable<T>;
using Executor = asio::any_io_executor;
using Deadline = std::chrono::steady_clock::time_point;

inline Deadline in(std::chrono::steady_clock::duration time) {
  return std::chrono::steady_clock::now() + time;
}
inline constexpr Deadline never = Deadline::max();

/// Runs `work`, a callable that returns some Result, on a thread of `pool`, and comes back to this Task's executor with
/// what it returned. A full pool is Errc::busy. The work is not interrupted when the Task is.
template <class Work>
Task<std::invoke_result_t<Work&>> offload(BlockingPool& pool, Work work) {
  using R = std::invoke_result_t<Work&>;
  Executor executor = co_await asio::this_coro::executor;
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(R)>(
      [&pool, &executor](auto handler, Work inner) {
        auto tracked = asio::prefer(executor, asio::execution::outstanding_work.tracked);
        // Whoever runs it, the pool or, if the pool is full, the line after it, takes handler and work along.
        auto finish = [tracked, handler = std::move(handler)](R result) mutable {
          asio::post(tracked, [handler = std::move(handler), result = std::move(result)]() mutable {
            std::move(handler)(std::move(result));
          });
        };
        auto shared = std::make_shared<decltype(finish)>(std::move(finish));
        const bool taken = pool.post([shared, inner = std::move(inner)]() mutable { (*shared)(inner()); });
        if (!taken) (*shared)(fail(Errc::busy, pool.name() + ": too much work is waiting, try again later"));
      },
      asio::use_awaitable, std::move(work));
}

/// An event that many Tasks can wait for: a version that only grows.
///
///     auto seen = signal.version();          // before looking at what is waited for
///     if (!ready()) co_await signal.wait_past(seen, deadline);
class Signal {
 public:
  Signal() = default;
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

  std::uint64_t version() const;
  /// Wakes all who wait. Any thread.
  void notify();
  /// True once version() != seen; false if the deadline came first.
  Task<bool> wait_past(std::uint64_t seen, Deadline deadline = never);
  /// How many wait now: for tests that stage a race and for counters.
  std::size_t waiters() const;

 private:
  struct Waiter;
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::uint64_t version_ = 0;
  std::list<std::shared_ptr<Waiter>> waiting_;  // shared with the wake-up that is on its way to the waiter's executor
};

Task<void> sleep_until(Deadline deadline);

/// Tasks that belong to no caller: counted, so that a stop can wait for them. Any thread.
class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Starts `task` on `executor`. The group must outlive it: join before destroying.
  void spawn(const Executor& executor, Task<void> task);
  std::size_t size() const;
  /// True when the group is empty; false if the deadline came first.
  Task<bool> join(Deadline deadline = never);

 private:
  void finished();
  mutable std::mutex mutex_;
  std::size_t count_ = 0;
  Signal emptied_;
};

}  // namespace imagecache::base
