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

/// Looks over the raw head of a request as it arrives, before it is parsed, for what parsers disagree about, which is
/// how requests are smuggled: bare CR or LF, NUL and other control characters, folded lines, space before a colon.
class HeadScan {
 public:
  enum class Verdict { incomplete, complete, bad };
  /// `bytes` are all that came so far, from the request line on.
  Verdict look(std::string_view bytes);
  std::size_t size_bytes() const { return end_; }  ///< of the complete head, its empty line included

 private:
  std::size_t position_ = 0;
  std::size_t line_begin_ = 0;
  std::size_t end_ = 0;
  bool colon_seen_ = false;
};

/// Connection, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade.
bool is_hop_by_hop(std::string_view name);
/// "Transfer_Encoding" and the like: a name that is none of those that say where a request ends, whom it is for or what
/// its connection does, and becomes one where '_' and '-' are the same, as they are to WSGI and CGI.
bool is_disguised(std::string_view name);
bool equals_ignoring_case(std::string_view a, std::string_view b);
/// May this status have a body at all (not 1xx, 204, 304)?
constexpr bool has_body(unsigned status) {
  return status >= 200 && status != 204 && status != 304;
}

/// "http://host:1/a?b" as a request's target: its authority and "/a?b". Both empty if it is no such target.
struct AbsoluteTarget {
  std::string authority, path;
};
AbsoluteTarget split_absolute(std::string_view target);

/// Does the path of a request's target, once decoded, have a segment ".." or a backslash? Whoever resolves it would
/// leave the path that an upstream's URL begins with.
bool climbs(std::string_view target);

struct Url {
  bool tls = false;
  std::string host;  ///< without brackets
  std::string port;
  std::string authority;  ///< for the Host header
  std::string path;       ///< without a trailing slash; may be empty
};
Result<Url> parse_url(std::string_view url);

}  // namespace imagecache::http
