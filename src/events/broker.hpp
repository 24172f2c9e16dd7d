// One connection to a message broker, as the Outbox uses it: RabbitMQ's in rabbit.hpp, a gated one in tests.
//
// One thread calls all but wake() and abort(), which any thread may.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::events {

struct Message {
  std::string routing_key;  ///< "notifications.info"; where nobody consumes yet, the queue of that name keeps it
  std::string body;
};

/// The broker's word on what was published since connect(): the first has number 1.
struct Confirm {
  std::uint64_t number = 0;
  bool and_all_before = false;
  bool taken = true;  ///< false: the broker refuses, e.g. since its queue is full
};

class Broker {
 public:
  virtual ~Broker() = default;

  /// Tries every host once, the one that worked last first. Blocks for at most a connect timeout each. Ends the
  /// connection before it, if there is one.
  virtual Result<void> connect() = 0;
  /// After a failure of publish() or wait() the connection is of no use; what was not confirmed may have arrived or
  /// not.
  virtual Result<void> publish(const Message& message) = 0;
  /// Returns when there is something, at a wake(), or after `time`; may return early. Keeps up heartbeats.
  virtual Result<std::vector<Confirm>> wait(std::chrono::milliseconds time) = 0;
  virtual void disconnect() = 0;
  /// Ends the wait() that runs, or the next one.
  virtual void wake() = 0;
  /// Whatever blocks now fails soon, and so does all that comes later.
  virtual void abort() = 0;
  /// "127.0.0.1:5672/", for the log; without credentials.
  virtual std::string name() const = 0;
};

}  // namespace imagecache::events
