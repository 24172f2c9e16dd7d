// The complete files as they are known in memory, in order of last use, and the room that is spoken for. What serving a
// hit needs is here, so that a hit asks no database; what changed since the last flush is gathered here, so that it
// writes none either.
//
// Not thread-safe: the cache holds its mutex.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "image_cache/index.hpp"
#include "image_cache/ledger.hpp"

namespace imagecache::image_cache {

struct Entry {
  std::uint64_t size_bytes = 0;
  std::uint64_t hits = 0;
  double last_accessed = 0;
  double last_modified = 0;
  std::optional<Verified> verified;  ///< absent: to be verified before the first use
};

/// What a flush has to write.
struct Changes {
  std::vector<IndexRow> puts;
  std::vector<std::string> removals;
  std::vector<IndexHits> hits;
  bool empty() const { return puts.empty() && removals.empty() && hits.empty(); }
};

class Entries {
 public:
  /// `has_row`: the row is in cache.db already.
  void put(const std::string& id, Entry entry, bool has_row);
  const Entry* find(const std::string& id) const;
  void set_verified(const std::string& id, std::optional<Verified> verified);
  /// The same file under another stamp. Nothing happens where it was not known under the former.
  void restamp(const Restamped& moved);
  bool erase(const std::string& id);
  void touch(const std::string& id, double now);

  std::uint64_t bytes() const { return bytes_; }
  std::size_t count() const { return entries_.size(); }
  std::vector<std::string> ids() const;  ///< sorted

  std::uint64_t reserved_bytes() const { return reserved_; }
  void reserve(std::uint64_t bytes) { reserved_ += bytes; }
  void release(std::uint64_t bytes) { reserved_ -= bytes; }

  /// The least recently used.
  std::optional<std::string> victim() const;

  Changes take_changes();
  /// After a flush that failed: they are written next time.
  void put_back(Changes changes);
  /// After the index was lost: every row is written with the next flush.
  void put_all_again();

 private:
  std::unordered_map<std::string, Entry> entries_;
  std::set<std::pair<double, std::string>> by_last_use_;
  std::uint64_t bytes_ = 0;
  std::uint64_t reserved_ = 0;
  std::map<std::string, IndexHits> hits_;
  std::set<std::string> to_put_;
  std::set<std::string> to_remove_;
};

}  // namespace imagecache::image_cache
