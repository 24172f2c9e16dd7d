#include "volume_cache/keyed_turns.hpp"

#include <algorithm>

namespace imagecache::volume_cache {

/// A place in the line that is left in good order however the Task that waits ends.
class KeyedTurns::Place {
 public:
  Place(KeyedTurns& owner, std::string key, std::shared_ptr<Waiter> waiter)
      : owner_(owner), key_(std::move(key)), waiter_(std::move(waiter)) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    if (!waiter_) return;
    {
      const std::lock_guard lock(owner_.mutex_);
      if (!waiter_->granted) {
        std::erase(owner_.lines_[key_].waiters, waiter_);
        return;
      }
    }
    owner_.give_back(key_);
  }

  base::Signal& signal() { return waiter_->signal; }
  /// The turn, once it has come.
  std::optional<Turn> take() {
    const std::lock_guard lock(owner_.mutex_);
    if (!waiter_->granted) return std::nullopt;
    waiter_.reset();
    return Turn(&owner_, key_);
  }

 private:
  KeyedTurns& owner_;
  const std::string key_;
  std::shared_ptr<Waiter> waiter_;
};

KeyedTurns::Turn& KeyedTurns::Turn::operator=(Turn&& other) noexcept {
  if (this != &other) {
    release();
    owner_ = std::exchange(other.owner_, nullptr);
    key_ = std::move(other.key_);
  }
  return *this;
}

void KeyedTurns::Turn::release() {
  if (KeyedTurns* owner = std::exchange(owner_, nullptr)) owner->give_back(key_);
}

void KeyedTurns::give_back(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto line = lines_.find(key);
  if (!line->second.waiters.empty()) {
    const auto next = std::move(line->second.waiters.front());
    line->second.waiters.pop_front();
    next->granted = true;
    next->signal.notify();
  } else if (--line->second.holders == 0) {
    lines_.erase(line);
  }
}

base::Task<KeyedTurns::Turn> KeyedTurns::take(std::string key) {
  std::optional<Turn> turn = co_await take(std::move(key), std::stop_token());
  co_return std::move(*turn);  // without a stop it always comes
}

base::Task<std::optional<KeyedTurns::Turn>> KeyedTurns::take(std::string key, std::stop_token stop) {
  auto waiter = std::make_shared<Waiter>();
  {
    const std::lock_guard lock(mutex_);
    Line& line = lines_[key];
    if (line.holders < capacity_) {
      ++line.holders;
      co_return Turn(this, std::move(key));
    }
    line.waiters.push_back(waiter);
  }
  Place place(*this, std::move(key), waiter);
  const std::stop_callback wake(stop, [waiter] { waiter->signal.notify(); });
  for (;;) {
    const std::uint64_t seen = place.signal().version();
    if (std::optional<Turn> turn = place.take()) co_return turn;
    if (stop.stop_requested()) co_return std::nullopt;
    co_await waiter->signal.wait_past(seen);
  }
}

std::size_t KeyedTurns::waiting(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto line = lines_.find(key);
  return line == lines_.end() ? 0 : line->second.waiters.size();
}

}  // namespace imagecache::volume_cache
