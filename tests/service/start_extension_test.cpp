#include "app/start_extension.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>

#include "base/fd.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {
namespace {

TEST(StartExtension, IsAskedForAgainAndAgain) {
  const TempDir directory;
  const std::string path = (directory / "notify").native();
  base::Fd systemd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(systemd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::setenv("NOTIFY_SOCKET", path.c_str(), 1), 0);
  {
    const app::StartExtension extension(std::chrono::milliseconds(5));
    for (int i = 0; i < 3; ++i) {
      std::array<char, 64> buffer{};
      ASSERT_GT(::recv(systemd.get(), buffer.data(), buffer.size() - 1, 0), 0);
      EXPECT_STREQ(buffer.data(), "EXTEND_TIMEOUT_USEC=20000");
    }
    systemd.reset();  // or it would be waited for, once its queue is full
  }
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace imagecache::test
