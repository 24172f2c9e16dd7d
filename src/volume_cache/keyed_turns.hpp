// Turns at something, by key: at most `capacity` holders of a key at a time, first come first served. With a capacity
// of one a lock per key. Tasks wait for their turn without holding a thread. Any thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "base/task.hpp"

namespace imagecache::volume_cache {

class KeyedTurns {
 public:
  explicit KeyedTurns(unsigned capacity = 1) : capacity_(capacity) {}
  KeyedTurns(const KeyedTurns&) = delete;
  KeyedTurns& operator=(const KeyedTurns&) = delete;

  /// Given back by release() or when it goes; on any thread.
  class Turn {
   public:
    Turn() = default;
    Turn(KeyedTurns* owner, std::string key) : owner_(owner), key_(std::move(key)) {}
    Turn(Turn&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), key_(std::move(other.key_)) {}
    Turn& operator=(Turn&& other) noexcept;
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { release(); }
    void release();

   private:
    KeyedTurns* owner_ = nullptr;
    std::string key_;
  };

  base::Task<Turn> take(std::string key);
  /// Nothing if the stop came first.
  base::Task<std::optional<Turn>> take(std::string key, std::stop_token stop);
  std::size_t waiting(const std::string& key) const;

 private:
  struct Waiter {
    base::Signal signal;
    bool granted = false;  // protected by the mutex below
  };
  struct Line {
    unsigned holders = 0;
    std::deque<std::shared_ptr<Waiter>> waiters;  // each shared with the Task that waits
  };
  class Place;

  void give_back(const std::string& key);

  const unsigned capacity_;
  mutable std::mutex mutex_;
  std::map<std::string, Line> lines_;  // protected by mutex_; only keys that somebody holds
};

}  // namespace imagecache::volume_cache
