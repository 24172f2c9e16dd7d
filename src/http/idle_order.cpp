#include "http/idle_order.hpp"

namespace imagecache::http {

/// With the mutex held.
void IdleOrder::take_out(Place& place) {
  if (place.state_ == Place::State::waiting) {
    List& list = list_of(place);
    list.erase(list.iterator_to(place));
  }
  if (place.state_ == Place::State::going) --going_;
  place.state_ = Place::State::none;
}

void IdleOrder::enter(Place& place, For what, Time now) {
  const std::lock_guard lock(mutex_);
  take_out(place);
  place.what_ = what;
  place.since_ = now;
  place.state_ = Place::State::waiting;
  list_of(place).push_back(place);
}

void IdleOrder::leave(Place& place) {
  const std::lock_guard lock(mutex_);
  take_out(place);
}

void IdleOrder::go(Place& place) {
  const std::lock_guard lock(mutex_);
  take_out(place);
  place.state_ = Place::State::going;
  ++going_;
}

IdleOrder::Place* IdleOrder::choose(unsigned wanted, Time now) {
  const std::lock_guard lock(mutex_);
  if (going_ >= wanted) return nullptr;
  Place* chosen = nullptr;
  if (!requests_.empty() && requests_.front().since_ + for_request_ <= now) {
    chosen = &requests_.front();
  } else if (!rests_.empty() && rests_.front().since_ + for_rest_ <= now) {
    chosen = &rests_.front();
  }
  if (chosen == nullptr) return nullptr;
  take_out(*chosen);
  chosen->state_ = Place::State::going;
  ++going_;
  return chosen;
}

bool IdleOrder::is_going(const Place& place) const {
  const std::lock_guard lock(mutex_);
  return place.state_ == Place::State::going;
}

}  // namespace imagecache::http
