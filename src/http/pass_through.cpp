// Passing a request on to an upstream and its answer back, both bodies as they come.
//
// A request without a body is one Task: ask, relay. One with a body is two, since an upstream may answer before it has
// read all (413), or answer as it reads: upload_body() reads the client and writes the upstream, while the handler's
// own Task reads the upstream and writes the client. Both run on the connection's executor; the second ends only after
// the first.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <exception>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "http/exchange.hpp"

namespace imagecache::http {
namespace {

constexpr std::uint32_t max_answer_head_bytes = 64 * 1024;

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

/// May it be asked twice where the first time was not answered?
bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "DELETE" || method == "PUT";
}

std::unexpected<Error> unreachable(const Url& url, std::string_view doing, const error_code& error) {
  return fail(Errc::unavailable, fmt::format("{}: {}: {}", url.authority, doing, error.message()));
}

/// What an upstream may take for each byte.
Transport::Patience upstream_patience(const Limits& limits) {
  return {limits.upstream_timeout, 1};
}

/// Whatever ends the passing on, an exception too: Connection::close() finds no upstream that is gone. Declared before
/// what owns the upstream.
class Forgetting {
 public:
  explicit Forgetting(Transport*& upstream) : upstream_(upstream) {}
  ~Forgetting() { upstream_ = nullptr; }
  Forgetting(const Forgetting&) = delete;
  Forgetting& operator=(const Forgetting&) = delete;

 private:
  Transport*& upstream_;
};

/// A piece of a body with room around it, so that a chunk's head and end need no write of their own.
class Chunk {
 public:
  std::span<char> room() { return std::span(bytes_).subspan(head_bytes, body_bytes); }
  std::string_view framed(std::size_t size) {
    std::array<char, head_bytes> head{};
    const auto end = fmt::format_to_n(head.data(), head.size(), "{:x}\r\n", size);
    const std::size_t begin = head_bytes - end.size;
    std::copy_n(head.data(), end.size, bytes_.data() + begin);
    bytes_[head_bytes + size] = '\r';
    bytes_[head_bytes + size + 1] = '\n';
    return {bytes_.data() + begin, end.size + size + 2};
  }
  std::string_view plain(std::size_t size) const { return {bytes_.data() + head_bytes, size}; }

 private:
  static constexpr std::size_t head_bytes = 20;
  static constexpr std::size_t body_bytes = 64 << 10;
  std::array<char, head_bytes + body_bytes + 2> bytes_;
};

}  // namespace

/// Between the Task that sends the request's body and the one that relays the answer.
struct ClientExchange::Upload {
  base::Signal changed;
  bool go = false;               // the upstream said 100 Continue
  bool saying_continue = false;  // 100 Continue is being written to the client
  bool discard = false;          // nobody wants the rest: it is read and dropped
  bool stop = false;             // not even that
  bool done = false;
  base::Deadline done_at = base::never;
  std::optional<Error> client_problem{};

  base::Task<void> wait_done() {
    while (!done) {
      const auto seen = changed.version();
      co_await changed.wait_past(seen);
    }
  }
};

std::string ClientExchange::head_for(const Url& url, const Upstream& passed, bool with_body) const {
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
    // WSGI and CGI servers take '_' for '-': such a header would say there what we did not read in it here.
    if (name.find('_') != std::string::npos || replaced(name) || dropped(name) || is_hop_by_hop(name) ||
        equals_ignoring_case(name, "host") || equals_ignoring_case(name, "content-length") ||
        named_by_connection(all, name) ||
        (equals_ignoring_case(name, "expect") && (!with_body || continued_ || http_1_0_))) {
      continue;
    }
    if (equals_ignoring_case(name, "x-forwarded-for")) {
      forwarded_for.append(forwarded_for.empty() ? "" : ", ").append(value);
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
    if (peer() != "unix") forwarded_for.append(forwarded_for.empty() ? "" : ", ").append(peer());
    if (!forwarded_for.empty()) head.append("X-Forwarded-For: ").append(forwarded_for).append("\r\n");
  }
  if (!has_proto && !replaced("X-Forwarded-Proto")) head.append("X-Forwarded-Proto: ").append(scheme()).append("\r\n");
  if (!has_host && !own_host.empty() && !replaced("X-Forwarded-Host")) {
    head.append("X-Forwarded-Host: ").append(own_host).append("\r\n");
  }
  if (!replaced("Via")) {
    head.append("Via: ").append(via).append(http_1_0_ ? "1.0" : "1.1").append(" cinder-image-cache\r\n");
  }
  for (const auto& [name, value] : extra) {
    if (value.find_first_of("\r\n") == std::string::npos) head.append(name).append(": ").append(value).append("\r\n");
  }
  if (with_body && parser_.chunked()) {
    head += "Transfer-Encoding: chunked\r\n";
  } else if (with_body && parser_.content_length()) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", *parser_.content_length());
  }
  return head + "\r\n";
}

base::Task<Result<UpstreamPtr>> ClientExchange::reach(const Url& url, bool may_reuse) {
  Upstreams& upstreams = connection_.shared_.upstreams;
  if (may_reuse) {
    if (UpstreamPtr kept = upstreams.take(url, connection_.executor())) {
      connection_.upstream_ = &kept->transport;
      co_return kept;
    }
  }
  UpstreamPtr fresh = Upstreams::make(connection_.executor());
  connection_.upstream_ = &fresh->transport;
  if (auto connected = co_await upstreams.connect(*fresh, url); !connected) {
    connection_.upstream_ = nullptr;
    co_return std::unexpected(std::move(connected).error());
  }
  co_return fresh;
}

base::Task<Result<std::unique_ptr<ResponseParser>>> ClientExchange::read_answer_head(UpstreamConnection& upstream,
                                                                                     const Url& url, Upload* upload) {
  const Limits& limits = connection_.shared_.limits;
  for (;;) {
    auto parser = std::make_unique<ResponseParser>();
    parser->body_limit(boost::none);
    parser->header_limit(max_answer_head_bytes);
    if (method_ == "HEAD") parser->skip(true);
    // The time for an answer begins when the upstream has the whole request, which may be in the middle of a read.
    const auto begun = std::chrono::steady_clock::now();
    const auto deadline = [&] {
      if (upload && !upload->done) return base::never;
      return (upload ? std::max(begun, upload->done_at) : begun) + limits.upstream_timeout;
    };
    if (const auto error = co_await read_header(upstream.transport, upstream.buffer, *parser, deadline); error) {
      upstream.stale = !parser->got_some() && errc_of(error) != Errc::timeout;
      co_return unreachable(url, "waiting for the answer", error);
    }
    const unsigned status = parser->get().result_int();
    if (status == 101) {
      co_return fail(Errc::unavailable, url.authority + ": it switches to another protocol, unasked");
    }
    // 100, 102 and 103 announce the answer, they are none.
    if (status / 100 != 1) co_return parser;
    if (status == 100 && upload) {
      upload->go = true;
      upload->changed.notify();
    }
  }
}

base::Task<Result<ClientExchange::Asked>> ClientExchange::ask(const Url& url, const Upstream& passed) {
  const Limits& limits = connection_.shared_.limits;
  for (bool may_reuse = is_idempotent(method_);; may_reuse = false) {
    IMAGECACHE_CO_TRY(UpstreamPtr upstream, co_await reach(url, may_reuse));
    const std::string head = head_for(url, passed, false);
    Result<std::unique_ptr<ResponseParser>> answer;
    if (const auto error = co_await upstream->transport.write(head, upstream_patience(limits)); error) {
      upstream->stale = errc_of(error) != Errc::timeout;
      answer = unreachable(url, "sending the request", error);
    } else {
      answer = co_await read_answer_head(*upstream, url, nullptr);
    }
    if (answer) {
      Asked asked{.upstream = std::move(upstream), .answer = std::move(*answer)};
      co_return asked;
    }
    connection_.upstream_ = nullptr;
    const bool retry = upstream->reused && upstream->stale && !connection_.transport_.aborted();
    if (!retry) co_return std::unexpected(std::move(answer).error());
  }
}

void ClientExchange::keep(const Url& url, UpstreamPtr upstream, ResponseParser& answer) {
  connection_.upstream_ = nullptr;
  if (answer.is_done() && answer.get().keep_alive() && !upstream->transport.aborted()) {
    connection_.shared_.upstreams.keep(url, std::move(upstream));
  }
}

base::Task<Result<unsigned>> ClientExchange::relay_answer(UpstreamConnection& upstream, const Url& url,
                                                          ResponseParser& answer, const OnAnswer& on_answer,
                                                          Upload* upload) {
  const unsigned status = answer.get().result_int();
  Response response{.status = status, .headers = {}, .body = {}};
  for (const auto& field : answer.get()) response.headers.emplace_back(field.name_string(), field.value());
  if (on_answer && !co_await on_answer(response)) co_return status;
  if (upload) {
    if (!continued_ && !upload->go && expects_continue()) {
      upload->discard = true;  // the client was never asked for its body
      upload->changed.notify();
    }
    while (upload->saying_continue) {
      const auto seen = upload->changed.version();
      co_await upload->changed.wait_past(seen);
    }
  }
  answered_ = true;
  if (connection_.is_last_answer() || !parser_.is_done() || (upload && !upload->done)) keep_alive_ = false;
  HeadOptions options{.keep_alive = keep_alive_};
  const auto answer_length = answer.content_length();
  if (!has_body(status)) {
    options.framing = Framing::none;
  } else if (method_ == "HEAD") {
    options.framing = answer_length ? Framing::content_length : Framing::none;
    options.content_length = answer_length.value_or(0);
  } else if (answer_length) {
    options.content_length = *answer_length;
  } else {
    until_close_ = http_1_0_;
    options.framing = http_1_0_ ? Framing::until_close : Framing::chunked;
    if (http_1_0_) options.keep_alive = keep_alive_ = false;
  }
  IMAGECACHE_CO_CHECK(co_await send(serialize_head(response, options)));
  if (!has_body(status) || method_ == "HEAD") co_return status;

  const bool chunked = options.framing == Framing::chunked;
  const auto patience = upstream_patience(connection_.shared_.limits);
  auto chunk = std::make_unique<Chunk>();
  for (;;) {
    const auto got = co_await http::read_body(upstream.transport, upstream.buffer, answer, chunk->room(), patience);
    if (!got) {
      broken_ = true;
      co_return unreachable(url, "its answer broke off", got.error());
    }
    if (*got == 0) break;
    IMAGECACHE_CO_CHECK(co_await send(chunked ? chunk->framed(*got) : chunk->plain(*got), *got));
  }
  if (chunked) IMAGECACHE_CO_CHECK(co_await send("0\r\n\r\n"));
  co_return status;
}

base::Task<bool> ClientExchange::upload_part(UpstreamConnection& upstream, std::string_view part) {
  const auto patience = upstream_patience(connection_.shared_.limits);
  Transport& to = upstream.transport;
  if (!parser_.chunked()) co_return !co_await to.write(part, patience);
  if (part.empty()) co_return !co_await to.write("0\r\n\r\n", patience);
  const std::string head = fmt::format("{:x}\r\n", part.size());
  if (co_await to.write(head, patience, true)) co_return false;
  if (co_await to.write(part, patience, true)) co_return false;
  co_return !co_await to.write("\r\n", patience);
}

base::Task<void> ClientExchange::upload_body(std::shared_ptr<Upload> state, UpstreamConnection& upstream) {
  const Limits& limits = connection_.shared_.limits;
  if (expects_continue() && !continued_) {
    // The upstream decides whether it wants the body at all; one that knows nothing of it is given the body anyway.
    const auto until = base::in(limits.continue_wait);
    while (!state->go && !state->discard && !state->stop) {
      const auto seen = state->changed.version();
      if (!co_await state->changed.wait_past(seen, until)) break;
    }
    if (!state->discard && !state->stop) {
      continued_ = state->saying_continue = true;
      auto said = co_await send("HTTP/1.1 100 Continue\r\n\r\n");
      state->saying_continue = false;
      state->changed.notify();
      if (!said) state->client_problem = std::move(said).error();
    }
  }
  auto scratch = std::make_unique<Scratch>();
  std::uint64_t dropped = 0;
  base::Deadline drop_until = base::never;
  while (!state->client_problem && !state->stop) {
    if (state->discard && drop_until == base::never) drop_until = base::in(limits.linger_time);
    const Transport::Patience dropping{.limit = limits.linger_silence, .min_bytes = 1};
    auto part = co_await read_some_body(*scratch, state->discard ? dropping : connection_.patience());
    if (!part) {
      state->client_problem = std::move(part).error();
      break;
    }
    // An upstream that takes no more has answered early, perhaps: the other Task reads what it says.
    if (!state->discard && !co_await upload_part(upstream, *part)) state->discard = true;
    if (part->empty()) break;
    if (state->discard) {
      dropped += part->size();
      if (dropped > limits.linger_bytes || std::chrono::steady_clock::now() >= drop_until) break;
    }
  }
  state->done = true;
  state->done_at = std::chrono::steady_clock::now();
  state->changed.notify();
  if (state->client_problem && !answered_) {
    upstream.transport.abort();
  } else {
    upstream.transport.hurry(Direction::read, base::in(limits.upstream_timeout));
  }
}

base::Task<Result<unsigned>> ClientExchange::pass_with_body(const Url& url, const Upstream& passed) {
  const Limits& limits = connection_.shared_.limits;
  if (body_begun_) co_return fail(Errc::invalid_argument, "the request's body was read, it cannot be passed on");
  IMAGECACHE_CO_TRY(UpstreamPtr upstream, co_await reach(url, false));
  const std::string head = head_for(url, passed, true);
  if (const auto error = co_await upstream->transport.write(head, upstream_patience(limits)); error) {
    co_return unreachable(url, "sending the request", error);
  }
  auto state = std::make_shared<Upload>();
  asio::co_spawn(connection_.executor(), upload_body(state, *upstream),
                 [state, to = &upstream->transport](const std::exception_ptr& problem) {
                   if (!problem || state->done) return;
                   to->abort();  // the other Task may wait for an answer; it goes only after us
                   base::log::error("http", nullptr, "sending a request's body ended with an exception");
                   state->client_problem = Error{Errc::internal, "sending the request's body ended with an exception"};
                   state->done = true;
                   state->done_at = std::chrono::steady_clock::now();
                   state->changed.notify();
                 });

  // Whatever is thrown, upload_body() ends before what it uses goes.
  Result<unsigned> result = 0U;
  std::exception_ptr thrown;
  try {
    auto answer = co_await read_answer_head(*upstream, url, state.get());
    if (answer) {
      result = co_await relay_answer(*upstream, url, **answer, passed.on_answer, state.get());
    } else {
      result = std::unexpected(std::move(answer).error());
    }
  } catch (...) {
    thrown = std::current_exception();
  }
  if (!state->done) {
    upstream->transport.abort();
    state->discard = true;
    if (answered_ && result && !thrown) {
      // The client may read only after it has written: the rest is dropped for a while, see Limits::linger_silence.
      connection_.transport_.shutdown_send();
      connection_.transport_.hurry(Direction::read, base::in(limits.linger_silence));
    } else {
      state->stop = true;
      connection_.transport_.hurry(Direction::read, base::in(std::chrono::seconds(0)));
    }
    state->changed.notify();
    co_await state->wait_done();
    keep_alive_ = false;
  }
  if (state->client_problem && !answered_ && !state->stop) result = std::unexpected(*state->client_problem);
  if (thrown) std::rethrow_exception(thrown);
  // Never kept: were there two opinions about where this body ended, its rest would be answered as the next request.
  co_return result;
}

base::Task<Result<unsigned>> ClientExchange::pass_through(Upstream upstream) {
  const Forgetting forgetting(connection_.upstream_);
  IMAGECACHE_CO_TRY(const Url url, parse_url(upstream.url));
  if (has_request_body()) co_return co_await pass_with_body(url, upstream);
  IMAGECACHE_CO_TRY(Asked asked, co_await ask(url, upstream));
  auto result = co_await relay_answer(*asked.upstream, url, *asked.answer, upstream.on_answer, nullptr);
  keep(url, std::move(asked.upstream), *asked.answer);
  co_return result;
}

base::Task<Result<Response>> ClientExchange::ask_upstream(Upstream upstream, std::uint64_t max_body_bytes) {
  if (method_ != "GET" && method_ != "HEAD" && method_ != "DELETE") {
    co_return fail(Errc::invalid_argument, method_ + " has a body that asking by the head alone would leave out");
  }
  const Forgetting forgetting(connection_.upstream_);
  IMAGECACHE_CO_TRY(const Url url, parse_url(upstream.url));
  IMAGECACHE_CO_TRY(Asked asked, co_await ask(url, upstream));
  ResponseParser& answer = *asked.answer;
  Response response{.status = answer.get().result_int(), .headers = {}, .body = {}};
  for (const auto& field : answer.get()) {
    if (is_hop_by_hop(field.name_string()) || equals_ignoring_case(field.name_string(), "content-length")) continue;
    response.headers.emplace_back(field.name_string(), field.value());
  }
  const auto too_large = [&] {
    return fail(Errc::unavailable,
                fmt::format("{}: its answer is larger than {} bytes", url.authority, max_body_bytes));
  };
  const bool with_body = method_ != "HEAD" && has_body(response.status);
  if (with_body && answer.content_length().value_or(0) > max_body_bytes) co_return too_large();
  if (with_body) {
    auto buffer = std::make_unique<Scratch>();
    const auto patience = upstream_patience(connection_.shared_.limits);
    for (;;) {
      const auto got =
          co_await http::read_body(asked.upstream->transport, asked.upstream->buffer, answer, *buffer, patience);
      if (!got) {
        co_return unreachable(url, "its answer broke off", got.error());
      }
      if (*got == 0) break;
      if (response.body.size() + *got > max_body_bytes) co_return too_large();
      response.body.append(buffer->data(), *got);
    }
  }
  keep(url, std::move(asked.upstream), answer);
  co_return response;
}

}  // namespace imagecache::http
