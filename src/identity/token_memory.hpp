// What was learnt of tokens, for a while: bounded, the entry that was not used for longest goes first. Any thread.
// Private to the room.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/clock.hpp"

namespace imagecache::identity {

template <class Value>
class TokenMemory {
 public:
  explicit TokenMemory(std::size_t max_entries) : max_entries_(max_entries) {}

  /// What is known of `key` and still to be believed. A clock that stepped back ends belief: nobody knows by how much.
  std::optional<Value> find(const std::string& key, base::WallTime now) {
    const std::scoped_lock lock(mutex_);
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return std::nullopt;
    const auto entry = found->second;
    if (now < entry->learnt_at || now >= entry->until) {
      by_key_.erase(found);
      entries_.erase(entry);
      return std::nullopt;
    }
    entries_.splice(entries_.begin(), entries_, entry);
    return entry->value;
  }

  void put(const std::string& key, Value value, base::WallTime now, base::WallTime until) {
    if (max_entries_ == 0 || until <= now) return;
    const std::scoped_lock lock(mutex_);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.erase(found->second);
      by_key_.erase(found);
    }
    entries_.push_front({.key = key, .value = std::move(value), .learnt_at = now, .until = until});
    by_key_.emplace(entries_.front().key, entries_.begin());
    while (entries_.size() > max_entries_) {
      by_key_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    std::string key;
    Value value;
    base::WallTime learnt_at;
    base::WallTime until;
  };
  const std::size_t max_entries_;
  std::mutex mutex_;
  // Protected by mutex_.
  std::list<Entry> entries_;                                                          // the last used first
  std::unordered_map<std::string_view, typename std::list<Entry>::iterator> by_key_;  // the views are into entries_
};

}  // namespace imagecache::identity
