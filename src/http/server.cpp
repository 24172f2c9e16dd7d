#include "http/server.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <exception>
#include <unordered_set>

#include "base/log.hpp"
#include "base/try.hpp"
#include "http/connection.hpp"
#include "http/listener.hpp"

namespace imagecache::http {
namespace {

using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

// Refused connections that are seen off at once; more are just closed, so that a flood costs no descriptors.
constexpr std::size_t max_refusing = 64;
constexpr auto refusing_time = std::chrono::seconds(1);

}  // namespace

struct Server::Impl {
  Impl(std::string server_name, Limits server_limits, UpstreamTls upstream_tls, Handler handler,
       base::IoThreads& io_threads, base::BlockingPool& pool, events::Counters& counters)
      : name(std::move(server_name)),
        limits(server_limits),
        upstreams(std::move(upstream_tls), limits),
        shared{limits, std::move(handler), pool, counters, upstreams},
        io(io_threads) {}

  struct Listener {
    Acceptor acceptor;
    std::string unix_path;
    std::shared_ptr<ServerTlsContext> tls;
    bool inherited = false;
    bool stopped = false;  // on the acceptor's executor
  };

  const std::string name;
  const Limits limits;
  Upstreams upstreams;
  const Shared shared;
  base::IoThreads& io;
  std::uint16_t port = 0;

  mutable std::mutex mutex;
  base::Signal changed;
  // Protected by mutex.
  std::unordered_set<Connection*> connections;
  std::vector<std::shared_ptr<Listener>> listeners;
  std::vector<std::shared_ptr<ServerTlsContext>> tls_contexts;
  std::size_t admitted = 0;  // connections, also those whose Task has not begun
  std::size_t refusing = 0;
  std::size_t running = 0;  // accept loops and connections
  bool stopping = false;

  void left(std::size_t Impl::* count) {
    const std::lock_guard lock(mutex);
    if (count) --(this->*count);
    --running;
    changed.notify();
  }

  base::Task<void> accept_loop(std::shared_ptr<Listener> listener) {
    while (!listener->stopped) {
      auto [error, socket] = co_await listener->acceptor.async_accept(io.next(), use_tuple);
      if (!error) {
        admit(std::move(socket), *listener);
        continue;
      }
      if (listener->stopped || error == asio::error::operation_aborted || !listener->acceptor.is_open()) break;
      if (error == asio::error::connection_aborted) continue;
      // Out of descriptors, most likely: a pause lets some be given back.
      base::log::warning("http", nullptr, "{}: accept: {}", name, error.message());
      co_await base::sleep_until(base::in(std::chrono::milliseconds(100)));
    }
    // Who has connected to a socket that goes with us is answered still; who waits at an inherited one is the next
    // process's.
    while (!listener->inherited) {
      Socket socket(io.next());
      error_code error;
      listener->acceptor.non_blocking(true, error);
      if (!error) listener->acceptor.accept(socket, error);
      if (error) break;
      admit(std::move(socket), *listener);
    }
    error_code ignored;
    listener->acceptor.close(ignored);
    if (!listener->unix_path.empty()) ::unlink(listener->unix_path.c_str());
    left(nullptr);
  }

  void admit(Socket socket, const Listener& listener) {
    std::string peer = peer_name(socket.native_handle());
    if (peer != "unix") {
      const int yes = 1;
      ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    bool full = false;
    bool see_off = false;
    {
      const std::lock_guard lock(mutex);
      full = admitted >= limits.max_connections;
      see_off = full && !listener.tls && refusing < max_refusing;
      if (!full) ++admitted;
      if (see_off) ++refusing;
      if (!full || see_off) ++running;
    }
    auto executor = socket.get_executor();
    if (full) {
      shared.counters.http_connections_refused.fetch_add(1, std::memory_order_relaxed);
      if (see_off) {
        asio::co_spawn(executor, refuse(std::move(socket)),
                       [this](const std::exception_ptr&) { left(&Impl::refusing); });
      }
      return;
    }
    shared.counters.http_connections_accepted.fetch_add(1, std::memory_order_relaxed);
    SslPtr ssl;
    if (listener.tls) {
      auto made = listener.tls->connection();
      if (!made) {
        base::log::error("http", nullptr, "{}: {}", name, made.error().message);
        left(&Impl::admitted);
        return;
      }
      ssl = std::move(*made);
      SSL_set_accept_state(ssl.get());
    }
    asio::co_spawn(executor, serve(std::move(socket), std::move(ssl), std::move(peer)),
                   [this](const std::exception_ptr& problem) {
                     if (problem) base::log::error("http", nullptr, "{}: a connection ended with an exception", name);
                     left(&Impl::admitted);
                   });
  }

  base::Task<void> refuse(Socket socket) {
    Transport transport(std::move(socket));
    static constexpr std::string_view refusal =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const Transport::Patience patience{.limit = refusing_time, .min_bytes = 1};
    if (co_await transport.write(refusal, patience)) co_return;
    transport.shutdown_send();
    co_await transport.linger(limits.max_header_bytes, refusing_time, base::in(refusing_time));
  }

  base::Task<void> serve(Socket socket, SslPtr ssl, std::string peer) {
    Connection connection(std::move(socket), std::move(ssl), std::move(peer), shared);
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
};

Server::Server(std::string name, Limits limits, UpstreamTls upstream_tls, Handler handler, base::IoThreads& io,
               base::BlockingPool& pool, events::Counters& counters)
    : impl_(std::make_unique<Impl>(std::move(name), limits, std::move(upstream_tls), std::move(handler), io, pool,
                                   counters)) {}

Server::~Server() = default;

std::uint16_t Server::port() const {
  return impl_->port;
}

std::size_t Server::connections() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->connections.size();
}

Result<void> Server::listen(const BindAddress& address, std::optional<ServerTls> tls) {
  const auto failed = [&](const std::string& reason) {
    return fail(Errc::invalid_argument, impl_->name + ": cannot listen on " + reason);
  };
  std::shared_ptr<ServerTlsContext> context;
  if (tls) {
    context = std::make_shared<ServerTlsContext>(std::move(*tls), make_server_context);
    if (auto loaded = context->load(); !loaded) {
      return fail(Errc::invalid_argument, impl_->name + ": " + loaded.error().message);
    }
  }
  auto opened = open_listeners(address);
  if (!opened) return failed(opened.error().message);
  for (Listening& listening : *opened) {
    auto listener =
        std::make_shared<Impl::Listener>(Acceptor(impl_->io.next()), listening.unix_path, context, listening.inherited);
    error_code error;
    const int protocol = listening.family == AF_UNIX ? 0 : static_cast<int>(IPPROTO_TCP);
    listener->acceptor.assign(asio::generic::stream_protocol(listening.family, protocol), listening.fd.get(), error);
    if (error) return failed(error.message());
    listening.fd.release();
    if (impl_->port == 0) impl_->port = listening.port;
    {
      const std::lock_guard lock(impl_->mutex);
      ++impl_->running;
      impl_->listeners.push_back(listener);
    }
    asio::co_spawn(listener->acceptor.get_executor(), impl_->accept_loop(listener), [](const std::exception_ptr&) {});
  }
  if (context) {
    const std::lock_guard lock(impl_->mutex);
    impl_->tls_contexts.push_back(std::move(context));
  }
  return {};
}

Result<void> Server::reload_tls() {
  std::vector<std::shared_ptr<ServerTlsContext>> contexts;
  {
    const std::lock_guard lock(impl_->mutex);
    contexts = impl_->tls_contexts;
  }
  Result<void> result;
  for (const auto& context : contexts) {
    if (auto loaded = context->load(); !loaded && result) result = std::move(loaded);
  }
  if (auto loaded = impl_->upstreams.reload_tls(); !loaded && result) result = std::move(loaded);
  if (!result) return fail(result.error().code, impl_->name + ": " + result.error().message);
  return result;
}

base::Task<void> Server::stop(base::Deadline deadline) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    for (auto& listener : impl_->listeners) {
      asio::post(listener->acceptor.get_executor(), [listener] {
        listener->stopped = true;
        error_code ignored;
        listener->acceptor.cancel(ignored);
      });
    }
    impl_->listeners.clear();
  }
  impl_->for_each_connection(&Connection::drain);
  if (!co_await impl_->wait_empty(deadline)) {
    base::log::warning("http", nullptr, "{}: closing {} connections that did not end in time", impl_->name,
                       connections());
    impl_->for_each_connection(&Connection::close);
    co_await impl_->wait_empty(base::never);
  }
  co_await impl_->upstreams.close();
}

}  // namespace imagecache::http
