// Listening sockets, made or inherited. Private to the room but for adopt_listener().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "http/server.hpp"

namespace imagecache::http {

struct Listening {
  base::Fd fd;  ///< non-blocking
  int family = 0;
  std::uint16_t port = 0;  ///< 0 of a Unix socket
  std::string unix_path;   ///< ours to unlink; empty if inherited
  bool inherited = false;
};

/// One for each address that the host name has; on port 0 all get the same one.
Result<std::vector<Listening>> open_listeners(const BindAddress& address);

/// Who is at the other end: "192.0.2.1", "::1", "unix".
std::string peer_name(int fd);

}  // namespace imagecache::http
