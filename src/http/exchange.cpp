#include "http/exchange.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/try.hpp"

namespace imagecache::http {
namespace {

std::unexpected<Error> client_gone(const error_code& error) {
  return fail(errc_of(error), errc_of(error) == Errc::timeout ? "the client reads nothing or too slowly"
                                                              : "the client is gone: " + error.message());
}

}  // namespace

ClientExchange::ClientExchange(Connection& connection, RequestParser& parser)
    : connection_(connection),
      parser_(parser),
      method_(parser.get().method_string()),
      target_(parser.get().target()),
      keep_alive_(parser.get().keep_alive()),
      http_1_0_(parser.get().version() < 11) {
  if (!target_.starts_with('/') && target_ != "*") {
    AbsoluteTarget split = split_absolute(target_);
    host_ = std::move(split.authority);
    target_ = std::move(split.path);
  }
}

std::string_view ClientExchange::query() const {
  const auto mark = target_.find('?');
  return mark == std::string::npos ? std::string_view() : std::string_view(target_).substr(mark + 1);
}

std::string_view ClientExchange::header(std::string_view name) const {
  if (!host_.empty() && equals_ignoring_case(name, "host")) return host_;
  const auto found = parser_.get().find(beast::string_view(name.data(), name.size()));
  if (found == parser_.get().end()) return {};
  return {found->value().data(), found->value().size()};
}

std::vector<Header> ClientExchange::headers() const {
  std::vector<Header> all;
  for (const auto& field : parser_.get()) {
    const bool is_host = !host_.empty() && field.name() == beast::http::field::host;
    all.emplace_back(field.name_string(), is_host ? host_ : std::string(field.value()));
  }
  return all;
}

bool ClientExchange::expects_continue() const {
  return !http_1_0_ && equals_ignoring_case(header("Expect"), "100-continue");
}

bool ClientExchange::has_request_body() const {
  const auto length = parser_.content_length();
  return parser_.chunked() || (length && *length > 0);
}

base::Task<Result<void>> ClientExchange::send(std::string_view data, std::size_t body_bytes) {
  const auto error = co_await connection_.transport_.write(data, connection_.patience());
  if (!error) {
    body_bytes_sent_ += body_bytes;
    co_return Result<void>();
  }
  broken_ = true;
  co_return client_gone(error);
}

base::Task<Result<std::string_view>> ClientExchange::read_some_body(Scratch& buffer, Transport::Patience patience) {
  body_begun_ = true;
  const auto got = co_await http::read_body(connection_.transport_, connection_.buffer_, parser_, buffer, patience);
  if (got) co_return std::string_view(buffer.data(), *got);
  keep_alive_ = false;
  if (errc_of(got.error()) == Errc::timeout) {
    co_return fail(Errc::timeout, "the client stopped sending the request's body, or sends it too slowly");
  }
  co_return fail(Errc::cancelled, "the client broke off the request's body: " + got.error().message());
}

base::Task<Result<std::string>> ClientExchange::read_body() {
  const std::uint64_t limit = connection_.shared_.limits.max_body_bytes;
  const std::string too_large =
      fmt::format("the request's body is larger than {} bytes (max_request_body_size)", limit);
  if (const auto length = parser_.content_length(); length && *length > limit) {
    keep_alive_ = false;
    co_return fail(Errc::invalid_argument, too_large);
  }
  std::string body;
  if (parser_.is_done()) co_return body;
  if (expects_continue() && !continued_) {
    continued_ = true;
    IMAGECACHE_CO_CHECK(co_await send("HTTP/1.1 100 Continue\r\n\r\n"));
  }
  auto buffer = std::make_unique<Scratch>();
  for (;;) {
    IMAGECACHE_CO_TRY(const std::string_view part, co_await read_some_body(*buffer, connection_.patience()));
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
  if (connection_.is_last_answer() || !parser_.is_done()) keep_alive_ = false;
  HeadOptions options{.content_length = response.body.size(), .keep_alive = keep_alive_};
  if (!has_body(response.status)) options.framing = Framing::none;
  std::string text = serialize_head(response, options);
  const bool with_body = method_ != "HEAD" && has_body(response.status);
  if (with_body) text += response.body;
  co_return co_await send(text, with_body ? response.body.size() : 0);
}

void ClientExchange::drop() {
  answered_ = true;
  broken_ = true;
  until_close_ = true;
}

base::Task<Result<void>> ClientExchange::respond_file(Response head, int fd, std::uint64_t offset_bytes,
                                                      std::optional<std::uint64_t> length_bytes, WaitAvailable wait) {
  answered_ = true;
  if (connection_.is_last_answer() || !parser_.is_done()) keep_alive_ = false;
  HeadOptions options{
      .framing = Framing::content_length, .content_length = length_bytes.value_or(0), .keep_alive = keep_alive_};
  if (!length_bytes) {
    until_close_ = http_1_0_;
    options.framing = http_1_0_ ? Framing::until_close : Framing::chunked;
    if (http_1_0_) options.keep_alive = keep_alive_ = false;
  }
  std::string text = serialize_head(head, options);
  if (method_ == "HEAD") co_return co_await send(text);
  file_begin_ = file_position_ = offset_bytes;
  auto sent =
      co_await send_file(std::move(text), fd, length_bytes, std::move(wait), options.framing == Framing::chunked);
  if (!sent) broken_ = true;
  co_return sent;
}

base::Task<Result<void>> ClientExchange::send_file(std::string head, int fd, std::optional<std::uint64_t> length,
                                                   WaitAvailable wait, bool chunked) {
  Transport& transport = connection_.transport_;
  base::BlockingPool& pool = connection_.shared_.pool;
  std::uint64_t& offset = file_position_;
  const std::uint64_t end = length ? offset + *length : UINT64_MAX;
  if (!wait) co_return co_await transport.send_file(head, fd, offset, end, connection_.patience(), pool);
  // What is waited for may take its time: the client has its answer's head meanwhile.
  IMAGECACHE_CO_CHECK(co_await send(head));
  std::uint64_t available = 0;
  while (offset < end) {
    if (available <= offset) {
      IMAGECACHE_CO_TRY(available, co_await wait(offset, base::in(connection_.shared_.limits.upstream_timeout)));
      if (available <= offset) {
        if (!length) break;
        co_return fail(Errc::internal, fmt::format("image file ends at byte {} of {}", offset, end));
      }
    }
    const std::uint64_t until = std::min(available, end);
    const std::string chunk = chunked ? fmt::format("{:x}\r\n", until - offset) : std::string();
    IMAGECACHE_CO_CHECK(co_await transport.send_file(chunk, fd, offset, until, connection_.patience(), pool));
    if (chunked) IMAGECACHE_CO_CHECK(co_await send("\r\n"));
  }
  if (chunked) IMAGECACHE_CO_CHECK(co_await send("0\r\n\r\n"));
  co_return Result<void>();
}

}  // namespace imagecache::http
