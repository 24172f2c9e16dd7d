// What waits for the broker: a bounded queue, and the one thread that sends from it.
//
// A message is in the outbox from put() until the broker has confirmed it. When a connection breaks, all that was not
// confirmed is sent again, in its old order and before what came later. A broker that refuses a message is asked again
// after the retry interval.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "events/backoff.hpp"
#include "events/broker.hpp"
#include "events/counters.hpp"

namespace imagecache::events {

class Outbox {
 public:
  struct Options {
    std::size_t limit = 10'000;  ///< messages; one more is dropped
    int retry = -1;              ///< attempts to send one again; -1: without end
    Backoff::Options backoff;    ///< between attempts to connect; its first also after a refusal
    std::chrono::milliseconds flush_timeout{5000};
  };

  /// Starts the thread, which connects at once, so that a broker that cannot be reached is known before it is needed.
  Outbox(Options options, std::unique_ptr<Broker> broker, Counters& counters);
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  /// Takes all or drops all. Any thread; never waits for the broker.
  void put(std::vector<Message> messages);
  /// Sends what is there for at most flush_timeout, then gives up the rest. Blocks. Later calls do nothing.
  void stop();

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Entry {
    Message message;
    int attempts = 0;
  };

  void run();
  bool connect();
  Result<void> publish_some();
  Result<void> take_confirms();
  void confirm(const Confirm& one);
  void lost(const Error& error);
  void count_attempt();
  void pause();
  bool done();
  void give_up_rest();
  void left(std::size_t count);  // so many are no longer in the outbox

  const Options options_;
  const std::unique_ptr<Broker> broker_;
  Counters& counters_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Protected by mutex_.
  std::deque<Entry> queue_;
  std::size_t held_ = 0;  // in queue_ and in the thread's hands
  std::uint64_t dropped_in_a_row_ = 0;
  bool stopping_ = false;
  bool ended_ = false;
  Time flush_until_{};

  // The thread's own.
  std::deque<Entry> unsent_;        // to be sent before queue_
  std::deque<Entry> unconfirmed_;   // in the order of their numbers
  std::uint64_t first_number_ = 1;  // of unconfirmed_.front()
  bool connected_ = false;
  bool complained_ = false;
  Backoff backoff_;
  Time not_before_{};

  std::jthread thread_;
};

}  // namespace imagecache::events
