// So many bytes a second, for all who share it. It waits for nobody: it says until when the caller should. Any thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace imagecache::image_cache {

class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit RateLimit(std::uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}
  bool is_limited() const { return bytes_per_s_ > 0; }
  /// Notes that `bytes` have passed, and returns when they should have at this rate. What was not used is saved for a
  /// tenth of a second, no longer.
  Time take(std::uint64_t bytes, Time now) {
    if (!is_limited()) return now;
    const std::lock_guard lock(mutex_);
    const std::chrono::duration<double> cost(static_cast<double>(bytes) / static_cast<double>(bytes_per_s_));
    due_ = std::max(due_, now - std::chrono::milliseconds(100)) +
           std::chrono::duration_cast<std::chrono::steady_clock::duration>(cost);
    return due_;
  }

 private:
  const std::uint64_t bytes_per_s_;
  std::mutex mutex_;
  Time due_{};  // protected by mutex_
};

}  // namespace imagecache::image_cache
