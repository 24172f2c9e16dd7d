// Where a server listens: host:port, [v6]:port or unix:/path.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::config {

struct BindAddress {
  std::string host;        ///< name, IPv4 or IPv6 address without brackets; empty for a Unix socket
  std::uint16_t port = 0;  ///< 0: any free port
  std::string unix_path;   ///< absolute; empty for TCP

  bool is_unix() const { return !unix_path.empty(); }
  /// Reachable from this host only: 127.0.0.0/8, ::1, "localhost" or a Unix socket.
  bool is_loopback() const;
  /// As it is written: "127.0.0.1:9393", "[::1]:9393", "unix:/run/x.sock".
  std::string to_string() const;
  bool operator==(const BindAddress&) const = default;
};

/// Errc::invalid_argument with what is allowed.
Result<BindAddress> parse_bind_address(std::string_view text);

}  // namespace imagecache::config
