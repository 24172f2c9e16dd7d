// Passing a request on to the origin and its answer back, both bodies as they come.

#include <fmt/format.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/text.hpp"
#include "base/try.hpp"
#include "http/connection.hpp"

namespace imagecache::http {
namespace {

using tcp = asio::ip::tcp;
using ResponseParser = beast::http::response_parser<beast::http::buffer_body>;

Result<asio::ssl::context> make_tls_context(const UpstreamTls& tls) {
  asio::ssl::context context(asio::ssl::context::tls_client);
  boost::system::error_code error;
  if (tls.insecure) {
    context.set_verify_mode(asio::ssl::verify_none, error);
  } else {
    context.set_verify_mode(asio::ssl::verify_peer, error);
    if (tls.ca_file.empty()) {
      context.set_default_verify_paths(error);
    } else {
      context.load_verify_file(tls.ca_file, error);
    }
    if (error) return fail(Errc::unavailable, tls.ca_file + ": " + error.message());
  }
  if (!tls.cert_file.empty()) {
    context.use_certificate_chain_file(tls.cert_file, error);
    if (!error) {
      context.use_private_key_file(tls.key_file.empty() ? tls.cert_file : tls.key_file, asio::ssl::context::pem, error);
    }
    if (error) return fail(Errc::unavailable, tls.cert_file + ": " + error.message());
  }
  return context;
}

/// Does a Connection header name it, so that it is for us and nobody behind us?
bool named_by_connection(const std::vector<Header>& all, std::string_view name) {
  for (const auto& [other, value] : all) {
    if (!equals_ignoring_case(other, "connection")) continue;
    for (const auto& token : base::split(value, ',')) {
      if (equals_ignoring_case(base::trim(token), name)) return true;
    }
  }
  return false;
}

std::string chunk_head(std::size_t size) {
  return fmt::format("{:x}\r\n", size);
}

}  // namespace

std::string ClientExchange::head_for(const Url& url, const Upstream& passed) const {
  const std::vector<Header>& extra = passed.extra;
  const auto replaced = [&](std::string_view name) {
    return std::ranges::any_of(extra, [&](const Header& h) { return equals_ignoring_case(h.first, name); });
  };
  const std::string_view own_host = header("Host");
  std::string head = fmt::format(
      "{} {}{} HTTP/1.1\r\nHost: {}\r\n", method_, url.path, passed.target.empty() ? target_ : passed.target,
      passed.preserve_host && !own_host.empty() ? own_host : std::string_view(url.authority));
  const auto dropped = [&](std::string_view name) {
    return std::ranges::any_of(passed.drop, [&](const std::string& d) { return equals_ignoring_case(d, name); });
  };
  const auto all = headers();
  std::string forwarded_for;
  std::string via;
  bool has_proto = false;
  bool has_host = false;
  for (const auto& [name, value] : all) {
    if (replaced(name) || is_hop_by_hop(name) || equals_ignoring_case(name, "host") ||
        equals_ignoring_case(name, "content-length") || named_by_connection(all, name) || dropped(name)) {
      continue;
    }
    if (equals_ignoring_case(name, "x-forwarded-for")) {
      forwarded_for.append(value).append(", ");
      continue;
    }
    if (equals_ignoring_case(name, "via")) {
      via.append(value).append(", ");
      continue;
    }
    has_proto = has_proto || equals_ignoring_case(name, "x-forwarded-proto");
    has_host = has_host || equals_ignoring_case(name, "x-forwarded-host");
    head.append(name).append(": ").append(value).append("\r\n");
  }
  if (!replaced("X-Forwarded-For")) {
    forwarded_for += peer();
    head.append("X-Forwarded-For: ").append(forwarded_for).append("\r\n");
  }
  if (!has_proto && !replaced("X-Forwarded-Proto")) head += "X-Forwarded-Proto: http\r\n";
  if (!has_host && !own_host.empty() && !replaced("X-Forwarded-Host")) {
    head.append("X-Forwarded-Host: ").append(own_host).append("\r\n");
  }
  if (!replaced("Via")) head.append("Via: ").append(via).append("1.1 cinder-image-cache\r\n");
  for (const auto& [name, value] : extra) {
    if (value.find_first_of("\r\n") == std::string::npos) head.append(name).append(": ").append(value).append("\r\n");
  }
  return head;
}

template <class Stream>
base::Task<Result<unsigned>> ClientExchange::relay(Stream& upstream, const Url& url, const Upstream& passed) {
  const Limits& limits = connection_.shared_.limits;
  const auto content_length = parser_.content_length();
  const bool has_request_body = parser_.chunked() || (content_length && *content_length > 0);

  std::string head = head_for(url, passed);
  if (parser_.chunked()) {
    head += "Transfer-Encoding: chunked\r\n";
  } else if (content_length) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", *content_length);
  }
  head += "Connection: close\r\n\r\n";

  const auto unreachable = [&](std::string_view doing, const boost::system::error_code& error) {
    return fail(Errc::unavailable, fmt::format("{}: {}: {}", url.authority, doing, error.message()));
  };
  connection_.watchdog_->arm(limits.body_timeout);
  if (auto [error, n] = co_await asio::async_write(upstream, asio::buffer(head), use_tuple); error) {
    co_return unreachable("sending the request", error);
  }

  beast::flat_buffer buffer;
  const auto new_parser = [&] {
    auto parser = std::make_unique<ResponseParser>();
    parser->body_limit(boost::none);
    parser->header_limit(64 * 1024);
    if (method_ == "HEAD") parser->skip(true);
    return parser;
  };
  auto answer = new_parser();
  auto scratch = std::make_unique<std::array<char, 65536>>();

  bool send_body = has_request_body;
  if (send_body && expects_continue() && !continued_) {
    // The origin decides whether it wants the body at all.
    connection_.watchdog_->arm(limits.upstream_timeout);
    if (auto [error, n] = co_await beast::http::async_read_header(upstream, buffer, *answer, use_tuple); error) {
      co_return unreachable("waiting for 100 Continue", error);
    }
    if (answer->get().result_int() == 100) {
      continued_ = true;
      answer = new_parser();
      if (!co_await connection_.write("HTTP/1.1 100 Continue\r\n\r\n"))
        co_return fail(Errc::cancelled, "the client is gone");
    } else {
      send_body = false;
    }
  }
  while (send_body) {
    IMAGECACHE_CO_TRY(const std::string_view part, co_await read_some_body(*scratch));
    connection_.watchdog_->arm(limits.body_timeout);
    const bool chunked = parser_.chunked();
    if (part.empty() && !chunked) break;
    const std::string before = chunked ? (part.empty() ? "0\r\n" : chunk_head(part.size())) : "";
    const std::string_view after = chunked ? "\r\n" : "";
    const std::array<asio::const_buffer, 3> pieces = {asio::buffer(before), asio::buffer(part), asio::buffer(after)};
    auto [error, n] = co_await asio::async_write(upstream, pieces, use_tuple);
    if (error || part.empty()) break;  // an origin that closes early has answered early: read what it says
  }
  if (!answer->is_header_done()) {
    for (;;) {
      connection_.watchdog_->arm(limits.upstream_timeout);
      if (auto [error, n] = co_await beast::http::async_read_header(upstream, buffer, *answer, use_tuple); error) {
        co_return unreachable("waiting for the answer", error);
      }
      // 100, 102 and 103 announce the answer, they are none.
      if (answer->get().result_int() / 100 != 1 || answer->get().result_int() == 101) break;
      answer = new_parser();
    }
  }
  connection_.watchdog_->disarm();

  const unsigned status = answer->get().result_int();
  Response response{.status = status, .headers = {}, .body = {}};
  for (const auto& field : answer->get()) {
    response.headers.emplace_back(field.name_string(), field.value());
  }
  if (passed.on_answer && !co_await passed.on_answer(response)) co_return status;
  if (connection_.draining_ || !parser_.is_done()) keep_alive_ = false;
  HeadOptions options{.keep_alive = keep_alive_};
  const auto answer_length = answer->content_length();
  if (!has_body(status)) {
    options.framing = Framing::none;
  } else if (method_ == "HEAD") {
    options.framing = answer_length ? Framing::content_length : Framing::none;
    options.content_length = answer_length.value_or(0);
  } else if (answer_length) {
    options.content_length = *answer_length;
  } else {
    options.framing = http_1_0_ ? Framing::until_close : Framing::chunked;
    if (http_1_0_) options.keep_alive = keep_alive_ = false;
  }
  answered_ = true;
  if (!co_await connection_.write(serialize_head(response, options))) {
    broken_ = true;
    co_return fail(Errc::cancelled, "the client is gone");
  }
  const bool chunked = options.framing == Framing::chunked;
  while (has_body(status) && method_ != "HEAD" && !answer->is_done()) {
    auto& body = answer->get().body();
    body.data = scratch->data();
    body.size = scratch->size();
    connection_.watchdog_->arm(limits.upstream_timeout);
    auto [error, n] = co_await beast::http::async_read_some(upstream, buffer, *answer, use_tuple);
    if (error && error != beast::http::error::need_buffer) {
      broken_ = true;
      co_return unreachable("its answer broke off", error);
    }
    const std::size_t got = scratch->size() - body.size;
    if (got == 0) continue;
    bool ok = !chunked || co_await connection_.write(chunk_head(got));
    ok = ok && co_await connection_.write(std::string_view(scratch->data(), got));
    if (ok) body_bytes_sent_ += got;
    ok = ok && (!chunked || co_await connection_.write("\r\n"));
    if (!ok) {
      broken_ = true;
      co_return fail(Errc::cancelled, "the client is gone");
    }
  }
  connection_.watchdog_->disarm();
  if (chunked && method_ != "HEAD" && !co_await connection_.write("0\r\n\r\n")) broken_ = true;
  co_return status;
}

template <class Stream>
base::Task<Result<Response>> ClientExchange::ask(Stream& upstream, const Url& url, const Upstream& passed,
                                                 std::uint64_t max_body_bytes) {
  const Limits& limits = connection_.shared_.limits;
  const auto unreachable = [&](std::string_view doing, const boost::system::error_code& error) {
    return fail(Errc::unavailable, fmt::format("{}: {}: {}", url.authority, doing, error.message()));
  };
  const std::string head = head_for(url, passed) + "Connection: close\r\n\r\n";
  connection_.watchdog_->arm(limits.body_timeout);
  if (auto [error, n] = co_await asio::async_write(upstream, asio::buffer(head), use_tuple); error) {
    co_return unreachable("sending the request", error);
  }
  beast::flat_buffer buffer;
  beast::http::response_parser<beast::http::string_body> answer;
  answer.body_limit(max_body_bytes);
  answer.header_limit(64 * 1024);
  if (method_ == "HEAD") answer.skip(true);
  connection_.watchdog_->arm(limits.upstream_timeout);
  if (auto [error, n] = co_await beast::http::async_read(upstream, buffer, answer, use_tuple); error) {
    co_return unreachable("waiting for the answer", error);
  }
  connection_.watchdog_->disarm();
  Response response{.status = answer.get().result_int(), .headers = {}, .body = {}};
  for (const auto& field : answer.get()) {
    if (is_hop_by_hop(field.name_string()) || equals_ignoring_case(field.name_string(), "content-length")) continue;
    response.headers.emplace_back(field.name_string(), field.value());
  }
  response.body = std::move(answer.get().body());
  co_return response;
}

template <class Answer, class Use>
base::Task<Result<Answer>> ClientExchange::with_upstream(const Upstream& upstream, Use use) {
  IMAGECACHE_CO_TRY(const Url url, parse_url(upstream.url));
  auto executor = co_await asio::this_coro::executor;
  Watchdog& watchdog = *connection_.watchdog_;

  tcp::resolver resolver(executor);
  tcp::socket socket(executor);
  // Whatever way this ends, the watchdog must not keep what lives in this frame.
  struct Release {
    Watchdog& dog;
    ~Release() {
      dog.also_close(nullptr);
      dog.disarm();
    }
  } const release{watchdog};
  watchdog.also_close([&resolver, &socket] {
    resolver.cancel();
    boost::system::error_code ignored;
    socket.close(ignored);
  });
  watchdog.arm(connection_.shared_.limits.header_timeout);
  auto [resolve_error, endpoints] = co_await resolver.async_resolve(url.host, url.port, use_tuple);
  if (resolve_error) co_return fail(Errc::unavailable, url.authority + ": " + resolve_error.message());
  auto [connect_error, endpoint] = co_await asio::async_connect(socket, endpoints, use_tuple);
  if (connect_error) co_return fail(Errc::unavailable, url.authority + ": " + connect_error.message());
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  if (!url.tls) co_return co_await use(socket, url);

  IMAGECACHE_CO_TRY(asio::ssl::context context, make_tls_context(connection_.shared_.upstream_tls));
  asio::ssl::stream<tcp::socket&> tls(socket, context);
  if (!connection_.shared_.upstream_tls.insecure)
    tls.set_verify_callback(asio::ssl::host_name_verification(url.host), ignored);
  if (SSL_set_tlsext_host_name(tls.native_handle(), url.host.c_str()) != 1) {
    co_return fail(Errc::unavailable, url.authority + ": not a host name for TLS");
  }
  if (auto [error] = co_await tls.async_handshake(asio::ssl::stream_base::client, use_tuple); error) {
    co_return fail(Errc::unavailable, url.authority + ": TLS: " + error.message());
  }
  co_return co_await use(tls, url);
}

base::Task<Result<unsigned>> ClientExchange::pass_through(Upstream upstream) {
  const auto use = [&](auto& stream, const Url& url) { return relay(stream, url, upstream); };
  co_return co_await with_upstream<unsigned>(upstream, use);
}

base::Task<Result<Response>> ClientExchange::ask_upstream(Upstream upstream, std::uint64_t max_body_bytes) {
  if (method_ != "GET" && method_ != "HEAD" && method_ != "DELETE") {
    co_return fail(Errc::invalid_argument, method_ + " has a body that asking by the head alone would leave out");
  }
  const auto use = [&](auto& stream, const Url& url) { return ask(stream, url, upstream, max_body_bytes); };
  co_return co_await with_upstream<Response>(upstream, use);
}

}  // namespace imagecache::http
