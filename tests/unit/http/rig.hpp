// A server to try things on, and peers that say exactly what they are told, also by TLS. For the tests of this room.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "http/server.hpp"
#include "support/http_client.hpp"
#include "support/loopback.hpp"

namespace imagecache::http::test_rig {

/// What came until the other side ended, and whether it ended by a reset.
struct Ending {
  std::string bytes;
  bool reset = false;
};

/// One end of a connection, blocking; waits at most a minute, which only a failing test meets.
class RawPeer {
 public:
  explicit RawPeer(base::Fd fd) : fd_(std::move(fd)) {
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  static RawPeer connect(std::uint16_t port, const char* address = "127.0.0.1") {
    sockaddr_in6 v6{};
    sockaddr_in v4{};
    const bool is_v6 = ::inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    base::Fd fd(::socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    ::inet_pton(AF_INET, address, &v4.sin_addr);
    const int result = is_v6 ? ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&v6), sizeof v6)
                             : ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
    EXPECT_EQ(result, 0) << address << ": " << std::generic_category().message(errno);
    return RawPeer(std::move(fd));
  }
  static RawPeer connect_unix(const std::string& path) {
    base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return RawPeer(std::move(fd));
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// Reads until `mark` has come and hands back all up to its end; what came too early if the other side ends.
  std::string read_until(std::string_view mark) {
    for (;;) {
      if (const auto found = buffer_.find(mark); found != std::string::npos) return take(found + mark.size());
      if (!fill()) return take(buffer_.size());
    }
  }
  std::string read_exactly(std::size_t size) {
    while (buffer_.size() < size && fill()) {
    }
    return take(std::min(size, buffer_.size()));
  }
  Ending read_to_end() {
    while (fill()) {
    }
    return {.bytes = take(buffer_.size()), .reset = reset_};
  }
  /// Nothing to read, and no end, for so long?
  bool is_silent(int milliseconds) {
    pollfd wanted{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return buffer_.empty() && ::poll(&wanted, 1, milliseconds) == 0;
  }
  void half_close() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  bool fill() {
    std::string part(65536, '\0');
    const ssize_t n = ::recv(fd_.get(), part.data(), part.size(), 0);
    reset_ = n < 0 && errno == ECONNRESET;
    if (n <= 0) return false;
    buffer_.append(part, 0, static_cast<std::size_t>(n));
    return true;
  }
  std::string take(std::size_t size) {
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return taken;
  }
  base::Fd fd_;
  std::string buffer_;
  bool reset_ = false;
};

/// A listening socket whose connections the test itself answers.
class RawListener {
 public:
  RawListener() {
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  RawPeer accept() { return RawPeer(base::Fd(::accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC))); }
  std::uint16_t port() const { return listener_.port; }
  int fd() const { return listener_.fd.get(); }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port()); }

 private:
  test::LoopbackListener listener_ = test::listen_on_loopback();
};

class Rig : public ::testing::Test {
 protected:
  Rig() { std::signal(SIGPIPE, SIG_IGN); }
  void serve(Handler handler, Limits limits = {}, std::optional<ServerTls> tls = {}, UpstreamTls upstream_tls = {}) {
    server = std::make_unique<Server>("test", limits, std::move(upstream_tls), std::move(handler), io, pool, counters);
    const auto listening = server->listen({.host = "127.0.0.1"}, std::move(tls));
    ASSERT_TRUE(listening) << listening.error().message;
  }
  ~Rig() override { stop(server); }
  void stop(std::unique_ptr<Server>& which) {
    if (which) io.run(which->stop(base::in(std::chrono::seconds(10))));
    which.reset();
  }

  events::Counters counters{};
  base::BlockingPool pool{{.name = "read", .threads = 2}};
  base::IoThreads io{2};
  std::unique_ptr<Server> server;
};

inline base::Task<void> say(Exchange& exchange, std::string text) {
  static_cast<void>(co_await exchange.respond({.headers = {{"X-Path", std::string(exchange.path())}}, .body = text}));
}

}  // namespace imagecache::http::test_rig
