// One client's connection, and the Exchange of the request that it carries at the moment. Private to the room.
#pragma once

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <memory>
#include <optional>
#include <string>

#include "http/head.hpp"
#include "http/server.hpp"

namespace imagecache::http {

namespace asio = boost::asio;
namespace beast = boost::beast;

using Socket = asio::generic::stream_protocol::socket;
using RequestParser = beast::http::request_parser<beast::http::buffer_body>;

inline constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

/// What all connections of a server share; owned by the server, outlives its connections.
struct Shared {
  Limits limits;
  UpstreamTls upstream_tls;
  Handler handler;
  base::BlockingPool& pool;
  events::Counters& counters;
};

/// Closes a connection on which nothing moved for too long. Held by the connection and by the timer's pending handler,
/// whichever is the last.
class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  explicit Watchdog(Socket& socket) : timer_(socket.get_executor()), socket_(&socket) {}
  void arm(std::chrono::milliseconds time);
  void disarm();
  /// As if time were up now.
  void expire();
  /// The socket is about to go; nothing will be closed any more.
  void forget();
  /// Also to be closed when time is up, e.g. an upstream connection; nullptr takes it back.
  void also_close(std::function<void()> close) { also_close_ = std::move(close); }
  bool expired() const { return expired_; }

 private:
  asio::steady_timer timer_;
  Socket* socket_;
  std::function<void()> also_close_;
  std::uint64_t generation_ = 0;
  bool expired_ = false;
};

class Connection {
 public:
  Connection(Socket socket, std::string peer, const Shared& shared);
  ~Connection();

  /// Serves requests until the client or a limit ends it.
  base::Task<void> run();
  /// On the connection's executor: ends it at once if it is idle, else after the request in flight.
  void drain();
  /// On the connection's executor: ends it now.
  void close();
  base::Executor executor() { return socket_.get_executor(); }

 private:
  friend class ClientExchange;
  base::Task<bool> serve_one();
  /// False if the client is gone or time was up.
  base::Task<bool> write(std::string_view data);

  Socket socket_;
  const std::string peer_;
  const Shared& shared_;
  const std::shared_ptr<Watchdog> watchdog_;
  beast::flat_buffer buffer_;
  bool idle_ = false;
  bool draining_ = false;
};

class ClientExchange final : public Exchange {
 public:
  ClientExchange(Connection& connection, RequestParser& parser);

  std::string_view method() const override { return method_; }
  std::string_view target() const override { return target_; }
  std::string_view path() const override { return std::string_view(target_).substr(0, target_.find('?')); }
  std::string_view query() const override;
  std::string_view header(std::string_view name) const override;
  std::vector<Header> headers() const override;
  std::string_view peer() const override { return connection_.peer_; }
  base::Task<Result<std::string>> read_body() override;
  bool answered() const override { return answered_; }
  std::uint64_t body_bytes_sent() const override { return body_bytes_sent_; }
  base::Task<Result<void>> respond(Response response) override;
  base::Task<Result<void>> respond_file(Response head, int fd, std::uint64_t offset_bytes,
                                        std::optional<std::uint64_t> length_bytes, WaitAvailable wait) override;
  base::Task<Result<unsigned>> pass_through(Upstream upstream) override;
  base::Task<Result<Response>> ask_upstream(Upstream upstream, std::uint64_t max_body_bytes) override;

  /// After the handler: may another request follow on this connection?
  bool may_keep_alive() const;
  bool body_is_read() { return parser_.is_done(); }

 private:
  base::Task<Result<void>> send_file(int fd, std::uint64_t offset, std::optional<std::uint64_t> length,
                                     WaitAvailable wait, bool chunked);
  base::Task<Result<void>> send_range(int fd, std::uint64_t& offset, std::uint64_t end);
  /// The next part of the request's body, empty at its end.
  base::Task<Result<std::string_view>> read_some_body(std::array<char, 65536>& buffer);
  /// The head as it goes to an upstream, without the lines that frame a body.
  std::string head_for(const Url& url, const Upstream& passed) const;
  template <class Answer, class Use>
  base::Task<Result<Answer>> with_upstream(const Upstream& upstream, Use use);
  template <class Stream>
  base::Task<Result<unsigned>> relay(Stream& upstream, const Url& url, const Upstream& passed);
  template <class Stream>
  base::Task<Result<Response>> ask(Stream& upstream, const Url& url, const Upstream& passed,
                                   std::uint64_t max_body_bytes);
  bool expects_continue() const;

  Connection& connection_;
  RequestParser& parser_;
  std::string method_;
  std::string target_;
  bool keep_alive_;
  bool http_1_0_;
  bool continued_ = false;  // 100 Continue was said
  bool answered_ = false;
  std::uint64_t body_bytes_sent_ = 0;
  bool broken_ = false;  // the answer could not be completed
};

}  // namespace imagecache::http
