// One connection to a message broker, as an ImageListener uses it: RabbitMQ's in rabbit.hpp, a staged one in tests.
//
// One thread calls all but wake(), abort() and name(), which any thread may.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::events {

class Subscription {
 public:
  virtual ~Subscription() = default;

  /// As Broker::connect(). What was published while there was no connection never comes.
  virtual Result<void> connect() = 0;
  /// The bodies that have come, a batch of them; they are gone from the broker. Returns when there is one, at a wake(),
  /// or after `time`; may return early. After a failure the connection is of no use.
  virtual Result<std::vector<std::string>> wait(std::chrono::milliseconds time) = 0;
  virtual void disconnect() = 0;
  virtual void wake() = 0;
  /// Whatever blocks now fails soon, and so does all that comes later.
  virtual void abort() = 0;
  /// For the log; without credentials.
  virtual std::string name() const = 0;
};

}  // namespace imagecache::events
