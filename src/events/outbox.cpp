#include "events/outbox.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/log.hpp"

namespace imagecache::events {
namespace {

constexpr const char* room_name = "events";
constexpr std::size_t batch = 64;  // sent before the broker's answers are looked at
constexpr std::chrono::milliseconds idle_wait{5000};

}  // namespace

Outbox::Outbox(Options options, std::unique_ptr<Broker> broker, Counters& counters)
    : options_(options), broker_(std::move(broker)), counters_(counters), backoff_(options.backoff) {
  thread_ = std::jthread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "notify");
}

Outbox::~Outbox() {
  stop();
}

void Outbox::put(std::vector<Message> messages) {
  bool first_drop = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || held_ + messages.size() > options_.limit) {
      (stopping_ ? counters_.notifications_dropped_stop : counters_.notifications_dropped_full) += messages.size();
      first_drop = !stopping_ && dropped_in_a_row_ == 0;
      if (!stopping_) dropped_in_a_row_ += messages.size();
    } else {
      held_ += messages.size();
      counters_.notifications_waiting = held_;
      for (Message& message : messages) queue_.push_back({.message = std::move(message)});
    }
  }
  if (first_drop) {
    base::log::warning(room_name, nullptr,
                       "{} notifications wait for {}, no more are taken until it takes some (notification_queue_limit)",
                       options_.limit, broker_->name());
  }
  changed_.notify_all();
  broker_->wake();
}

void Outbox::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) flush_until_ = std::chrono::steady_clock::now() + options_.flush_timeout;
    stopping_ = true;
  }
  changed_.notify_all();
  broker_->wake();
  {
    std::unique_lock lock(mutex_);
    // A second more than the thread gives itself: it is in a call that lasts.
    if (!changed_.wait_until(lock, flush_until_ + std::chrono::seconds(1), [this] { return ended_; })) broker_->abort();
  }
  if (thread_.joinable()) thread_.join();
}

void Outbox::run() {
  while (!done()) {
    if (!connected_) {
      if (!connect()) pause();
      continue;
    }
    Result<void> went = publish_some();
    if (went) went = take_confirms();
    if (!went) lost(went.error());
  }
  if (connected_) broker_->disconnect();
  give_up_rest();
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool Outbox::done() {
  const std::lock_guard lock(mutex_);
  return stopping_ && (held_ == 0 || std::chrono::steady_clock::now() >= flush_until_);
}

bool Outbox::connect() {
  if (Result<void> made = broker_->connect(); !made) {
    if (!complained_) {
      base::log::warning(room_name, nullptr, "notifications wait: {}; tried again until it works",
                         made.error().message);
      complained_ = true;
    }
    count_attempt();
    return false;
  }
  connected_ = true;
  complained_ = false;
  first_number_ = 1;
  base::log::info(room_name, nullptr, "notifications go to {}", broker_->name());
  return true;
}

Result<void> Outbox::publish_some() {
  if (std::chrono::steady_clock::now() < not_before_) return {};
  if (unsent_.empty()) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < batch && !queue_.empty(); ++i) {
      unsent_.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
  }
  for (std::size_t i = 0; i < batch && !unsent_.empty(); ++i) {
    // In unconfirmed_ before the call: one that fails may have arrived.
    unconfirmed_.push_back(std::move(unsent_.front()));
    unsent_.pop_front();
    if (Result<void> sent = broker_->publish(unconfirmed_.back().message); !sent) return sent;
  }
  return {};
}

Result<void> Outbox::take_confirms() {
  std::chrono::milliseconds time = idle_wait;
  const Time now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    const auto until = [&](Time then) {
      time = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(then - now), std::chrono::milliseconds(0), time);
    };
    if (now < not_before_) {
      until(not_before_);
    } else if (!unsent_.empty() || !queue_.empty()) {
      time = std::chrono::milliseconds(0);
    }
    if (stopping_) until(flush_until_);
  }
  Result<std::vector<Confirm>> confirms = broker_->wait(time);
  if (!confirms) return std::unexpected(std::move(confirms).error());
  for (const Confirm& one : *confirms) confirm(one);
  return {};
}

void Outbox::confirm(const Confirm& one) {
  backoff_.reset();  // it answers: this connection is more than one that is taken and ended
  // Numbers of what was settled before stand in the deque as entries without a body until all before them are settled.
  if (one.number < first_number_) return;
  const std::uint64_t last = one.number - first_number_;
  if (last >= unconfirmed_.size()) return;
  std::size_t gone = 0;
  std::vector<Entry> refused;
  for (std::uint64_t i = one.and_all_before ? 0 : last; i <= last; ++i) {
    Entry& entry = unconfirmed_[i];
    if (entry.message.body.empty()) continue;
    if (one.taken) {
      ++counters_.notifications_sent;
      ++gone;
    } else if (options_.retry >= 0 && entry.attempts >= options_.retry) {
      ++counters_.notifications_dropped_refused;
      ++gone;
    } else {
      ++counters_.notifications_unconfirmed;
      refused.push_back({.message = std::move(entry.message), .attempts = entry.attempts + 1});
    }
    entry.message.body.clear();
  }
  while (!unconfirmed_.empty() && unconfirmed_.front().message.body.empty()) {
    unconfirmed_.pop_front();
    ++first_number_;
  }
  if (!one.taken) {
    not_before_ = std::chrono::steady_clock::now() + options_.backoff.interval;
    if (!std::exchange(complained_, true))
      base::log::warning(room_name, nullptr, "{} refuses notifications; is a queue of it full?", broker_->name());
  }
  unsent_.insert(unsent_.begin(), std::make_move_iterator(refused.begin()), std::make_move_iterator(refused.end()));
  left(gone);
}

void Outbox::left(std::size_t count) {
  if (count == 0) return;
  std::uint64_t dropped = 0;
  {
    const std::lock_guard lock(mutex_);
    held_ -= count;
    counters_.notifications_waiting = held_;
    if (held_ <= options_.limit / 2) dropped = std::exchange(dropped_in_a_row_, 0);
  }
  if (dropped != 0)
    base::log::warning(room_name, nullptr, "{} notifications were dropped, since too many waited", dropped);
}

void Outbox::lost(const Error& error) {
  connected_ = false;
  std::deque<Entry> again;
  for (Entry& entry : unconfirmed_) {
    if (!entry.message.body.empty()) again.push_back(std::move(entry));
  }
  unconfirmed_.clear();
  counters_.notifications_unconfirmed += again.size();
  base::log::warning(room_name, nullptr, "the connection for notifications is lost, {} are sent again: {}",
                     again.size(), error.message);
  complained_ = true;
  unsent_.insert(unsent_.begin(), std::make_move_iterator(again.begin()), std::make_move_iterator(again.end()));
  count_attempt();
  // Not at once: a broker that takes the connection and then ends it would be asked without a pause.
  pause();
}

void Outbox::count_attempt() {
  if (options_.retry < 0) return;
  std::size_t gone = 0;
  const auto tired = [&](Entry& entry) {
    const bool is = entry.attempts++ >= options_.retry;
    gone += is ? 1 : 0;
    return is;
  };
  std::erase_if(unsent_, tired);
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(queue_, tired);
  }
  counters_.notifications_dropped_refused += gone;
  left(gone);
}

void Outbox::pause() {
  const Time until = std::chrono::steady_clock::now() + backoff_.next();
  std::unique_lock lock(mutex_);
  // A stop that comes meanwhile gets one attempt at once.
  if (stopping_) {
    changed_.wait_until(lock, std::min(until, flush_until_), [] { return false; });
  } else {
    changed_.wait_until(lock, until, [this] { return stopping_; });
  }
}

void Outbox::give_up_rest() {
  std::size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = std::exchange(held_, 0);
    queue_.clear();
  }
  counters_.notifications_waiting = 0;
  if (count == 0) return;
  counters_.notifications_dropped_stop += count;
  base::log::warning(room_name, nullptr, "{} notifications were not sent, since the service ends", count);
}

}  // namespace imagecache::events
