// What the real program tells systemd while it starts.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>

#include "crash/world.hpp"

namespace imagecache::test {
namespace {

/// systemd's end of NOTIFY_SOCKET.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << path;
    EXPECT_EQ(::setenv("NOTIFY_SOCKET", path.c_str(), 1), 0);
  }
  ~NotifySocket() { ::unsetenv("NOTIFY_SOCKET"); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  /// The next message; "" if there is none after a minute, which only a failing test meets.
  std::string next() {
    pollfd wanted{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    std::array<char, 4096> buffer{};
    if (::poll(&wanted, 1, 60'000) != 1) return "";
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    return {buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  }

 private:
  base::Fd fd_;
};

TEST(Start, AsksSystemdForMoreTimeWhileItRecoversAndThenIsReady) {
  World world;
  NotifySocket systemd((world.directory / "notify").native());
  world.start();
  const auto asks = [](const std::string& message) { return message.starts_with("EXTEND_TIMEOUT_USEC="); };
  std::string message = systemd.next();
  EXPECT_TRUE(asks(message)) << message;
  while (asks(message)) message = systemd.next();
  EXPECT_EQ(message, "READY=1");
}

}  // namespace
}  // namespace imagecache::test
