#include "base/clock.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>

namespace imagecache::base {

std::string to_iso8601(WallTime time) {
  const auto micros = time.time_since_epoch().count();
  const std::int64_t seconds = micros >= 0 ? micros / 1'000'000 : (micros - 999'999) / 1'000'000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}", fmt::gmtime(static_cast<std::time_t>(seconds)),
                     micros - seconds * 1'000'000);
}

double to_epoch_seconds(WallTime time) {
  return static_cast<double>(time.time_since_epoch().count()) / 1e6;
}

WallTime from_epoch_seconds(double seconds) {
  return WallTime(std::chrono::microseconds(std::llround(seconds * 1e6)));
}

}  // namespace imagecache::base
