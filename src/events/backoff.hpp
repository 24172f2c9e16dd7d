// How long to wait before the next attempt: ever longer, as kombu counts.
#pragma once

#include <algorithm>
#include <chrono>

namespace imagecache::events {

class Backoff {
 public:
  struct Options {
    /// The first wait, by how much each grows, and the longest.
    std::chrono::milliseconds interval{1000}, growth{2000}, max{30'000};
  };

  explicit Backoff(Options options) : options_(options), next_(options.interval) {}

  std::chrono::milliseconds next() {
    const std::chrono::milliseconds wait = next_;
    next_ = std::min(next_ + options_.growth, options_.max);
    return wait;
  }
  /// It works again. To be called when something has really gone through: a broker that takes connections and ends them
  /// at once does not work.
  void reset() { next_ = options_.interval; }

 private:
  const Options options_;
  std::chrono::milliseconds next_;
};

}  // namespace imagecache::events
