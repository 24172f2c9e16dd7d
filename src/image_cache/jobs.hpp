// Work on the pools that refers to the cache: counted, so that a stop returns only after the last of it has left. Any
// thread.
#pragma once

#include <cstddef>
#include <mutex>

#include "base/task.hpp"

namespace imagecache::image_cache {

class Jobs {
 public:
  void begin() {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  /// The last thing that a job does with the cache.
  void end() {
    // notify() under the lock: join() may return, and the cache go, as soon as the lock is free.
    const std::lock_guard lock(mutex_);
    --count_;
    ended_.notify();
  }
  std::size_t running() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  /// True when none runs; false if the deadline came first.
  base::Task<bool> join(base::Deadline deadline) {
    for (;;) {
      const auto seen = ended_.version();
      if (running() == 0) co_return true;
      if (!co_await ended_.wait_past(seen, deadline)) co_return false;
    }
  }

 private:
  mutable std::mutex mutex_;
  std::size_t count_ = 0;  // protected by mutex_
  base::Signal ended_;
};

}  // namespace imagecache::image_cache
