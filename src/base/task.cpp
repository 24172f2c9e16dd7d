#include "base/task.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>

#include "base/log.hpp"

namespace imagecache::base {

struct Signal::Waiter {
  explicit Waiter(const Executor& executor, Deadline deadline) : timer(executor, deadline) {}
  asio::steady_timer timer;
  bool woken = false;  // touched on the waiter's executor alone
};

std::uint64_t Signal::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

std::size_t Signal::waiters() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

void Signal::notify() {
  std::list<std::shared_ptr<Waiter>> to_wake;
  {
    const std::lock_guard lock(mutex_);
    ++version_;
    to_wake.swap(waiting_);
  }
  for (auto& waiter : to_wake) {
    auto executor = waiter->timer.get_executor();
    // On the waiter's own executor: a timer is not to be touched from two threads.
    asio::post(executor, [waiter = std::move(waiter)] {
      waiter->woken = true;
      waiter->timer.cancel();
    });
  }
}

Task<bool> Signal::wait_past(std::uint64_t seen, Deadline deadline) {
  auto waiter = std::make_shared<Waiter>(co_await asio::this_coro::executor, deadline);
  {
    const std::lock_guard lock(mutex_);
    if (version_ != seen) co_return true;
    waiting_.push_back(waiter);
  }
  co_await waiter->timer.async_wait(asio::as_tuple(asio::use_awaitable));
  if (waiter->woken) co_return true;
  const std::lock_guard lock(mutex_);
  std::erase(waiting_, waiter);
  co_return version_ != seen;
}

Task<void> sleep_until(Deadline deadline) {
  asio::steady_timer timer(co_await asio::this_coro::executor, deadline);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

void TaskGroup::spawn(const Executor& executor, Task<void> task) {
  {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  asio::co_spawn(executor, std::move(task), [this](std::exception_ptr problem) {
    if (problem) {
      try {
        std::rethrow_exception(problem);
      } catch (const std::exception& what) {
        log::error("base", nullptr, "a background task ended with an exception: {}", what.what());
      }
    }
    finished();
  });
}

void TaskGroup::finished() {
  // notify() under the lock: join() may return, and the group go, as soon as the lock is free.
  const std::lock_guard lock(mutex_);
  --count_;
  emptied_.notify();
}

std::size_t TaskGroup::size() const {
  const std::lock_guard lock(mutex_);
  return count_;
}

Task<bool> TaskGroup::join(Deadline deadline) {
  for (;;) {
    const std::uint64_t seen = emptied_.version();
    if (size() == 0) co_return true;
    if (!co_await emptied_.wait_past(seen, deadline)) co_return false;
  }
}

}  // namespace imagecache::base
