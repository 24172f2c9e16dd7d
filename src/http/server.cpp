#include "http/server.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <exception>
#include <unordered_set>

#include "base/log.hpp"
#include "base/try.hpp"
#include "http/connection.hpp"

namespace imagecache::http {
namespace {

using tcp = asio::ip::tcp;
using local = asio::local::stream_protocol;

std::string peer_name(const tcp::socket& socket) {
  boost::system::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? std::string("?") : endpoint.address().to_string();
}
std::string peer_name(const local::socket&) {
  return "unix";
}

}  // namespace

struct Server::Impl {
  Impl(std::string server_name, Shared shared_parts, base::IoThreads& io_threads)
      : name(std::move(server_name)), shared(std::move(shared_parts)), io(io_threads) {}

  const std::string name;
  Shared shared;
  base::IoThreads& io;
  std::string unix_path;
  std::uint16_t port = 0;

  std::mutex mutex;
  base::Signal changed;
  // Protected by mutex.
  std::unordered_set<Connection*> connections;
  std::vector<std::function<void()>> close_acceptors;
  std::size_t running = 0;  // accept loops and connections
  bool stopping = false;

  void left() {
    const std::lock_guard lock(mutex);
    --running;
    changed.notify();
  }

  template <class Protocol>
  base::Task<void> accept_loop(std::shared_ptr<typename Protocol::acceptor> acceptor) {
    for (;;) {
      auto [error, socket] = co_await acceptor->async_accept(io.next(), use_tuple);
      if (error) {
        if (error == asio::error::operation_aborted || !acceptor->is_open()) break;
        // Out of descriptors, most likely: a pause lets some be given back.
        base::log::warning("http", nullptr, "{}: accept: {}", name, error.message());
        co_await base::sleep_until(base::in(std::chrono::milliseconds(100)));
        continue;
      }
      admit(std::move(socket));
    }
    left();
  }

  template <class S>
  void admit(S socket) {
    boost::system::error_code ignored;
    if constexpr (std::is_same_v<S, tcp::socket>) socket.set_option(tcp::no_delay(true), ignored);
    bool full = false;
    {
      const std::lock_guard lock(mutex);
      if (stopping) return;
      full = connections.size() >= shared.limits.max_connections;
      if (!full) ++running;
    }
    if (full) {
      shared.counters.http_connections_refused.fetch_add(1, std::memory_order_relaxed);
      static constexpr std::string_view refusal =
          "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      // As much as the empty socket buffer takes, which is all of it; nobody waits for a client here.
      static_cast<void>(::send(socket.native_handle(), refusal.data(), refusal.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
      return;
    }
    shared.counters.http_connections_accepted.fetch_add(1, std::memory_order_relaxed);
    std::string peer = peer_name(socket);
    auto executor = socket.get_executor();
    asio::co_spawn(executor, serve(Socket(std::move(socket)), std::move(peer)), [this](std::exception_ptr problem) {
      if (problem) base::log::error("http", nullptr, "{}: a connection ended with an exception", name);
      left();
    });
  }

  base::Task<void> serve(Socket socket, std::string peer) {
    Connection connection(std::move(socket), std::move(peer), shared);
    // Whatever ends this frame takes the connection off the list.
    struct Listed {
      Impl& impl;
      Connection& connection;
      Listed(Impl& i, Connection& c) : impl(i), connection(c) {
        const std::lock_guard lock(impl.mutex);
        impl.connections.insert(&connection);
        if (impl.stopping) connection.drain();
        impl.shared.counters.http_connections.fetch_add(1, std::memory_order_relaxed);
      }
      ~Listed() {
        const std::lock_guard lock(impl.mutex);
        impl.connections.erase(&connection);
        impl.shared.counters.http_connections.fetch_sub(1, std::memory_order_relaxed);
      }
    } const listed(*this, connection);
    co_await connection.run();
  }

  /// Runs `what` for each connection, on its own executor.
  void for_each_connection(void (Connection::*what)()) {
    const std::lock_guard lock(mutex);
    for (Connection* connection : connections) {
      asio::post(connection->executor(), [this, connection, what] {
        // It may have gone since; connections leave the list on this same executor.
        const std::lock_guard inner(mutex);
        if (connections.contains(connection)) (connection->*what)();
      });
    }
  }

  base::Task<bool> wait_empty(base::Deadline deadline) {
    for (;;) {
      const auto seen = changed.version();
      {
        const std::lock_guard lock(mutex);
        if (running == 0) co_return true;
      }
      if (!co_await changed.wait_past(seen, deadline)) co_return false;
    }
  }

  template <class Protocol>
  void start(std::shared_ptr<typename Protocol::acceptor> acceptor) {
    {
      const std::lock_guard lock(mutex);
      ++running;
      close_acceptors.push_back([acceptor] {
        asio::post(acceptor->get_executor(), [acceptor] {
          boost::system::error_code ignored;
          acceptor->close(ignored);
        });
      });
    }
    asio::co_spawn(acceptor->get_executor(), accept_loop<Protocol>(acceptor), [](std::exception_ptr) {});
  }
};

Server::Server(std::string name, Limits limits, UpstreamTls upstream_tls, Handler handler, base::IoThreads& io,
               base::BlockingPool& pool, events::Counters& counters)
    : impl_(std::make_unique<Impl>(std::move(name),
                                   Shared{limits, std::move(upstream_tls), std::move(handler), pool, counters}, io)) {}

Server::~Server() = default;

std::uint16_t Server::port() const {
  return impl_->port;
}

std::size_t Server::connections() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->connections.size();
}

Result<void> Server::listen(const BindAddress& address) {
  const auto failed = [&](std::string_view thing, const std::string& reason) {
    return fail(Errc::invalid_argument, impl_->name + ": cannot listen on " + std::string(thing) + ": " + reason);
  };
  boost::system::error_code error;
  if (!address.unix_path.empty()) {
    if (address.unix_path.size() >= sizeof(sockaddr_un::sun_path))
      return failed(address.unix_path, "the path is too long");
    struct stat info{};
    if (::lstat(address.unix_path.c_str(), &info) == 0) {
      if (!S_ISSOCK(info.st_mode)) return failed(address.unix_path, "something that is not a socket is there");
      ::unlink(address.unix_path.c_str());
    }
    auto acceptor = std::make_shared<local::acceptor>(impl_->io.next());
    acceptor->open(local(), error);
    if (!error) acceptor->bind(local::endpoint(address.unix_path), error);
    // cinder-volume runs as another user of the group; nobody else may come in.
    if (!error && ::chmod(address.unix_path.c_str(), 0660) != 0) error.assign(errno, boost::system::system_category());
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (error) return failed(address.unix_path, error.message());
    impl_->unix_path = address.unix_path;
    impl_->start<local>(std::move(acceptor));
    return {};
  }
  const std::string text = address.host + ":" + std::to_string(address.port);
  tcp::resolver resolver(impl_->io.next());
  const auto endpoints = resolver.resolve(address.host, std::to_string(address.port), tcp::resolver::passive, error);
  if (error || endpoints.empty()) return failed(text, error ? error.message() : "no such address");
  const tcp::endpoint endpoint = *endpoints.begin();
  auto acceptor = std::make_shared<tcp::acceptor>(impl_->io.next());
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed(text, error.message());
  impl_->port = acceptor->local_endpoint().port();
  impl_->start<tcp>(std::move(acceptor));
  return {};
}

base::Task<void> Server::stop(base::Deadline deadline) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    for (auto& close : impl_->close_acceptors) close();
    impl_->close_acceptors.clear();
  }
  if (!impl_->unix_path.empty()) ::unlink(impl_->unix_path.c_str());
  impl_->for_each_connection(&Connection::drain);
  if (!co_await impl_->wait_empty(deadline)) {
    base::log::warning("http", nullptr, "{}: closing {} connections that did not end in time", impl_->name,
                       connections());
    impl_->for_each_connection(&Connection::close);
    co_await impl_->wait_empty(base::never);
  }
}

}  // namespace imagecache::http
