#include "events/transport_url.hpp"

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::events {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// As Python's unquote: what is no %nn stays.
std::string unquote(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool encoded =
        text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
    plain += encoded ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2])) : text[i];
    if (encoded) i += 2;
  }
  return plain;
}

Result<BrokerHost> parse_host(std::string_view text, std::string_view what) {
  BrokerHost host;
  if (const auto at = text.rfind('@'); at != text.npos) {
    const std::string_view credentials = text.substr(0, at);
    const auto colon = credentials.find(':');
    host.user = unquote(credentials.substr(0, colon));
    host.password = colon == credentials.npos ? "" : unquote(credentials.substr(colon + 1));
    text.remove_prefix(at + 1);
  }
  std::string_view port;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == text.npos) return fail(Errc::invalid_argument, std::string(what) + ": a [ of an IPv6 address has no ]");
    host.host = text.substr(1, end - 1);
    if (text.substr(end + 1).starts_with(':')) port = text.substr(end + 2);
  } else {
    const auto colon = text.find(':');
    host.host = text.substr(0, colon);
    if (colon != text.npos) port = text.substr(colon + 1);
  }
  if (host.host.empty()) host.host = "localhost";
  if (!port.empty()) {
    const auto number = base::parse_unsigned(port);
    if (!number || *number == 0 || *number > 65535)
      return fail(Errc::invalid_argument, std::string(what) + ": the port of " + host.host +
                                              " is not a number from 1 to 65535; is a @, : or / of the password not "
                                              "written as %40, %3A or %2F?");
    host.port = static_cast<std::uint16_t>(*number);
  }
  return host;
}

}  // namespace

Result<TransportUrl> parse_transport_url(std::string_view url) {
  constexpr std::string_view what = "transport_url";
  TransportUrl parsed;
  const auto scheme = url.find("://");
  if (scheme == url.npos || scheme == 0)
    return fail(Errc::invalid_argument, std::string(what) + ": write rabbit://user:password@host:port/virtual_host");
  parsed.transport = base::to_lower(url.substr(0, scheme));
  url.remove_prefix(scheme + 3);
  if (const auto fragment = url.find('#'); fragment != url.npos) url = url.substr(0, fragment);
  std::string_view query;
  if (const auto mark = url.find('?'); mark != url.npos) {
    query = url.substr(mark + 1);
    url = url.substr(0, mark);
  }
  if (const auto slash = url.find('/'); slash != url.npos) {
    // It would be taken for the virtual host, and logged with it.
    if (url.find('@', slash) != url.npos)
      return fail(Errc::invalid_argument, std::string(what) +
                                              ": a @ stands behind the first /; is a / of the password "
                                              "not written as %2F?");
    if (slash + 1 < url.size()) parsed.virtual_host = unquote(url.substr(slash + 1));
    url = url.substr(0, slash);
  }
  for (const std::string& host : base::split(url, ',')) {
    if (host.empty()) continue;
    IMAGECACHE_TRY(BrokerHost one, parse_host(host, what));
    parsed.hosts.push_back(std::move(one));
  }
  if (parsed.hosts.empty()) parsed.hosts.emplace_back();
  for (const std::string& pair : base::split(query, '&')) {
    const auto equals = pair.find('=');
    if (equals == pair.npos || equals + 1 == pair.size()) continue;
    parsed.query[unquote(pair.substr(0, equals))] = unquote(pair.substr(equals + 1));
  }
  return parsed;
}

}  // namespace imagecache::events
