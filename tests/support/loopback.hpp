// A socket that listens on 127.0.0.1, for servers that tests write themselves.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

#include "base/fd.hpp"

namespace imagecache::test {

struct LoopbackListener {
  base::Fd fd;
  std::uint16_t port = 0;
};

/// At `port`, also right after another listener there was closed, or at a free one for 0. Throws std::system_error,
/// which fails the test: without the socket it has nothing to say.
inline LoopbackListener listen_on_loopback(std::uint16_t port = 0) {
  constexpr int backlog = 1024;
  LoopbackListener listener{.fd = base::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  const int on = 1;
  ::setsockopt(listener.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.fd.get(), generic, length) != 0 || ::listen(listener.fd.get(), backlog) != 0 ||
      ::getsockname(listener.fd.get(), generic, &length) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot listen on 127.0.0.1:" + std::to_string(port));
  }
  listener.port = ntohs(address.sin_port);
  return listener;
}

}  // namespace imagecache::test
