// For a start that may take long: systemd is told, again and again, that it goes on, so that TimeoutStartSec= does not
// end it (sd_notify(3), EXTEND_TIMEOUT_USEC). Ended there, recovery would begin anew at each start and never be done:
// zeroing a large volume that was being deleted takes longer than any timeout.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace imagecache::app {

/// As long as it lives. Does nothing where systemd is not asked for it (no NOTIFY_SOCKET).
class StartExtension {
 public:
  /// Says it at once and then `every` so often, each time for four times as long.
  explicit StartExtension(std::chrono::milliseconds every = std::chrono::seconds(30));

 private:
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread thread_;  // the last: it is ended first
};

}  // namespace imagecache::app
