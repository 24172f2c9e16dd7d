// Who goes when room is wanted: one interface, three policies.
//
//   lru    the least recently used, as Glance's prune()
//   s3fifo a small first-in-first-out line that most files leave unread, a main line for those read again, and a memory
//          of what left lately; counted in bytes, not in files
//   gdsf   the least worth per byte: uses × seconds that fetching again costs ÷ size, aged
//
// A policy knows a file by its slot, a small number that its owner gives it and may give again once the file is erased:
// so a million files cost a policy some 30 bytes each. What must not go (a pinned image) is not told to a policy.
//
// Not thread-safe: the cache holds its mutex. A call costs O(log n) at most, one with another; memory is O(files), what
// is remembered of files that left included. bench/eviction compares them on traces; docs/eviction.md has the
// outcome.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::image_cache {

using Slot = std::uint32_t;

struct EvictionFacts {
  std::uint64_t size_bytes = 0;
  double fetch_seconds = 0;  ///< what the last fill took; 0: not known
  std::uint64_t uses = 0;    ///< hits so far, of a file that was found at start
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// A file was published, or found at start: those are inserted in the order of their last use. The id is what a file
  /// is known by once it has left.
  virtual void insert(Slot slot, std::string_view id, const EvictionFacts& facts) = 0;
  virtual void touch(Slot slot) = 0;
  /// `evicted`: it left for want of room and may be remembered; otherwise somebody removed or pinned it.
  virtual void erase(Slot slot, bool evicted) = 0;
  /// The next to go; nullopt when there is none. It stays until it is erased.
  virtual std::optional<Slot> victim() = 0;
};

/// `name` is one of "lru", "s3fifo", "gdsf"; anything else is Errc::invalid_argument. `capacity_bytes` is the cache's.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name, std::uint64_t capacity_bytes);

/// The policies by themselves, for make_eviction_policy().
std::unique_ptr<EvictionPolicy> make_lru();
std::unique_ptr<EvictionPolicy> make_s3fifo(std::uint64_t capacity_bytes);
std::unique_ptr<EvictionPolicy> make_gdsf();

}  // namespace imagecache::image_cache
