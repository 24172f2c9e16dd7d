#include "http/head.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/http/status.hpp>
#include <ctime>

#include "base/text.hpp"
#include "http/router.hpp"

namespace imagecache::http {
namespace {

constexpr std::array<std::string_view, 9> hop_by_hop = {
    "connection",        "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade"};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Two searches for one byte are faster than one for either.
bool holds_line_end(std::string_view text) {
  return text.find('\n') != std::string_view::npos || text.find('\r') != std::string_view::npos;
}

/// IMF-fixdate of this second; making one costs more than all the rest of a head.
std::string_view http_date() {
  thread_local std::time_t second = -1;
  thread_local std::array<char, 32> text{};
  thread_local std::size_t size = 0;
  if (const std::time_t now = std::time(nullptr); now != second) {
    second = now;
    const auto end = fmt::format_to_n(text.data(), text.size(), "{:%a, %d %b %Y %H:%M:%S} GMT", fmt::gmtime(now));
    size = std::min(end.size, text.size());
  }
  return {text.data(), size};
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

bool is_hop_by_hop(std::string_view name) {
  return std::ranges::any_of(hop_by_hop, [&](std::string_view known) { return equals_ignoring_case(name, known); });
}

bool is_disguised(std::string_view name) {
  if (name.find('_') == std::string_view::npos) return false;
  std::string plain(name);
  std::ranges::replace(plain, '_', '-');
  return is_hop_by_hop(plain) || equals_ignoring_case(plain, "content-length") || equals_ignoring_case(plain, "host") ||
         equals_ignoring_case(plain, "expect");
}

HeadScan::Verdict HeadScan::look(std::string_view bytes) {
  for (; position_ < bytes.size(); ++position_) {
    const auto c = static_cast<unsigned char>(bytes[position_]);
    const bool request_line = line_begin_ == 0;
    if (c >= 0x20 && c != 0x7f) {
      if (request_line || colon_seen_) continue;
      if (c == ':') {
        if (position_ == line_begin_) return Verdict::bad;  // no name
        colon_seen_ = true;
      } else if (c == ' ') {
        return Verdict::bad;  // a folded line, or space within or behind a name
      }
      continue;
    }
    if (c == '\t' && colon_seen_) continue;
    if (c != '\r') return Verdict::bad;
    if (position_ + 1 == bytes.size()) return Verdict::incomplete;
    if (bytes[position_ + 1] != '\n') return Verdict::bad;
    if (position_ == line_begin_) {
      if (request_line) return Verdict::bad;
      end_ = position_ + 2;
      return Verdict::complete;
    }
    if (!request_line && !colon_seen_) return Verdict::bad;
    ++position_;
    line_begin_ = position_ + 1;
    colon_seen_ = false;
  }
  return Verdict::incomplete;
}

std::string serialize_head(const Response& response, const HeadOptions& options) {
  const boost::beast::string_view reason =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(response.status));
  std::string head;
  head.reserve(512);
  fmt::format_to(std::back_inserter(head), "HTTP/1.1 {} {}\r\n", response.status,
                 std::string_view(reason.data(), reason.size()));
  bool has_date = false;
  for (const auto& [name, value] : response.headers) {
    if (is_hop_by_hop(name) || equals_ignoring_case(name, "content-length")) continue;
    if (holds_line_end(value) || holds_line_end(name) || name.find_first_of(": ") != std::string::npos) continue;
    has_date = has_date || equals_ignoring_case(name, "date");
    head.append(name).append(": ").append(value).append("\r\n");
  }
  if (!has_date) {
    head.append("Date: ").append(http_date()).append("\r\n");
  }
  if (options.framing == Framing::content_length) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", options.content_length);
  } else if (options.framing == Framing::chunked) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  head += options.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

AbsoluteTarget split_absolute(std::string_view target) {
  const auto scheme_end = target.find("://");
  if (scheme_end == std::string_view::npos) return {};
  const std::string_view scheme = target.substr(0, scheme_end);
  if (!equals_ignoring_case(scheme, "http") && !equals_ignoring_case(scheme, "https")) return {};
  const std::string_view rest = target.substr(scheme_end + 3);
  const auto end = rest.find_first_of("/?");
  AbsoluteTarget split{.authority = std::string(rest.substr(0, end)), .path = "/"};
  if (split.authority.empty() || split.authority.find_first_of("@\\#") != std::string::npos) return {};
  if (end != std::string_view::npos) split.path = (rest[end] == '?' ? "/" : "") + std::string(rest.substr(end));
  return split;
}

bool climbs(std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (target.find_first_of("%\\") == std::string_view::npos && target.find("..") == std::string_view::npos)
    return false;
  const std::string path = percent_decode(target);
  return path.find('\\') != std::string::npos ||
         std::ranges::any_of(base::split(path, '/'), [](const std::string& segment) { return segment == ".."; });
}

Result<Url> parse_url(std::string_view url) {
  Url parsed;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    parsed.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return fail(Errc::invalid_argument, std::string(url) + ": not an http:// or https:// URL");
  }
  const auto slash = rest.find('/');
  const std::string_view authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) parsed.path = rest.substr(slash);
  while (parsed.path.ends_with('/')) parsed.path.pop_back();
  parsed.authority = authority;
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return fail(Errc::invalid_argument, std::string(url) + ": '[' without ']'");
    parsed.host = authority.substr(1, close - 1);
    if (close + 1 < authority.size() && authority[close + 1] == ':') port = authority.substr(close + 2);
  } else {
    const auto colon = authority.rfind(':');
    parsed.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
  }
  parsed.port = port.empty() ? (parsed.tls ? "443" : "80") : std::string(port);
  const auto number = base::parse_unsigned(parsed.port);
  if (parsed.host.empty() || !number || *number > 65535) {
    return fail(Errc::invalid_argument, std::string(url) + ": no host, or the port is no number up to 65535");
  }
  return parsed;
}

}  // namespace imagecache::http
