// One connection to RabbitMQ with one open channel, as those need it who send (rabbit.cpp) and who listen
// (rabbit_subscription.cpp). Private to the room: librabbitmq's types are in it.
//
// One thread calls all but wake(), abort() and name(), which any thread may.
#pragma once

#include <amqp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "events/rabbit.hpp"

namespace imagecache::events {

constexpr amqp_channel_t rabbit_channel = 1;

/// Borrows.
amqp_bytes_t rabbit_bytes(std::string_view text);
/// Of a table; borrows.
amqp_table_entry_t rabbit_entry(const char* key, const char* value);
Result<void> rabbit_check(int status);
/// What the broker says when it closes a channel or a connection.
std::string rabbit_closing_words(const amqp_method_t& method);

class RabbitConnection {
 public:
  explicit RabbitConnection(RabbitOptions options);
  ~RabbitConnection();
  RabbitConnection(const RabbitConnection&) = delete;
  RabbitConnection& operator=(const RabbitConnection&) = delete;

  /// Tries every host once, the one that worked last first; `set_up` is part of the attempt. Blocks for at most a
  /// connect timeout each, and fails soon after an abort().
  Result<void> connect(const std::function<Result<void>()>& set_up);
  /// With a farewell.
  void disconnect();
  /// Without one.
  void drop();

  amqp_connection_state_t get() const { return connection_.get(); }
  /// The broker's answer to the last call, as "<what>: <its words>" where it is a no.
  Result<void> answer(std::string_view what) const;
  Result<void> open_channel();
  /// A topic exchange as options say.
  Result<void> declare_exchange(const std::string& name);
  /// What has come by now. Errc::not_found: nothing more. Also where heartbeats are sent and the broker's are missed.
  Result<amqp_frame_t> next_frame();
  /// Returns when there is something to read, at a wake(), or after `time`; may return early, to keep up heartbeats.
  void wait(std::chrono::milliseconds time);

  void wake();
  /// Whatever blocks now fails soon, and so does all that comes later.
  void abort();
  /// "127.0.0.1:5672/", without credentials.
  std::string name() const;
  const RabbitOptions& options() const { return options_; }

 private:
  struct Closer {
    // Without a farewell: the library's would wait for the broker's.
    void operator()(amqp_connection_state_t_* connection) const { amqp_destroy_connection(connection); }
  };

  Result<void> connect_to(const BrokerHost& host);
  Result<void> set_up_tls(amqp_socket_t_* socket, const std::string& host);
  amqp_rpc_reply_t login(const BrokerHost& host);
  bool is_aborted() const;
  /// What abort() is to end: a duplicate, since the library closes its own when it likes.
  void take_socket(int socket);

  RabbitOptions options_;
  base::Fd wake_;
  std::chrono::seconds heartbeat_{0};

  mutable std::mutex mutex_;
  // Written under mutex_; the thread that connects reads its own without.
  std::unique_ptr<amqp_connection_state_t_, Closer> connection_;
  std::size_t host_ = 0;
  base::Fd socket_;
  bool aborted_ = false;
};

}  // namespace imagecache::events
