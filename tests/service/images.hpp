// What the image tests have in common: an image that is in the cache.
#pragma once

#include <fstream>

#include "service/rig.hpp"

namespace imagecache::test {

inline constexpr std::uint64_t mib = 1 << 20;

/// Fetches it once, and waits until it is published.
inline void warm(Daemon& daemon, const std::string& id) {
  const auto answer = daemon.image("GET", file_path(id));
  ASSERT_EQ(answer.status, 200) << answer.body;
  ASSERT_TRUE(answer.complete);
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  ASSERT_TRUE(daemon.service->images().is_cached(id));
}

}  // namespace imagecache::test
