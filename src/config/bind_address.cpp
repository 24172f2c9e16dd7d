#include "config/bind_address.hpp"

#include <arpa/inet.h>
#include <sys/un.h>

#include "base/text.hpp"

namespace imagecache::config {
namespace {

constexpr std::string_view allowed = "must be host:port, [ipv6]:port or unix:/path";

bool is_ipv4(const std::string& host) {
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &address) == 1;
}

bool is_host_name(std::string_view host) {
  return !host.empty() && host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") ==
                              std::string_view::npos;
}

Result<BindAddress> parse_unix(std::string_view path) {
  if (!path.starts_with('/')) return fail(Errc::invalid_argument, "a Unix socket needs an absolute path, unix:/path");
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(Errc::invalid_argument, "a Unix socket's path may have at most " +
                                            std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " characters");
  }
  return BindAddress{.host = {}, .port = 0, .unix_path = std::string(path)};
}

}  // namespace

bool BindAddress::is_loopback() const {
  if (is_unix() || host == "localhost" || host == "::1") return true;
  return is_ipv4(host) && host.starts_with("127.");
}

std::string BindAddress::to_string() const {
  if (is_unix()) return "unix:" + unix_path;
  const bool brackets = host.find(':') != std::string::npos;
  return (brackets ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<BindAddress> parse_bind_address(std::string_view text) {
  text = base::trim(text);
  if (text.starts_with("unix:")) return parse_unix(text.substr(5));
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::invalid_argument, std::string(allowed));
  std::string host(text.substr(0, colon));
  const auto port = base::parse_unsigned(text.substr(colon + 1));
  if (!port || *port > 65535) {
    return fail(Errc::invalid_argument, std::string(allowed) + " with a port from 0 to 65535");
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6(host)) return fail(Errc::invalid_argument, std::string(allowed) + "; there is no IPv6 address in []");
  } else if (!is_host_name(host)) {
    return fail(Errc::invalid_argument, std::string(allowed));
  }
  return BindAddress{.host = std::move(host), .port = static_cast<std::uint16_t>(*port), .unix_path = {}};
}

}  // namespace imagecache::config
