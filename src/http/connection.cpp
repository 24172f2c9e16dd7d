#include "http/connection.hpp"

#include <algorithm>
#include <exception>
#include <optional>

#include "base/log.hpp"
#include "http/exchange.hpp"
#include "http/head.hpp"

namespace imagecache::http {
namespace {

using beast::http::field;

// A request's head comes in one piece of this, mostly.
constexpr std::size_t head_read_bytes = 4096;
// Empty lines before a request line, which RFC 9112 wants forgiven.
constexpr std::size_t max_empty_bytes = 16;

Response text_response(unsigned status, std::string text) {
  return {.status = status, .headers = {{"Content-Type", "text/plain; charset=UTF-8"}}, .body = std::move(text) + "\n"};
}

/// What makes a parsed head one that we do not answer: above all whatever leaves room for two opinions about where the
/// request ends or whom it is for.
std::optional<Response> objection(const RequestParser& parser) {
  const auto& head = parser.get();
  const auto codings = head.equal_range(field::transfer_encoding);
  const auto coding_count = std::distance(codings.first, codings.second);
  if (coding_count > 0) {
    if (head.version() < 11) return text_response(400, "HTTP/1.0 has no transfer codings.");
    if (coding_count > 1) return text_response(400, "The transfer coding is said more than once.");
    const auto coding = codings.first->value();
    if (!equals_ignoring_case({coding.data(), coding.size()}, "chunked")) {
      return text_response(501, "Of the transfer codings only chunked is understood.");
    }
  }
  if (head.count(field::content_length) > 1) return text_response(400, "Content-Length is said more than once.");
  for (const auto& each : head) {
    const auto name = each.name_string();
    if (is_disguised({name.data(), name.size()})) {
      return text_response(400, "A header of the request is spelled with '_' in place of '-'.");
    }
  }
  const auto hosts = head.count(field::host);
  if (hosts > 1 || (hosts == 0 && head.version() >= 11)) return text_response(400, "One Host is needed.");
  if (hosts == 1 && head[field::host].find_first_of(" \t/\\@?#<>\",") != beast::string_view::npos) {
    return text_response(400, "The Host is none.");
  }
  if (head.method() == beast::http::verb::connect || head.method() == beast::http::verb::trace) {
    Response refusal = text_response(405, "This method is not for this server.");
    refusal.headers.emplace_back("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    return refusal;
  }
  const auto target = head.target();
  if (target == "*" && head.method() == beast::http::verb::options) return std::nullopt;
  if (!target.starts_with('/') && split_absolute(std::string_view(target.data(), target.size())).path.empty()) {
    return text_response(400, "The request's target is no path.");
  }
  if (climbs({target.data(), target.size()})) {
    return text_response(400, "The request's target has a '..' or a backslash in its path.");
  }
  return std::nullopt;
}

}  // namespace

Connection::Connection(Socket socket, SslPtr ssl, std::string peer, const Shared& shared)
    : shared_(shared),
      peer_(std::move(peer)),
      transport_(std::move(socket), std::move(ssl)),
      buffer_(shared.limits.max_header_bytes + (64 << 10)) {}

void Connection::drain() {
  draining_ = true;
  if (idle_) transport_.hurry(Direction::read, base::in(shared_.limits.stop_grace));
}

void Connection::make_place() {
  // Its request may have come since it was chosen, or it may be another at the same address.
  if (!shared_.order.is_going(place_)) return;
  makes_place_ = true;
  transport_.hurry(Direction::read, std::chrono::steady_clock::now());
}

void Connection::close() {
  transport_.abort();
  if (upstream_) upstream_->abort();
}

base::Task<void> Connection::run() {
  if (transport_.is_tls() && !co_await shake_hands()) co_return;
  while (co_await wait_for_request() && co_await serve_one()) {
  }
  co_await finish();
}

base::Task<bool> Connection::shake_hands() {
  const auto deadline = base::in(shared_.limits.header_timeout);
  if (!co_await wait_for_byte(deadline)) co_return false;  // the client speaks first
  shared_.order.enter(place_, IdleOrder::For::rest_of_head);
  const auto shaken = co_await transport_.handshake(deadline);
  if (!shaken) {
    shared_.order.go(place_);
    base::log::debug("http", nullptr, "{}: {}", peer_, shaken.error().message);
    co_return false;
  }
  shared_.order.leave(place_);
  co_return true;
}

base::Task<bool> Connection::wait_for_byte(base::Deadline deadline) {
  idle_ = true;
  shared_.order.enter(place_, IdleOrder::For::request);
  const bool ready =
      co_await transport_.wait_readable(draining_ ? std::min(deadline, base::in(shared_.limits.stop_grace)) : deadline);
  idle_ = false;
  if (ready) {
    shared_.order.leave(place_);
    makes_place_ = false;
  } else {
    shared_.order.go(place_);
  }
  co_return ready;
}

base::Task<bool> Connection::wait_for_request() {
  if (buffer_.size() > 0) co_return true;
  const Limits& limits = shared_.limits;
  const auto deadline = base::in(draining_ ? limits.stop_grace : limits.idle_timeout);
  bool look_first = transport_.has_pending();
  for (;;) {
    if (!look_first) {
      // Between requests nothing is held but this frame.
      buffer_.shrink_to_fit();
      if (!co_await wait_for_byte(deadline)) co_return false;
    }
    look_first = false;
    const auto space = buffer_.prepare(head_read_bytes);
    const auto got = transport_.try_read({static_cast<char*>(space.data()), space.size()});
    if (got) {
      buffer_.commit(*got);
      co_return *got > 0;
    }
    // TLS has messages of its own, which are no request.
    if (got.error() != asio::error::would_block) co_return false;
  }
}

base::Task<bool> Connection::refuse(Response refusal) {
  shared_.order.leave(place_);
  const std::string head = serialize_head(refusal, {.content_length = refusal.body.size(), .keep_alive = false});
  static_cast<void>(co_await transport_.write(head + refusal.body, patience()));
  unread_ = true;
  co_return false;
}

base::Task<bool> Connection::read_head(RequestParser& parser) {
  const Limits& limits = shared_.limits;
  const auto deadline = base::in(limits.header_timeout);
  HeadScan scan;
  std::size_t skipped = 0;
  bool in_pieces = false;
  for (;;) {
    while (skipped < max_empty_bytes && received().starts_with("\r\n")) {
      buffer_.consume(2);
      skipped += 2;
    }
    const auto verdict = scan.look(received());
    if (verdict == HeadScan::Verdict::bad) {
      co_return co_await refuse(text_response(400, "The request's head is not acceptable."));
    }
    const bool complete = verdict == HeadScan::Verdict::complete;
    if (complete ? scan.size_bytes() > limits.max_header_bytes : buffer_.size() >= limits.max_header_bytes) {
      const bool long_target = received().substr(0, limits.max_header_bytes).find('\n') == std::string_view::npos;
      co_return co_await refuse(text_response(long_target ? 414 : 431, "The request's head is larger than " +
                                                                           std::to_string(limits.max_header_bytes) +
                                                                           " bytes (max_header_bytes)."));
    }
    if (complete) break;
    if (!in_pieces) shared_.order.enter(place_, IdleOrder::For::rest_of_head);
    in_pieces = true;
    const auto got = co_await read_more(transport_, buffer_, head_read_bytes, deadline);
    // A piece that came after it was told to go changes nothing: else it would hold its place for header_timeout.
    if (!got || *got == 0 || shared_.order.is_going(place_)) {
      shared_.order.go(place_);
      co_return false;
    }
  }
  if (in_pieces) shared_.order.leave(place_);
  parser.header_limit(static_cast<std::uint32_t>(scan.size_bytes() + 1));
  parser.body_limit(boost::none);
  error_code error;
  buffer_.consume(parser.put(asio::buffer(buffer_.data(), scan.size_bytes()), error));
  if (error || !parser.is_header_done()) {
    const unsigned status = error == beast::http::error::bad_version ? 505 : 400;
    co_return co_await refuse(text_response(
        status, "The request's head is not acceptable: " + (error ? error.message() : std::string("it is cut short"))));
  }
  if (auto refusal = objection(parser)) co_return co_await refuse(std::move(*refusal));
  co_return true;
}

base::Task<bool> Connection::serve_one() {
  transport_.begin_message();
  RequestParser parser;
  if (!co_await read_head(parser)) co_return false;
  shared_.counters.http_requests.fetch_add(1, std::memory_order_relaxed);

  ClientExchange exchange(*this, parser);
  bool threw = false;
  if (exchange.target() == "*") {
    static_cast<void>(co_await exchange.respond(
        {.headers = {{"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}}, .body = {}}));
  } else {
    try {
      co_await shared_.handler(exchange);
    } catch (const std::exception& problem) {
      // The end of a long path may be a secret: an import's is.
      base::log::error("http", nullptr, "{} {}: a handler threw: {}", exchange.method(), exchange.path().substr(0, 60),
                       problem.what());
      threw = true;
    }
  }
  if (!exchange.answered()) {
    static_cast<void>(co_await exchange.respond(text_response(500, "The request could not be answered.")));
  }
  // A body that nobody wanted would be taken for the next request.
  unread_ = !exchange.body_is_read();
  reset_ = exchange.needs_reset();
  co_return !threw && !unread_ && exchange.may_keep_alive();
}

base::Task<void> Connection::finish() {
  if (reset_) {
    transport_.reset_on_close();
    co_return;
  }
  if (transport_.aborted()) co_return;
  transport_.shutdown_send();
  if (makes_place_) co_return;  // it has been silent since its last answer, if it had one
  // Closing a socket that holds something unread resets it, and the reset may overtake our answer.
  if (unread_ || buffer_.size() > 0 || transport_.has_unread()) {
    const Limits& limits = shared_.limits;
    shared_.order.leave(place_);
    idle_ = true;
    co_await transport_.linger(limits.linger_bytes, draining_ ? limits.stop_grace : limits.linger_silence,
                               base::in(limits.linger_time));
  }
}

}  // namespace imagecache::http
