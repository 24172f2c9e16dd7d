// Time as a thing that is handed in, so that tests can turn it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace imagecache::base {

using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

class Clock {
 public:
  virtual ~Clock() = default;
  /// UTC. May step back; stored times are wall times, waits are never made of them.
  virtual WallTime now() const = 0;
};

class SystemClock final : public Clock {
 public:
  WallTime now() const override {
    return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
};

/// For tests; thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(WallTime start = WallTime(std::chrono::seconds(1'700'000'000))) : now_(start) {}
  WallTime now() const override { return now_.load(); }
  void advance(std::chrono::microseconds by) { now_.store(now_.load() + by); }

 private:
  std::atomic<WallTime> now_;
};

/// "2026-11-22T21:56:06.501236", as Cinder prints times.
std::string to_iso8601(WallTime time);
/// Seconds since the epoch with a fraction, as Glance's cache.db keeps times.
double to_epoch_seconds(WallTime time);
WallTime from_epoch_seconds(double seconds);

}  // namespace imagecache::base
