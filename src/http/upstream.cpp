#include "http/upstream.hpp"

#include <algorithm>
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
  const Key where = key(url, executor);
  UpstreamPtr oldest;  // goes after the lock
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    auto& list = kept_[where];
    list.push_back({base::in(limits_.upstream_idle_timeout), std::move(connection)});
    if (list.size() > limits_.upstream_idle_connections) {
      oldest = std::move(list.front().connection);
      list.erase(list.begin());
    }
    if (!reaping_.insert(where.first).second) return;
  }
  reapers_.spawn(executor, reap(where.first));
}

base::Task<void> Upstreams::reap(const void* loop) {
  for (;;) {
    const auto seen = closing_.version();
    auto earliest = base::never;
    std::vector<Kept> late;
    {
      const std::lock_guard lock(mutex_);
      const auto now = std::chrono::steady_clock::now();
      for (auto list = kept_.begin(); list != kept_.end();) {
        if (list->first.first != loop) {
          ++list;
          continue;
        }
        auto& entries = list->second;
        const auto young = std::ranges::find_if(entries, [&](const Kept& k) { return !closed_ && k.until > now; });
        std::move(entries.begin(), young, std::back_inserter(late));
        entries.erase(entries.begin(), young);
        if (!entries.empty()) earliest = std::min(earliest, entries.front().until);
        list = entries.empty() ? kept_.erase(list) : std::next(list);
      }
      if (earliest == base::never) reaping_.erase(loop);
    }
    late.clear();
    if (earliest == base::never) co_return;
    co_await closing_.wait_past(seen, earliest);
  }
}

Result<void> Upstreams::reload_tls() {
  // What no connection has needed yet is read when one does, and is no reason to complain before.
  if (!tls_.is_loaded()) return {};
  return tls_.load();
}

base::Task<void> Upstreams::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  closing_.notify();
  co_await reapers_.join();
}

}  // namespace imagecache::http
