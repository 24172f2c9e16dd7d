// One client's connection: waits for requests, reads their heads, has them answered, ends well. Private to the room.
//
// Between requests it holds this object and one small frame: buffers and parser come and go with each request.
#pragma once

#include <atomic>
#include <boost/beast/core/flat_buffer.hpp>
#include <chrono>
#include <optional>
#include <string>

#include "http/idle_order.hpp"
#include "http/reader.hpp"
#include "http/server.hpp"
#include "http/transport.hpp"
#include "http/upstream.hpp"

namespace imagecache::http {

/// What all connections of a server share; owned by the server, outlives its connections.
struct Shared {
  Limits limits;
  Handler handler;
  base::BlockingPool& pool;
  events::Counters& counters;
  Upstreams& upstreams;
  /// How many have connected and have no place: as long as there are some, no connection goes on after its answer.
  const std::atomic<unsigned>& waiting;
  IdleOrder& order;
};

class Connection {
 public:
  /// With `ssl` the client must speak TLS.
  Connection(Socket socket, SslPtr ssl, std::string peer, const Shared& shared);
  ~Connection() { shared_.order.leave(place_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// From now on it is not chosen to make a place.
  void leave_order() { shared_.order.leave(place_); }

  /// Serves requests until the client or a limit ends it.
  base::Task<void> run();
  /// On the connection's executor: ends it when it has been idle for stop_grace, or after the request in flight.
  void drain();
  /// On the connection's executor: ends it if it has been chosen to go and is still without a whole request.
  void make_place();
  /// On the connection's executor: ends it now.
  void close();
  base::Executor executor() { return transport_.socket().get_executor(); }

 private:
  friend class ClientExchange;
  base::Task<bool> shake_hands();
  /// Until a byte may be there. False: it goes.
  base::Task<bool> wait_for_byte(base::Deadline deadline);
  base::Task<bool> wait_for_request();
  base::Task<bool> serve_one();
  /// False when no head came: the client is gone, too slow, or was refused.
  base::Task<bool> read_head(RequestParser& parser);
  base::Task<bool> refuse(Response refusal);
  base::Task<void> finish();

  bool is_last_answer() const { return draining_ || shared_.waiting.load(std::memory_order_relaxed) > 0; }
  Transport::Patience patience() const { return {shared_.limits.body_timeout, shared_.limits.min_progress_bytes}; }
  std::string_view received() const { return {static_cast<const char*>(buffer_.cdata().data()), buffer_.size()}; }

  const Shared& shared_;
  const std::string peer_;
  Transport transport_;
  beast::flat_buffer buffer_;      // received and not used yet
  Transport* upstream_ = nullptr;  // of the exchange in flight, to be aborted with the client's
  IdleOrder::Place place_{this};
  bool idle_ = false;
  bool draining_ = false;
  bool unread_ = false;  // the client may be sending what nobody will read
  bool reset_ = false;   // the last answer is short in a way that only a reset tells
  bool makes_place_ = false;
};

}  // namespace imagecache::http
