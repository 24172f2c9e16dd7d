// What any peer may send to a connection: it ends, every answer has a status line, and no more requests are seen than
// there are request lines in the bytes.
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "http/connection.hpp"

namespace {

using namespace imagecache;
using namespace imagecache::http;

std::size_t count_of(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

struct World {
  Limits limits{.max_header_bytes = 2048, .max_body_bytes = 4096};
  Upstreams upstreams{{}, limits};
  base::BlockingPool pool{{.name = "read", .threads = 1}};
  events::Counters counters{};
  std::atomic<unsigned> waiting = 0;
  IdleOrder order{limits.full_idle_timeout, limits.full_header_timeout};
  std::size_t handled = 0;
  Shared shared{limits,
                [this](Exchange& exchange) -> base::Task<void> {
                  ++handled;
                  if (exchange.path().empty() || exchange.path().front() != '/') std::abort();
                  Response response{.headers = exchange.headers(), .body = std::string(exchange.query())};
                  // By the path: read the body, or leave it.
                  if (!exchange.path().starts_with("/n")) {
                    auto body = co_await exchange.read_body();
                    response.body += body ? *body : body.error().message;
                  }
                  static_cast<void>(co_await exchange.respond(std::move(response)));
                },
                pool,
                counters,
                upstreams,
                waiting,
                order};
};

base::Task<void> serve(Socket socket, const Shared& shared) {
  Connection connection(std::move(socket), {}, "fuzz", shared);
  co_await connection.run();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 16384) return 0;
  static World world;
  world.handled = 0;
  // The first byte says where the rest is torn in two.
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t tear = data[0] * text.size() / 256;

  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  boost::asio::io_context io{1};
  bool ended = false;
  Socket socket(io, boost::asio::generic::stream_protocol(AF_UNIX, 0), fds[0]);
  boost::asio::co_spawn(io, serve(std::move(socket), world.shared), [&](const std::exception_ptr& problem) {
    if (problem) std::abort();
    ended = true;
  });
  io.poll();
  static_cast<void>(::send(fds[1], text.data(), tear, MSG_NOSIGNAL));
  io.poll();
  static_cast<void>(::send(fds[1], text.data() + tear, text.size() - tear, MSG_NOSIGNAL));
  ::shutdown(fds[1], SHUT_WR);
  std::string answers;
  while (!ended) {
    io.restart();
    io.poll();
    char part[65536];
    for (ssize_t n = 0; (n = ::recv(fds[1], part, sizeof part, 0)) > 0;) {
      answers.append(part, static_cast<std::size_t>(n));
    }
  }
  ::close(fds[1]);
  if (!answers.empty() && !answers.starts_with("HTTP/1.1 ")) std::abort();
  if (world.handled > count_of(text, " HTTP/1.")) std::abort();
  return 0;
}
