// Feeds a Beast parser from a Transport. What was read beyond a message stays in the buffer for the next.
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <span>

#include "http/transport.hpp"

namespace imagecache::http {

namespace beast = boost::beast;

using RequestParser = beast::http::request_parser<beast::http::buffer_body>;
using ResponseParser = beast::http::response_parser<beast::http::buffer_body>;

/// Reads more into the buffer; 0 is the peer's end. no_buffer_space if the buffer may not grow. `When` is a Deadline
/// or a Patience.
template <class When>
base::Task<Moved> read_more(Transport& transport, beast::flat_buffer& buffer, std::size_t bytes, When when) {
  const std::size_t room = std::min(bytes, buffer.max_size() - buffer.size());
  if (room == 0) co_return std::unexpected(error_code(asio::error::no_buffer_space));
  const auto space = buffer.prepare(room);
  auto got = co_await transport.read_some({static_cast<char*>(space.data()), space.size()}, when);
  if (got) buffer.commit(*got);
  co_return got;
}

/// The head of the next answer. end_of_stream if the peer ended before a byte of it. `deadline` is asked before each
/// read, since it may change meanwhile; it outlives the Task.
template <class Parser, class AskDeadline>
base::Task<error_code> read_header(Transport& transport, beast::flat_buffer& buffer, Parser& parser,
                                   const AskDeadline& deadline) {
  bool any = false;
  for (;;) {
    if (buffer.size() > 0) {
      any = true;
      error_code error;
      buffer.consume(parser.put(buffer.data(), error));
      if (parser.is_header_done()) co_return error_code();
      if (error && error != beast::http::error::need_more) co_return error;
    }
    const auto got = co_await read_more(transport, buffer, 16 << 10, deadline());
    if (!got) co_return got.error();
    if (*got == 0) co_return any ? beast::http::error::partial_message : beast::http::error::end_of_stream;
  }
}

/// The next bytes of a body whose header is done; 0 at its end.
template <class Parser>
base::Task<Moved> read_body(Transport& transport, beast::flat_buffer& buffer, Parser& parser, std::span<char> into,
                            Transport::Patience patience) {
  parser.eager(true);
  bool needs_more = buffer.size() == 0;
  while (!parser.is_done()) {
    if (needs_more) {
      const auto got = co_await read_more(transport, buffer, into.size(), patience);
      if (!got) co_return got;
      if (*got == 0) {
        error_code error;
        parser.put_eof(error);
        if (error) co_return std::unexpected(error);
        break;
      }
    }
    auto& body = parser.get().body();
    body.data = into.data();
    body.size = into.size();
    error_code error;
    const std::size_t used = parser.put(buffer.data(), error);
    buffer.consume(used);
    needs_more = error == beast::http::error::need_more || used == 0 || buffer.size() == 0;
    if (error && error != beast::http::error::need_more && error != beast::http::error::need_buffer) {
      co_return std::unexpected(error);
    }
    if (const std::size_t bytes = into.size() - body.size; bytes > 0) co_return bytes;
  }
  co_return std::size_t{0};
}

}  // namespace imagecache::http
