#include "http/head.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/http/status.hpp>
#include <ctime>

#include "base/text.hpp"

namespace imagecache::http {
namespace {

constexpr std::array<std::string_view, 9> hop_by_hop = {
    "connection",        "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade"};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

bool is_hop_by_hop(std::string_view name) {
  return std::ranges::any_of(hop_by_hop, [&](std::string_view known) { return equals_ignoring_case(name, known); });
}

std::string serialize_head(const Response& response, const HeadOptions& options) {
  const std::string_view reason =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(response.status));
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason);
  bool has_date = false;
  for (const auto& [name, value] : response.headers) {
    if (is_hop_by_hop(name) || equals_ignoring_case(name, "content-length")) continue;
    if (value.find_first_of("\r\n") != std::string::npos || name.find_first_of("\r\n: ") != std::string::npos) continue;
    has_date = has_date || equals_ignoring_case(name, "date");
    head.append(name).append(": ").append(value).append("\r\n");
  }
  if (!has_date) {
    fmt::format_to(std::back_inserter(head), "Date: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", fmt::gmtime(std::time(nullptr)));
  }
  if (options.framing == Framing::content_length) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", options.content_length);
  } else if (options.framing == Framing::chunked) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  head += options.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
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
  if (parsed.host.empty() || !base::parse_unsigned(parsed.port)) {
    return fail(Errc::invalid_argument, std::string(url) + ": no host, or the port is not a number");
  }
  return parsed;
}

}  // namespace imagecache::http
