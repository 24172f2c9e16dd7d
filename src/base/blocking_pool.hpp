// Threads for work that blocks: file and database calls, libcurl, drivers. Each pool has a name, a number of threads
// and a limit on what waits; what an I/O thread may not do is done here, through offload() in base/task.hpp.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace imagecache::base {

class BlockingPool {
 public:
  struct Options {
    std::string name;  ///< also the threads' name, cut to 15 characters
    unsigned threads = 1;
    std::size_t queue_limit = 1024;  ///< jobs waiting, beyond those running
  };

  explicit BlockingPool(Options options);
  /// Runs what is queued to its end, then joins.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Queues `job`; false if the queue is full. Any thread. A job must not throw.
  [[nodiscard]] bool post(std::move_only_function<void()> job);

  const std::string& name() const { return options_.name; }
  /// Jobs queued and running at this moment.
  std::size_t depth() const;

 private:
  void run();

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  // Protected by mutex_.
  std::deque<std::move_only_function<void()>> queue_;
  std::size_t running_ = 0;
  bool stopping_ = false;

  std::vector<std::jthread> threads_;
};

}  // namespace imagecache::base
