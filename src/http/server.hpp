// HTTP/1.1 on TCP and Unix sockets: listen, read a request's head, hand it to a handler, write the answer. It knows no
// resource and no image; api does.
//
// The program must ignore SIGPIPE: neither sendfile(2) nor OpenSSL can be told not to raise it.
//
// One Task per connection on one I/O thread; handlers run as part of it and must not block. Limits on connections, head
// size and every wait are in Limits. An Exchange is one request and its answer; it is used by its handler alone, and
// only until the handler returns.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/blocking_pool.hpp"
#include "base/fd.hpp"
#include "base/io_threads.hpp"
#include "base/task.hpp"
#include "events/counters.hpp"
#include "imagecache/error.hpp"

namespace imagecache::http {

struct Limits {
  std::size_t max_connections = 1024;  ///< per server; one more waits until one has ended
  /// While somebody waits for that, a connection of whose next (or first) request nothing has come for this long goes,
  /// who has been silent for longest first: a few silent clients must not keep everybody else out. Long enough for a
  /// request to follow its connection, or the last answer; who was about to send one sees an end before any answer
  /// and sends it again (RFC 9112 section 9.3.1).
  std::chrono::milliseconds full_idle_timeout{1'000};
  /// Then, where none such is left, one whose head or TLS handshake has begun and is not whole after this. Such a
  /// client loses a request, so it has longer: an honest one sends a head in one or two packets, which arrive within
  /// this also if each is lost three times in a row (TCP sends again after 0.2, 0.4, 0.8 and 1.6 s). At most
  /// header_timeout.
  std::chrono::milliseconds full_header_timeout{5'000};
  std::uint32_t max_header_bytes = 32768;
  std::uint64_t max_body_bytes = 114688;             ///< of bodies that a handler reads whole
  std::chrono::milliseconds header_timeout{30'000};  ///< for a whole head, and for a TLS handshake
  std::chrono::milliseconds idle_timeout{120'000};   ///< between requests of one connection
  /// A client must take or give min_progress_bytes in every body_timeout of our waiting for it.
  std::chrono::milliseconds body_timeout{60'000};
  std::uint64_t min_progress_bytes = 16384;
  std::chrono::milliseconds upstream_timeout{600'000};  ///< for the head of an upstream's answer, and between its bytes
  std::chrono::milliseconds continue_wait{1'000};  ///< for an upstream's 100 Continue; then it gets the body unasked
  /// An answer that ends a connection is not lost to a reset: what the client still sends is read and dropped, until
  /// it is silent so long, or sent so much, or took so long in all.
  std::chrono::milliseconds linger_silence{5'000};
  std::uint64_t linger_bytes = 256 << 20;
  std::chrono::milliseconds linger_time{30'000};
  /// Where connections must end, one that carries no request is waited for so long: one may be on its way.
  std::chrono::milliseconds stop_grace{500};
  /// Connections to upstreams that wait for their next request: how many per I/O thread and upstream, how long.
  std::size_t upstream_idle_connections = 8;
  std::chrono::milliseconds upstream_idle_timeout{15'000};
};

/// Where to listen: exactly one of the three forms.
struct BindAddress {
  std::string host;        ///< "127.0.0.1", "::1" or "[::1]"; a name means all of its addresses
  std::uint16_t port = 0;  ///< 0: the kernel picks; see Server::port()
  std::string unix_path;   ///< a stale socket there is replaced, anything else is an error
  /// A listening socket that somebody else made and keeps, e.g. systemd: see adopt_listener(). On stop no more is
  /// accepted from it, and who connects then waits for the next process.
  int inherited_fd = -1;
  bool v6_only = false;  ///< "::" takes IPv4 as well unless this is set
};

/// A descriptor of our own for the listening stream socket `fd`, which stays the caller's; Errc::invalid_argument with
/// what is wrong if it is something else.
Result<base::Fd> adopt_listener(int fd);

/// TLS (1.2 or later) for clients; PEM files. An empty key_file: the key is in cert_file. With client_ca_file only
/// clients with a certificate of that authority come in.
struct ServerTls {
  std::string cert_file, key_file, client_ca_file;
};

using Header = std::pair<std::string, std::string>;

struct Response {
  unsigned status = 200;
  std::vector<Header> headers;  ///< Content-Length, Date and Connection are added
  std::string body;
};

/// Gives the bytes of a body as they become available: how many bytes from the file's start may be sent now, once that
/// is more than `offset`; equal to the end means no more will come.
using WaitAvailable = std::function<base::Task<Result<std::uint64_t>>(std::uint64_t offset, base::Deadline deadline)>;

/// Sees the head of an upstream's answer before any of it goes to the client, and may change its headers. False: the
/// client is told nothing of this answer, and is still to be answered.
using OnAnswer = std::function<base::Task<bool>(Response& head)>;

/// Where and how a request is passed on.
struct Upstream {
  std::string url;              ///< "http://host:9292[/path]"
  std::string target{};         ///< path and query behind it; empty: the request's own target()
  std::vector<Header> extra{};  ///< set, in place of the request's own of that name
  bool preserve_host = false;   ///< the client's Host goes along instead of the URL's, so that links lead back to us
  std::vector<std::string> drop{};  ///< the request's own headers of these names stay here
  OnAnswer on_answer{};             ///< of pass_through() alone
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual std::string_view method() const = 0;
  virtual std::string_view target() const = 0;                       ///< as sent: path and query
  virtual std::string_view path() const = 0;                         ///< the path, not decoded
  virtual std::string_view query() const = 0;                        ///< without '?'
  virtual std::string_view header(std::string_view name) const = 0;  ///< empty if absent; the first if repeated
  virtual std::vector<Header> headers() const = 0;
  virtual std::string_view peer() const = 0;                  ///< "127.0.0.1", "unix"
  virtual std::string_view scheme() const { return "http"; }  ///< or "https": how the client reached us

  /// The whole body. Errc::invalid_argument over max_body_bytes, Errc::timeout.
  virtual base::Task<Result<std::string>> read_body() = 0;

  /// True once an answer's head has been written: nothing else can be said then but to end the connection.
  virtual bool answered() const = 0;
  /// How many bytes of the answer's body the client's socket has taken so far, also of an answer that broke off.
  virtual std::uint64_t body_bytes_sent() const = 0;
  virtual base::Task<Result<void>> respond(Response response) = 0;
  /// An answer whose body is `length_bytes` of `fd` from `offset_bytes` on, by sendfile(2). Where `wait` is given the
  /// file is still growing and only what it allows is sent. `length_bytes` absent: chunked, until wait says the end. A
  /// failure in the middle ends the connection, so that the client sees that the body is short. Errc::internal if the
  /// file cannot be read or is short, Errc::cancelled or Errc::timeout if the client is gone or reads nothing.
  virtual base::Task<Result<void>> respond_file(Response head, int fd, std::uint64_t offset_bytes,
                                                std::optional<std::uint64_t> length_bytes, WaitAvailable wait) = 0;
  /// Ends the connection by a reset, without an answer: for clients that ask again then, and take any answer but the
  /// right one for the last word. Once, in place of an answer.
  virtual void drop() = 0;
  /// Passes this request on and its answer back, both bodies as they come, neither held whole. Hop-by-hop headers are
  /// dropped, and so are names with '_', which many servers take for '-'; Via, X-Forwarded-For (our peer at its end)
  /// and, unless they are there, X-Forwarded-Proto and X-Forwarded-Host are added. Whatever else the client sent goes
  /// along, identity headers too: who must not say X-Identity-Status or X-Service-Token is for the caller to settle
  /// with `extra`. Returns the answer's status. Errc::unavailable if no answer came.
  virtual base::Task<Result<unsigned>> pass_through(Upstream upstream) = 0;
  /// Asks the upstream what this request asks, by its head alone, and brings the answer back as a value: status,
  /// headers without the hop-by-hop ones and Content-Length, body. The client is told nothing; the request can be
  /// answered or passed on after it. Headers are passed on as by pass_through(). For GET, HEAD and DELETE:
  /// Errc::invalid_argument for another method. Errc::unavailable if no answer came, or one that broke off or has more
  /// than max_body_bytes.
  virtual base::Task<Result<Response>> ask_upstream(Upstream upstream, std::uint64_t max_body_bytes) = 0;
};

using Handler = std::function<base::Task<void>(Exchange& exchange)>;

/// TLS towards the origin, for pass_through().
struct UpstreamTls {
  bool insecure = false;
  std::string ca_file, cert_file, key_file;
};

class Server {
 public:
  /// All references outlive the server. `pool` reads file pages that are not in memory.
  Server(std::string name, Limits limits, UpstreamTls upstream_tls, Handler handler, base::IoThreads& io,
         base::BlockingPool& pool, events::Counters& counters);
  ~Server();

  /// Binds and starts to accept; may be called for several addresses.
  Result<void> listen(const BindAddress& address, std::optional<ServerTls> tls = {});
  std::uint16_t port() const;  ///< of the first TCP listener
  std::size_t connections() const;
  /// Reads all certificates and keys anew, also those for upstreams; connections from now on use them. Files that
  /// cannot be used leave what was loaded in use, and are the error. Blocks; any thread.
  Result<void> reload_tls();

  /// Accepts no more, answers what has arrived, lets requests in flight end until the deadline, closes the rest.
  base::Task<void> stop(base::Deadline deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imagecache::http
