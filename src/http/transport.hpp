// Bytes to and from one peer, in the clear or by TLS, over one non-blocking socket. Private to the room.
//
// All is done on the socket itself (OpenSSL's too), so that image bytes go by sendfile(2), or by one copy where they
// are encrypted, and the event loop only tells when to go on. One Task may read while another writes; each direction
// has a deadline of its own. Used on one executor alone.
#pragma once

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <expected>
#include <memory>
#include <span>
#include <string_view>

#include "base/blocking_pool.hpp"
#include "base/task.hpp"
#include "http/tls.hpp"

namespace imagecache::http {

namespace asio = boost::asio;

using Socket = asio::generic::stream_protocol::socket;
using boost::system::error_code;

inline constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

enum class Direction : unsigned { read = 0, write = 1 };

/// Ends waits whose time is up. One timer that is seldom touched: it fires at the earliest deadline there has been and
/// looks then whether that still holds. Shared with its own pending handler.
class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  explicit Watchdog(Socket& socket) : timer_(socket.get_executor()), socket_(&socket) {}
  void arm(Direction direction, base::Deadline deadline);
  void disarm(Direction direction) { deadlines_[static_cast<unsigned>(direction)] = base::never; }
  base::Deadline deadline(Direction direction) const { return deadlines_[static_cast<unsigned>(direction)]; }
  /// The socket is about to go.
  void forget();

 private:
  void schedule(base::Deadline at);
  void ring();

  asio::steady_timer timer_;
  Socket* socket_;
  std::array<base::Deadline, 2> deadlines_{base::never, base::never};
  base::Deadline pending_ = base::never;
  std::uint64_t generation_ = 0;
};

/// How many bytes went; 0 of a read is the peer's end.
using Moved = std::expected<std::size_t, error_code>;

class Transport {
 public:
  /// A message of a slow peer: every `limit` of waiting at least `min_bytes` must have moved.
  struct Patience {
    std::chrono::steady_clock::duration limit{};
    std::uint64_t min_bytes = 1;
  };

  /// Nothing is sent or received yet; `ssl` knows already whether it is server or client.
  explicit Transport(Socket socket, SslPtr ssl = {});
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  Socket& socket() { return socket_; }
  bool is_tls() const { return static_cast<bool>(ssl_); }
  /// Connects the socket, which is made anew for it.
  base::Task<error_code> connect(const Socket::endpoint_type& endpoint, base::Deadline deadline);
  /// By TLS from here on, before anything else was said.
  base::Task<Result<void>> handshake(base::Deadline deadline);
  void use_tls(SslPtr ssl) { ssl_ = std::move(ssl); }

  /// What is there now; operation would_block if that is nothing.
  Moved try_read(std::span<char> into);
  base::Task<Moved> read_some(std::span<char> into, base::Deadline deadline);
  base::Task<Moved> read_some(std::span<char> into, Patience patience);
  /// Did OpenSSL read bytes that nobody has asked for yet?
  bool has_pending() const { return ssl_ && !ssl_failed_ && SSL_has_pending(ssl_.get()) == 1; }
  /// Did the socket receive bytes that were not read?
  bool has_unread();
  /// Until something may be there to read on the socket. False when time is up or the transport is aborted.
  base::Task<bool> wait_readable(base::Deadline deadline);
  /// All of `data`. `more` says that more follows at once, so that small pieces need no packet of their own;
  /// `written` goes along with what was sent.
  base::Task<error_code> write(std::string_view data, Patience patience, bool more = false,
                               std::uint64_t* written = nullptr);

  /// `head`, then bytes offset..end of the file, which has them all; `offset` goes along with what was sent. `pool`
  /// reads pages that are not in memory. Errc::cancelled or Errc::timeout is the peer's doing, Errc::internal the
  /// file's: it cannot be read, or is shorter.
  base::Task<Result<void>> send_file(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                     Patience patience, base::BlockingPool& pool);

  /// Brings the deadline of the operation in `direction` that is waiting now, if any, forward to `deadline`.
  void hurry(Direction direction, base::Deadline deadline);
  /// Every wait now and every operation from now on fails. The socket stays ours until the transport goes.
  void abort();
  bool aborted() const { return aborted_; }
  /// A new message begins: what was waited for the last one counts no more.
  void begin_message() {
    waited_ = {};
    moved_ = {};
  }

  /// Says that nothing more will be sent; by TLS with its own goodbye.
  void shutdown_send();
  /// Reads and drops until the peer's end, up to `bytes` or the deadline, so that what we sent last is not lost to a
  /// reset. After shutdown_send().
  base::Task<void> linger(std::uint64_t bytes, std::chrono::steady_clock::duration silence, base::Deadline deadline);
  /// When the socket is closed the peer sees a reset, never a clean end.
  void reset_on_close();
  /// Is there nothing to read and no end either, as it should be between two messages?
  bool is_quiet();

 private:
  enum class Want { nothing, read, write };
  struct Step {
    std::size_t bytes = 0;
    Want want = Want::nothing;  // beside `bytes`: these went, and before more can go this is to be waited for
    error_code error{};
    bool of_file = false;  // the error is what the file said, not the socket
  };
  Step step_read(std::span<char> into);
  Step step_write(std::string_view data, bool more);
  Step step_sendfile(int fd, std::uint64_t offset, std::size_t count);
  Step ssl_step(int result, std::size_t bytes);
  bool sends_files() const;
  void count(Direction direction, std::size_t bytes, const Patience& patience);

  /// Brings `deadline` forward where hurry() did, so that the next wait of the same operation knows.
  base::Task<error_code> wait(Want want, Direction direction, base::Deadline& deadline);
  base::Task<error_code> wait(Want want, Direction direction, Patience patience);
  base::Task<Result<void>> send_pages(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                      Patience patience, base::BlockingPool& pool);
  base::Task<Result<void>> send_copied(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                       Patience patience, base::BlockingPool& pool);

  Socket socket_;
  SslPtr ssl_;
  const std::shared_ptr<Watchdog> watchdog_;
  std::array<std::chrono::steady_clock::duration, 2> waited_{};  // since min_bytes moved last
  std::array<std::uint64_t, 2> moved_{};
  std::array<bool, 2> waiting_{};
  unsigned found_in_memory_ = 0;  // so many looks for a file's pages in a row
  unsigned unlooked_ = 0;         // answers since, with one in some of them looked at
  bool aborted_ = false;
  bool ssl_failed_ = false;  // nothing may be asked of it any more
};

/// Errc::timeout if time was up, else Errc::cancelled: the peer is gone.
Errc errc_of(const error_code& error);

}  // namespace imagecache::http
