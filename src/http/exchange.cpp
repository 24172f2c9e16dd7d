#include <fmt/format.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/http/read.hpp>
#include <cerrno>
#include <system_error>

#include "base/try.hpp"
#include "http/connection.hpp"

namespace imagecache::http {
namespace {

// What one sendfile call may move: long enough that its cost does not show, short enough that other connections of the
// same thread get their turn.
constexpr std::size_t send_chunk_bytes = 2 << 20;

/// Is the page in memory, so that sendfile will not wait for the disk? Errors say yes: sendfile will report them.
bool in_page_cache(int fd, std::uint64_t offset) {
  char byte = 0;
  iovec part{&byte, 1};
  return ::preadv2(fd, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

Result<void> read_into_page_cache(int fd, std::uint64_t offset, std::uint64_t end) {
  std::array<std::byte, 65536> scratch{};
  while (offset < end) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(scratch.size(), end - offset));
    IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, std::span(scratch).first(want), offset, "image file"));
    if (n == 0) break;
    offset += n;
  }
  return {};
}

}  // namespace

ClientExchange::ClientExchange(Connection& connection, RequestParser& parser)
    : connection_(connection),
      parser_(parser),
      method_(parser.get().method_string()),
      target_(parser.get().target()),
      keep_alive_(parser.get().keep_alive()),
      http_1_0_(parser.get().version() < 11) {}

std::string_view ClientExchange::query() const {
  const auto mark = target_.find('?');
  return mark == std::string::npos ? std::string_view() : std::string_view(target_).substr(mark + 1);
}

std::string_view ClientExchange::header(std::string_view name) const {
  const auto found = parser_.get().find(beast::string_view(name.data(), name.size()));
  if (found == parser_.get().end()) return {};
  return {found->value().data(), found->value().size()};
}

std::vector<Header> ClientExchange::headers() const {
  std::vector<Header> all;
  for (const auto& field : parser_.get()) all.emplace_back(field.name_string(), field.value());
  return all;
}

bool ClientExchange::may_keep_alive() const {
  return keep_alive_ && !broken_ && !connection_.watchdog_->expired();
}

bool ClientExchange::expects_continue() const {
  return equals_ignoring_case(header("Expect"), "100-continue");
}

base::Task<Result<std::string_view>> ClientExchange::read_some_body(std::array<char, 65536>& buffer) {
  while (!parser_.is_done()) {
    auto& body = parser_.get().body();
    body.data = buffer.data();
    body.size = buffer.size();
    connection_.watchdog_->arm(connection_.shared_.limits.body_timeout);
    auto [error, bytes] =
        co_await beast::http::async_read_some(connection_.socket_, connection_.buffer_, parser_, use_tuple);
    connection_.watchdog_->disarm();
    if (error && error != beast::http::error::need_buffer) {
      broken_ = true;
      if (connection_.watchdog_->expired())
        co_return fail(Errc::timeout, "the client stopped sending the request's body");
      co_return fail(Errc::cancelled, "the client broke off the request's body: " + error.message());
    }
    const std::size_t got = buffer.size() - body.size;
    if (got > 0) co_return std::string_view(buffer.data(), got);
  }
  co_return std::string_view();
}

base::Task<Result<std::string>> ClientExchange::read_body() {
  const std::uint64_t limit = connection_.shared_.limits.max_body_bytes;
  const std::string too_large =
      fmt::format("the request's body is larger than {} bytes (max_request_body_size)", limit);
  if (const auto length = parser_.content_length(); length && *length > limit) {
    keep_alive_ = false;
    co_return fail(Errc::invalid_argument, too_large);
  }
  if (expects_continue() && !continued_) {
    continued_ = true;
    if (!co_await connection_.write("HTTP/1.1 100 Continue\r\n\r\n"))
      co_return fail(Errc::cancelled, "the client is gone");
  }
  std::string body;
  auto buffer = std::make_unique<std::array<char, 65536>>();
  for (;;) {
    IMAGECACHE_CO_TRY(const std::string_view part, co_await read_some_body(*buffer));
    if (part.empty()) co_return body;
    if (body.size() + part.size() > limit) {
      keep_alive_ = false;
      co_return fail(Errc::invalid_argument, too_large);
    }
    body += part;
  }
}

base::Task<Result<void>> ClientExchange::respond(Response response) {
  answered_ = true;
  if (connection_.draining_ || !parser_.is_done()) keep_alive_ = false;
  HeadOptions options{.content_length = response.body.size(), .keep_alive = keep_alive_};
  if (!has_body(response.status)) options.framing = Framing::none;
  std::string text = serialize_head(response, options);
  const bool with_body = method_ != "HEAD" && has_body(response.status);
  if (with_body) text += response.body;
  if (!co_await connection_.write(text)) {
    broken_ = true;
    co_return fail(Errc::cancelled, "the client is gone");
  }
  if (with_body) body_bytes_sent_ += response.body.size();
  co_return Result<void>();
}

base::Task<Result<void>> ClientExchange::respond_file(Response head, int fd, std::uint64_t offset_bytes,
                                                      std::optional<std::uint64_t> length_bytes, WaitAvailable wait) {
  answered_ = true;
  if (connection_.draining_) keep_alive_ = false;
  HeadOptions options{
      .framing = Framing::content_length, .content_length = length_bytes.value_or(0), .keep_alive = keep_alive_};
  if (!length_bytes) {
    options.framing = http_1_0_ ? Framing::until_close : Framing::chunked;
    if (http_1_0_) options.keep_alive = keep_alive_ = false;
  }
  if (!co_await connection_.write(serialize_head(head, options))) {
    broken_ = true;
    co_return fail(Errc::cancelled, "the client is gone");
  }
  if (method_ == "HEAD") co_return Result<void>();
  auto sent = co_await send_file(fd, offset_bytes, length_bytes, std::move(wait), options.framing == Framing::chunked);
  if (!sent) broken_ = true;
  co_return sent;
}

base::Task<Result<void>> ClientExchange::send_file(int fd, std::uint64_t offset, std::optional<std::uint64_t> length,
                                                   WaitAvailable wait, bool chunked) {
  const std::uint64_t end = length ? offset + *length : UINT64_MAX;
  std::uint64_t available = wait ? 0 : end;
  while (offset < end) {
    if (available <= offset) {
      IMAGECACHE_CO_TRY(available, co_await wait(offset, base::in(connection_.shared_.limits.upstream_timeout)));
      if (available <= offset) {
        if (!length) break;
        co_return fail(Errc::internal, fmt::format("image file ends at byte {} of {}", offset, end));
      }
    }
    const std::uint64_t until = std::min(available, end);
    if (chunked && !co_await connection_.write(fmt::format("{:x}\r\n", until - offset))) {
      co_return fail(Errc::cancelled, "the client is gone");
    }
    IMAGECACHE_CO_CHECK(co_await send_range(fd, offset, until));
    if (chunked && !co_await connection_.write("\r\n")) co_return fail(Errc::cancelled, "the client is gone");
  }
  if (chunked && !co_await connection_.write("0\r\n\r\n")) co_return fail(Errc::cancelled, "the client is gone");
  co_return Result<void>();
}

base::Task<Result<void>> ClientExchange::send_range(int fd, std::uint64_t& offset, std::uint64_t end) {
  Socket& socket = connection_.socket_;
  if (boost::system::error_code error; socket.native_non_blocking(true, error), error) {
    co_return fail(Errc::cancelled, "the client is gone");
  }
  while (offset < end) {
    const std::uint64_t chunk_end = std::min<std::uint64_t>(end, offset + send_chunk_bytes);
    if (!in_page_cache(fd, offset) || !in_page_cache(fd, chunk_end - 1)) {
      auto read = [fd, offset, chunk_end] { return read_into_page_cache(fd, offset, chunk_end); };
      IMAGECACHE_CO_CHECK(co_await base::offload(connection_.shared_.pool, read));
    }
    auto position = static_cast<off_t>(offset);
    const ssize_t sent = ::sendfile(socket.native_handle(), fd, &position, chunk_end - offset);
    if (sent > 0) {
      offset += static_cast<std::uint64_t>(sent);
      body_bytes_sent_ += static_cast<std::uint64_t>(sent);
      if (offset == chunk_end) {  // the socket takes more than we give it: let others have a turn
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
        continue;
      }
    } else if (sent == 0) {
      co_return fail(Errc::internal, fmt::format("image file ends at byte {} of {}", offset, end));
    } else if (errno == EINTR) {
      continue;
    } else if (errno != EAGAIN) {
      const int problem = errno;
      if (problem == EPIPE || problem == ECONNRESET || problem == EBADF)
        co_return fail(Errc::cancelled, "the client is gone");
      co_return fail(Errc::internal, "sendfile: " + std::generic_category().message(problem));
    }
    connection_.watchdog_->arm(connection_.shared_.limits.body_timeout);
    auto [error] = co_await socket.async_wait(Socket::wait_write, use_tuple);
    connection_.watchdog_->disarm();
    if (error) co_return fail(Errc::cancelled, "the client is gone or reads nothing");
  }
  co_return Result<void>();
}

}  // namespace imagecache::http
