#include "app/start_extension.hpp"

#include <systemd/sd-daemon.h>

#include <string>

namespace imagecache::app {

StartExtension::StartExtension(std::chrono::milliseconds every) {
  const std::string message = "EXTEND_TIMEOUT_USEC=" + std::to_string(std::chrono::microseconds(every * 4).count());
  sd_notify(0, message.c_str());
  thread_ = std::jthread([this, every, message](const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    for (;;) {
      ended_.wait_for(lock, stop, every, [] { return false; });
      if (stop.stop_requested()) return;
      sd_notify(0, message.c_str());
    }
  });
}

}  // namespace imagecache::app
