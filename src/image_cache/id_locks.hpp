// One at a time renames, unlinks or adopts the files of an image: publishing, removing, invalidating, cleaning. Held
// for a few system calls, never while bytes are read, and never two at once; taken before the cache's mutex.
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <string_view>

namespace imagecache::image_cache {

class IdLocks {
 public:
  [[nodiscard]] std::unique_lock<std::mutex> hold(std::string_view image_id) {
    return std::unique_lock(mutexes_[std::hash<std::string_view>()(image_id) % mutexes_.size()]);
  }

 private:
  std::array<std::mutex, 64> mutexes_;  // of many ids each: that two share one costs a moment
};

}  // namespace imagecache::image_cache
