#include "base/blocking_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace imagecache::base {

BlockingPool::BlockingPool(Options options) : options_(std::move(options)) {
  const unsigned count = std::max(1U, options_.threads);
  threads_.reserve(count);
  for (unsigned i = 0; i < count; ++i) {
    threads_.emplace_back([this] { run(); });
  }
}

BlockingPool::~BlockingPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
}

bool BlockingPool::post(std::move_only_function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= options_.queue_limit) return false;
    queue_.push_back(std::move(job));
  }
  ready_.notify_one();
  return true;
}

std::size_t BlockingPool::depth() const {
  const std::lock_guard lock(mutex_);
  return queue_.size() + running_;
}

void BlockingPool::run() {
  pthread_setname_np(pthread_self(), options_.name.substr(0, 15).c_str());
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    {
      auto job = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
      lock.unlock();
      job();
    }
    lock.lock();
    --running_;
  }
}

}  // namespace imagecache::base
