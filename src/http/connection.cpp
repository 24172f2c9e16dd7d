#include "http/connection.hpp"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <exception>

#include "base/log.hpp"

namespace imagecache::http {

void Watchdog::arm(std::chrono::milliseconds time) {
  const std::uint64_t mine = ++generation_;
  timer_.expires_after(time);
  timer_.async_wait([self = shared_from_this(), mine](boost::system::error_code error) {
    if (error || mine != self->generation_ || !self->socket_) return;
    self->expired_ = true;
    boost::system::error_code ignored;
    self->socket_->close(ignored);
    if (self->also_close_) self->also_close_();
  });
}

void Watchdog::expire() {
  disarm();
  expired_ = true;
  boost::system::error_code ignored;
  if (socket_) socket_->close(ignored);
  if (also_close_) also_close_();
}

void Watchdog::disarm() {
  ++generation_;
  timer_.cancel();
}

void Watchdog::forget() {
  disarm();
  socket_ = nullptr;
  also_close_ = nullptr;
}

Connection::Connection(Socket socket, std::string peer, const Shared& shared)
    : socket_(std::move(socket)),
      peer_(std::move(peer)),
      shared_(shared),
      watchdog_(std::make_shared<Watchdog>(socket_)),
      buffer_(shared.limits.max_header_bytes) {}

Connection::~Connection() {
  watchdog_->forget();
}

void Connection::drain() {
  draining_ = true;
  if (idle_) close();
}

void Connection::close() {
  watchdog_->expire();
}

base::Task<bool> Connection::write(std::string_view data) {
  watchdog_->arm(shared_.limits.body_timeout);
  auto [error, written] = co_await asio::async_write(socket_, asio::buffer(data), use_tuple);
  watchdog_->disarm();
  co_return !error;
}

base::Task<void> Connection::run() {
  while (co_await serve_one()) {
  }
  // A lingering close in small: what we have said is delivered before a reset could overtake it.
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  socket_.close(ignored);
}

base::Task<bool> Connection::serve_one() {
  const Limits& limits = shared_.limits;
  if (draining_ && buffer_.size() == 0) co_return false;
  if (buffer_.size() == 0) {
    // Between requests nothing is held but this frame.
    buffer_.shrink_to_fit();
    idle_ = true;
    watchdog_->arm(limits.idle_timeout);
    auto [error] = co_await socket_.async_wait(Socket::wait_read, use_tuple);
    watchdog_->disarm();
    idle_ = false;
    if (error || draining_) co_return false;
  }
  RequestParser parser;
  parser.header_limit(limits.max_header_bytes);
  parser.body_limit(boost::none);
  watchdog_->arm(limits.header_timeout);
  auto [error, bytes] = co_await beast::http::async_read_header(socket_, buffer_, parser, use_tuple);
  watchdog_->disarm();
  if (error) {
    unsigned status = 0;
    if (error == beast::http::error::header_limit || error == beast::http::error::buffer_overflow) {
      status = 431;
    } else if (error.category() == beast::http::make_error_code(beast::http::error::bad_method).category() &&
               error != beast::http::error::end_of_stream && error != beast::http::error::partial_message) {
      status = 400;
    }
    if (status != 0) {
      Response refusal{.status = status, .headers = {{"Content-Type", "text/plain"}}, .body = {}};
      refusal.body = std::string("The request's head is not acceptable: ") + error.message() + "\n";
      HeadOptions options{.content_length = refusal.body.size(), .keep_alive = false};
      co_await write(serialize_head(refusal, options) + refusal.body);
    }
    co_return false;
  }
  // Another coding than chunked would frame the body in a way that we do not read; what stands behind it is no request.
  const auto codings = parser.get().equal_range(beast::http::field::transfer_encoding);
  const bool only_chunked = std::all_of(codings.first, codings.second, [](const auto& field) {
    return equals_ignoring_case({field.value().data(), field.value().size()}, "chunked");
  });
  if (!only_chunked) {
    const Response refusal{.status = 501,
                           .headers = {{"Content-Type", "text/plain"}},
                           .body = "Of the transfer codings only chunked is understood.\n"};
    co_await write(serialize_head(refusal, {.content_length = refusal.body.size(), .keep_alive = false}) +
                   refusal.body);
    co_return false;
  }
  shared_.counters.http_requests.fetch_add(1, std::memory_order_relaxed);

  ClientExchange exchange(*this, parser);
  bool threw = false;
  try {
    co_await shared_.handler(exchange);
  } catch (const std::exception& problem) {
    base::log::error("http", nullptr, "{} {}: a handler threw: {}", exchange.method(), exchange.path(), problem.what());
    threw = true;
  }
  if (!exchange.answered()) {
    static_cast<void>(co_await exchange.respond(
        {.status = 500, .headers = {{"Content-Type", "text/plain"}}, .body = "The request could not be answered.\n"}));
  }
  if (threw || draining_ || !exchange.may_keep_alive()) co_return false;
  // A body that nobody wanted would be taken for the next request.
  co_return exchange.body_is_read();
}

}  // namespace imagecache::http
