// The real program as a child process: what a test of crashes kills. It is started with `serve`, tells its ports in its
// log, and is ended by the test or by itself; nothing of it outlives this object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"

namespace imagecache::test {

class DaemonProcess {
 public:
  struct Ports {
    std::uint16_t image_api = 0, volume_api = 0, status = 0;
  };

  /// Starts `executable serve --config-file config`, with `environment` ("NAME=value") added to ours, and waits until
  /// it serves or has ended. The configuration binds to port 0, so that nothing need be free.
  DaemonProcess(const std::filesystem::path& executable, const std::filesystem::path& config,
                const std::vector<std::string>& environment = {});
  /// Kills it if it is there still.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  /// Once it has said so, also after its end.
  bool has_served() const;
  Ports ports() const;

  void kill();  ///< SIGKILL, as a power failure ends it; returns when it is gone
  /// SIGTERM, and how it ended; nullopt if it did not within `limit`.
  std::optional<int> terminate(std::chrono::seconds limit = std::chrono::seconds(60));
  /// How it ended, as waitpid(2) says; nullopt if it has not after `limit`, which only a failing test meets.
  std::optional<int> wait(std::chrono::seconds limit = std::chrono::seconds(60));
  /// All that it has written to standard output and error.
  std::string log() const;

 private:
  void read_log();
  void note_ports();

  base::Fd process_;  // a pidfd: readable once it has ended
  base::Fd output_;
  pid_t pid_ = -1;
  std::optional<int> ended_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Protected by mutex_.
  std::string log_;
  Ports ports_;
  bool served_ = false;
  bool silent_ = false;  // it has ended and all it wrote is in log_

  std::jthread reader_;
};

}  // namespace imagecache::test
