// The head of an answer as text, and the rules of RFC 9110/9112 about headers that are not passed on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/server.hpp"

namespace imagecache::http {

enum class Framing { content_length, chunked, until_close, none };

struct HeadOptions {
  Framing framing = Framing::content_length;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
};

/// "HTTP/1.1 200 OK\r\n…\r\n\r\n". Headers of `response` that speak of framing or of the connection are replaced by
/// what the options say; a value that holds a line break is left out, so that nothing can be smuggled in.
std::string serialize_head(const Response& response, const HeadOptions& options);

/// Connection, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade.
bool is_hop_by_hop(std::string_view name);
bool equals_ignoring_case(std::string_view a, std::string_view b);
/// May this status have a body at all (not 1xx, 204, 304)?
constexpr bool has_body(unsigned status) {
  return status >= 200 && status != 204 && status != 304;
}

struct Url {
  bool tls = false;
  std::string host;  ///< without brackets
  std::string port;
  std::string authority;  ///< for the Host header
  std::string path;       ///< without a trailing slash; may be empty
};
Result<Url> parse_url(std::string_view url);

}  // namespace imagecache::http
