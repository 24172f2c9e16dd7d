// The I/O threads: one event loop each, so that what runs on one executor never runs twice at once and needs no strand.
#pragma once

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/task.hpp"

namespace imagecache::base {

class IoThreads {
 public:
  explicit IoThreads(unsigned threads);
  /// stop(), then destroys what was still waiting on the loops.
  ~IoThreads();
  /// Ends the loops and joins their threads; no Task goes on after it. Idempotent; not on an I/O thread.
  void stop();
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  std::size_t size() const { return loops_.size(); }
  Executor executor(std::size_t index) const { return loops_[index % loops_.size()]->context.get_executor(); }
  /// The executors in turn.
  Executor next() { return executor(turn_++); }

  /// Runs `task` on one of the threads and waits for it. Not to be called on an I/O thread.
  template <class T>
  T run(Task<T> task) {
    if constexpr (std::is_void_v<T>) {
      asio::co_spawn(next(), std::move(task), asio::use_future).get();
    } else {
      // Through an optional, since a Result need not have a default.
      std::optional<T> result;
      asio::co_spawn(next(), store(std::move(task), result), asio::use_future).get();
      return std::move(*result);
    }
  }

 private:
  template <class T>
  static Task<void> store(Task<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
  }

  struct Loop {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    std::jthread thread;
  };
  std::vector<std::unique_ptr<Loop>> loops_;
  std::atomic<std::size_t> turn_ = 0;
};

}  // namespace imagecache::base
