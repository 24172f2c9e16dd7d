#include "http/upstream.hpp"

#include <netinet/in.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/query.hpp>

#include "base/try.hpp"

namespace imagecache::http {
namespace {

using tcp = asio::ip::tcp;

/// Whom the certificate must be for: a name, or an address as such.
bool expect_host(SSL* ssl, const std::string& host) {
  error_code error;
  asio::ip::make_address(host, error);
  if (!error) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  return SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

base::Task<std::expected<std::vector<tcp::endpoint>, error_code>> resolve(const Url& url) {
  std::vector<tcp::endpoint> found;
  error_code error;
  const auto address = asio::ip::make_address(url.host, error);
  if (!error) {
    found.emplace_back(address, static_cast<std::uint16_t>(std::stoul(url.port)));
    co_return found;
  }
  tcp::resolver resolver(co_await asio::this_coro::executor);
  auto [failed, endpoints] = co_await resolver.async_resolve(url.host, url.port, use_tuple);
  if (failed) co_return std::unexpected(failed);
  for (const auto& entry : endpoints) found.push_back(entry.endpoint());
  co_return found;
}

}  // namespace

Upstreams::Upstreams(UpstreamTls tls, const Limits& limits)
    : limits_(limits), tls_(std::move(tls), make_client_context) {}

Upstreams::Key Upstreams::key(const Url& url, const base::Executor& executor) {
  return {&asio::query(executor, asio::execution::context), (url.tls ? "s:" : "p:") + url.host + " " + url.port};
}

UpstreamPtr Upstreams::take(const Url& url, const base::Executor& executor) {
  for (;;) {
    UpstreamPtr found;
    {
      const std::lock_guard lock(mutex_);
      const auto list = kept_.find(key(url, executor));
      if (list == kept_.end() || list->second.empty()) return {};
      if (list->second.back().until > std::chrono::steady_clock::now()) {
        found = std::move(list->second.back().connection);
        list->second.pop_back();
      } else {
        list->second.clear();  // the last is the youngest
        return {};
      }
    }
    if (!found->transport.is_quiet()) continue;  // closed meanwhile
    found->reused = true;
    found->transport.begin_message();
    return found;
  }
}

UpstreamPtr Upstreams::make(const base::Executor& executor) {
  return std::make_unique<UpstreamConnection>(Socket(executor));
}

base::Task<Result<void>> Upstreams::connect(UpstreamConnection& connection, const Url& url) {
  const auto deadline = base::in(limits_.header_timeout);
  const auto endpoints = co_await resolve(url);
  if (!endpoints) co_return fail(Errc::unavailable, url.authority + ": " + endpoints.error().message());
  std::string problem = "it has no address";
  bool connected = false;
  for (const tcp::endpoint& endpoint : *endpoints) {
    const auto error = co_await connection.transport.connect(endpoint, deadline);
    if (!error) {
      connected = true;
      break;
    }
    problem = error.message();
    if (connection.transport.aborted()) break;
  }
  if (!connected) co_return fail(Errc::unavailable, url.authority + ": " + problem);
  if (!url.tls) co_return Result<void>();
  IMAGECACHE_CO_TRY(SslPtr ssl, tls_.connection());
  SSL_set_connect_state(ssl.get());
  if (!expect_host(ssl.get(), url.host)) {
    co_return fail(Errc::unavailable, url.authority + ": not a host name for TLS");
  }
  connection.transport.use_tls(std::move(ssl));
  if (auto shaken = co_await connection.transport.handshake(deadline); !shaken) {
    co_return fail(Errc::unavailable, url.authority + ": " + shaken.error().message);
  }
  co_return Result<void>();
}

void Upstreams::keep(const Url& url, UpstreamPtr connection) {
  if (connection->buffer.size() > 0 || limits_.upstream_idle_connections == 0) return;
  connection->buffer.shrink_to_fit();
  const base::Executor executor = connection->transport.socket().get_executor();
  const auto now = std::chrono::steady_clock::now();
  const void* loop = &asio::query(executor, asio::execution::context);
  std::vector<Kept> old;  // goes after the lock, and only what is of this executor
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  auto& list = kept_[key(url, executor)];
  list.push_back({executor, now + limits_.upstream_idle_timeout, std::move(connection)});
  for (auto& [where, entries] : kept_) {
    if (where.first != loop) continue;
    const std::size_t most = limits_.upstream_idle_connections;
    auto keep_from = entries.begin();
    while (keep_from != entries.end() &&
           (keep_from->until <= now || static_cast<std::size_t>(entries.end() - keep_from) > most)) {
      ++keep_from;
    }
    std::move(entries.begin(), keep_from, std::back_inserter(old));
    entries.erase(entries.begin(), keep_from);
  }
}

Result<void> Upstreams::reload_tls() {
  return tls_.load();
}

/// Sockets and timers are their executor's alone.
base::Task<void> Upstreams::drop(std::vector<Kept> entries) {
  entries.clear();
  co_return;
}

base::Task<void> Upstreams::close() {
  std::map<Key, std::vector<Kept>> all;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    all.swap(kept_);
  }
  for (auto& [where, entries] : all) {
    if (entries.empty()) continue;
    const base::Executor theirs = entries.front().executor;
    co_await asio::co_spawn(theirs, drop(std::move(entries)), asio::use_awaitable);
  }
}

}  // namespace imagecache::http
