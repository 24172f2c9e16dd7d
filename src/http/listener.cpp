#include "http/listener.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include "base/try.hpp"

namespace imagecache::http {
namespace {

constexpr int backlog = SOMAXCONN;

std::string reason(int error_number) {
  return std::generic_category().message(error_number);
}

template <class T>
Result<T> option(int fd, int name, const char* what) {
  T value{};
  socklen_t size = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, name, &value, &size) != 0) {
    return fail(Errc::invalid_argument,
                "the inherited descriptor " + std::to_string(fd) + " has no " + what + ": " + reason(errno));
  }
  return value;
}

std::uint16_t local_port(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return 0;
}

Result<Listening> open_unix(const std::string& path) {
  const auto failed = [&](const std::string& why) { return fail(Errc::invalid_argument, path + ": " + why); };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed("the path is too long");
  path.copy(address.sun_path, path.size());
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return failed("something that is not a socket is there");
    ::unlink(path.c_str());
  }
  Listening made{.fd = base::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), .family = AF_UNIX};
  if (!made.fd || ::bind(made.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed(reason(errno));
  }
  // cinder-volume runs as another user of the group; nobody else may come in.
  if (::chmod(path.c_str(), 0660) != 0 || ::listen(made.fd.get(), backlog) != 0) return failed(reason(errno));
  made.unix_path = path;
  return made;
}

struct Addresses {
  addrinfo* first = nullptr;
  ~Addresses() {
    if (first) ::freeaddrinfo(first);
  }
};

/// An errno as error, so that the caller can leave out what this machine does not have.
std::expected<Listening, int> open_tcp(const addrinfo& info, std::uint16_t port, bool v6_only) {
  Listening made{.fd = base::Fd(::socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
                 .family = info.ai_family};
  if (!made.fd) return std::unexpected(errno);
  const int yes = 1;
  ::setsockopt(made.fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_storage address{};
  std::copy_n(reinterpret_cast<const char*>(info.ai_addr), info.ai_addrlen, reinterpret_cast<char*>(&address));
  if (info.ai_family == AF_INET6) {
    const int only = v6_only ? 1 : 0;
    ::setsockopt(made.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
  if (::bind(made.fd.get(), reinterpret_cast<const sockaddr*>(&address), info.ai_addrlen) != 0 ||
      ::listen(made.fd.get(), backlog) != 0) {
    return std::unexpected(errno);
  }
  made.port = local_port(made.fd.get());
  return made;
}

}  // namespace

Result<base::Fd> adopt_listener(int fd) {
  IMAGECACHE_TRY(const int type, option<int>(fd, SO_TYPE, "socket type"));
  IMAGECACHE_TRY(const int listening, option<int>(fd, SO_ACCEPTCONN, "listening state"));
  IMAGECACHE_TRY(const int family, option<int>(fd, SO_DOMAIN, "socket family"));
  if (type != SOCK_STREAM || listening == 0 || (family != AF_INET && family != AF_INET6 && family != AF_UNIX)) {
    return fail(Errc::invalid_argument, "the inherited descriptor " + std::to_string(fd) +
                                            " is not a listening stream socket; in systemd's socket unit use "
                                            "ListenStream= and Accept=no");
  }
  base::Fd own(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!own) return base::fail_errno("the inherited descriptor " + std::to_string(fd), errno);
  const int flags = ::fcntl(own.get(), F_GETFL);
  if (flags < 0 || ::fcntl(own.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return base::fail_errno("the inherited descriptor " + std::to_string(fd), errno);
  }
  return own;
}

Result<std::vector<Listening>> open_listeners(const BindAddress& address) {
  std::vector<Listening> all;
  if (address.inherited_fd >= 0) {
    Listening adopted{.inherited = true};
    IMAGECACHE_TRY(adopted.fd, adopt_listener(address.inherited_fd));
    IMAGECACHE_TRY(adopted.family, option<int>(adopted.fd.get(), SO_DOMAIN, "socket family"));
    adopted.port = local_port(adopted.fd.get());
    all.push_back(std::move(adopted));
    return all;
  }
  if (!address.unix_path.empty()) {
    IMAGECACHE_TRY(Listening made, open_unix(address.unix_path));
    all.push_back(std::move(made));
    return all;
  }
  const bool bracketed = address.host.starts_with('[') && address.host.ends_with(']');
  const std::string host = bracketed ? address.host.substr(1, address.host.size() - 2) : address.host;
  const std::string text =
      (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(address.port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  Addresses found;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found.first); error != 0) {
    return fail(Errc::invalid_argument, text + ": " + ::gai_strerror(error));
  }
  int problem = 0;
  for (const addrinfo* info = found.first; info; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    const std::uint16_t port = all.empty() ? address.port : all.front().port;
    auto made = open_tcp(*info, port, address.v6_only);
    if (made) {
      all.push_back(std::move(*made));
    } else if (made.error() == EADDRNOTAVAIL || made.error() == EAFNOSUPPORT) {
      problem = made.error();  // a name may have an address of a family that this machine is without
    } else {
      return fail(Errc::invalid_argument, text + ": " + reason(made.error()));
    }
  }
  if (all.empty()) return fail(Errc::invalid_argument, text + ": " + (problem ? reason(problem) : "no such address"));
  return all;
}

std::string peer_name(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size()) ? text.data() : "?";
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
      return ::inet_ntop(AF_INET, v6.s6_addr + 12, text.data(), text.size()) ? text.data() : "?";
    }
    return ::inet_ntop(AF_INET6, &v6, text.data(), text.size()) ? text.data() : "?";
  }
  return "unix";
}

}  // namespace imagecache::http
