// Who goes when room is wanted: one interface, three policies.
//
//   lru    the least recently used, as Glance's prune()
//   s3fifo a small first-in-first-out line that most files leave unread, a main line for those read again, and a memory
//          of what left lately; counted in bytes, not in files
//   gdsf   the least worth per byte: uses × seconds that fetching again costs ÷ size, aged
//
// Not thread-safe: the cache holds its mutex. Each call costs O(log n) at most, whatever is stored; memory is O(files),
// what is remembered of files that left included. bench/eviction compares them on traces.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::image_cache {

struct EvictionFacts {
  std::uint64_t size_bytes = 0;
  double fetch_seconds = 0;  ///< what the last fill took; 0: not known
  double last_used = 0;      ///< seconds since the epoch; files that are adopted at start come in any order of it
  std::uint64_t uses = 0;
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// A file was published or found at start.
  virtual void insert(const std::string& id, const EvictionFacts& facts) = 0;
  virtual void touch(const std::string& id, double now) = 0;
  /// `evicted`: it left for want of room and may be remembered; otherwise somebody removed it.
  virtual void erase(const std::string& id, bool evicted) = 0;
  /// The next to go among those that `may_go`; nullopt if there is none. A victim stays until it is erased.
  virtual std::optional<std::string> victim(const std::function<bool(const std::string&)>& may_go) = 0;
};

/// `name` is one of "lru", "s3fifo", "gdsf"; anything else is Errc::invalid_argument. `capacity_bytes` is the cache's.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name, std::uint64_t capacity_bytes);

}  // namespace imagecache::image_cache
