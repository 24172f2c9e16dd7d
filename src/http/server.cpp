#include "http/server.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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

// While somebody waits to be let in, how often is looked who could make place.
constexpr auto look_again = std::chrono::milliseconds(100);

}  // namespace

struct Server::Impl {
  Impl(std::string server_name, Limits server_limits, UpstreamTls upstream_tls, Handler handler,
       base::IoThreads& io_threads, base::BlockingPool& pool, events::Counters& counters)
      : name(std::move(server_name)),
        limits(server_limits),
        upstreams(std::move(upstream_tls), limits),
        order(limits.full_idle_timeout, std::min(limits.full_header_timeout, limits.header_timeout)),
        shared{limits, std::move(handler), pool, counters, upstreams, waiting, order},
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
  std::atomic<unsigned> waiting = 0;  // accepted, and not let in yet: one for each listener at most
  IdleOrder order;
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
  std::size_t running = 0;   // accept loops and connections
  bool stopping = false;
  bool closing = false;  // the stop has waited long enough

  void left(std::size_t Impl::* count) {
    const std::lock_guard lock(mutex);
    if (count) --(this->*count);
    --running;
    changed.notify();
  }

  base::Task<void> accept_loop(std::shared_ptr<Listener> listener) {
    std::vector<Socket> connected;  // and not let in yet when the stop came
    while (!listener->stopped) {
      auto [error, socket] = co_await listener->acceptor.async_accept(io.next(), use_tuple);
      if (!error) {
        if (!co_await take_place(Until::stop)) {
          connected.push_back(std::move(socket));
          break;
        }
        admit(std::move(socket), *listener);
        continue;
      }
      if (listener->stopped || error == asio::error::operation_aborted || !listener->acceptor.is_open()) break;
      if (error == asio::error::connection_aborted) continue;
      // Out of descriptors, most likely: a pause lets some be given back.
      base::log::warning("http", nullptr, "{}: accept: {}", name, error.message());
      {
        const std::lock_guard lock(mutex);
        end_longest_idle();
      }
      co_await base::sleep_until(base::in(std::chrono::milliseconds(100)));
    }
    // Who has connected to a socket that goes with us is answered still; who waits at an inherited one is the next
    // process's. Nobody else can connect while some wait for a place.
    while (!listener->inherited) {
      Socket socket(io.next());
      error_code error;
      listener->acceptor.non_blocking(true, error);
      if (!error) listener->acceptor.accept(socket, error);
      if (error) break;
      connected.push_back(std::move(socket));
    }
    error_code ignored;
    listener->acceptor.close(ignored);
    if (!listener->unix_path.empty()) ::unlink(listener->unix_path.c_str());
    for (Socket& socket : connected) {
      if (!co_await take_place(Until::close)) break;
      admit(std::move(socket), *listener);
    }
    left(nullptr);
  }

  enum class Until { stop, close };
  /// A place among max_connections, counted in `admitted` and `running`. Whoever has connected waits for one, in hand
  /// or in the kernel's queue: a refusal would be an error to clients that a short wait does not hurt. While he does,
  /// connections end with their answer, and of those without a whole request one goes, see IdleOrder.
  /// False: a stop has begun, or has waited long enough.
  base::Task<bool> take_place(Until until) {
    struct Waiting {
      std::atomic<unsigned>* count = nullptr;
      ~Waiting() {
        if (count) --*count;
      }
    } wait;
    for (;;) {
      const auto seen = changed.version();
      {
        const std::lock_guard lock(mutex);
        if (closing || (until == Until::stop && stopping)) co_return false;
        if (admitted < limits.max_connections) {
          ++admitted;
          ++running;
          co_return true;
        }
        if (!wait.count) {
          wait.count = &waiting;
          ++waiting;
          shared.counters.http_connections_waited.fetch_add(1, std::memory_order_relaxed);
        }
        end_longest_idle();
      }
      co_await changed.wait_past(seen, base::in(look_again));
    }
  }

  /// With the mutex held, so that who is chosen does not leave the list of connections before he is told.
  void end_longest_idle() {
    if (const auto* place = order.choose(std::max(1U, waiting.load()))) {
      shared.counters.http_connections_displaced.fetch_add(1, std::memory_order_relaxed);
      tell(place->connection, &Connection::make_place);
    }
  }

  /// With a place taken.
  void admit(Socket socket, const Listener& listener) {
    std::string peer = peer_name(socket.native_handle());
    if (peer != "unix") {
      const int yes = 1;
      ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    auto executor = socket.get_executor();
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
        if (impl.closing) connection.close();
        impl.shared.counters.http_connections.fetch_add(1, std::memory_order_relaxed);
      }
      ~Listed() {
        const std::lock_guard lock(impl.mutex);
        connection.leave_order();  // who is chosen under this lock is on the list
        impl.connections.erase(&connection);
        impl.shared.counters.http_connections.fetch_sub(1, std::memory_order_relaxed);
      }
    } const listed(*this, connection);
    co_await connection.run();
  }

  /// Runs `what` for each connection, on its own executor.
  void for_each_connection(void (Connection::*what)()) {
    const std::lock_guard lock(mutex);
    for (Connection* connection : connections) tell(connection, what);
  }

  /// With the mutex held, of one that is on the list.
  void tell(Connection* connection, void (Connection::*what)()) {
    asio::post(connection->executor(), [this, connection, what] {
      // It may have gone since; connections leave the list on this same executor.
      const std::lock_guard inner(mutex);
      if (connections.contains(connection)) (connection->*what)();
    });
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
    impl_->changed.notify();
  }
  impl_->for_each_connection(&Connection::drain);
  if (!co_await impl_->wait_empty(deadline)) {
    base::log::warning("http", nullptr, "{}: closing {} connections that did not end in time", impl_->name,
                       connections());
    {
      const std::lock_guard lock(impl_->mutex);
      impl_->closing = true;
      impl_->changed.notify();
    }
    impl_->for_each_connection(&Connection::close);
    co_await impl_->wait_empty(base::never);
  }
  co_await impl_->upstreams.close();
}

}  // namespace imagecache::http
