// One process follows another on the same listening socket, and no client notices.
#include <atomic>
#include <thread>

#include "support/temp_dir.hpp"
#include "unit/http/rig.hpp"

namespace imagecache::http {
namespace {

using test_rig::RawListener;
using test_rig::RawPeer;

class HandOver : public test_rig::Rig {
 protected:
  std::unique_ptr<Server> start(std::string name, int fd) {
    auto made = std::make_unique<Server>(
        name, Limits{.stop_grace = std::chrono::seconds(10)}, UpstreamTls{},
        [name](Exchange& exchange) { return test_rig::say(exchange, name); }, io, pool, counters);
    const auto listening = made->listen({.inherited_fd = fd});
    EXPECT_TRUE(listening) << listening.error().message;
    return made;
  }
};

// The grace of a stop is an upper bound here: the clients ask again at once, and are told then to go.
TEST_F(HandOver, TwoServersTakeTurnsAndNoClientFails) {
  RawListener socket;
  std::atomic<bool> ended = false;
  std::atomic<int> asked = 0;
  std::atomic<int> failed = 0;
  // One connects anew for each request, the other keeps its connection as long as it is let.
  std::jthread anew([&] {
    while (!ended) {
      if (imagecache::test::http(socket.port(), "GET", "/x").status != 200) ++failed;
      ++asked;
    }
  });
  std::jthread keeping([&] {
    auto client = std::make_unique<imagecache::test::HttpClient>(socket.port());
    while (!ended) {
      const auto answer = client->request("GET", "/x");
      if (answer.status != 200) ++failed;
      if (answer.header("connection") != "keep-alive") {
        client = std::make_unique<imagecache::test::HttpClient>(socket.port());
      }
      ++asked;
    }
  });
  auto current = start("0", socket.fd());
  for (int turn = 1; turn <= 10; ++turn) {
    const int before = asked;
    while (asked < before + 50) std::this_thread::yield();
    // Half of the time there is nobody for a moment: who connects then waits in the backlog.
    if (turn % 2 == 0) stop(current);
    auto next = start(std::to_string(turn), socket.fd());
    stop(current);
    current = std::move(next);
  }
  ended = true;
  anew.join();
  keeping.join();
  stop(current);
  EXPECT_EQ(failed, 0);
  EXPECT_GT(asked, 500);
}

TEST_F(HandOver, WhoConnectsBetweenTwoIsServedByTheNext) {
  RawListener socket;
  auto first = start("first", socket.fd());
  EXPECT_EQ(imagecache::test::http(socket.port(), "GET", "/").body, "first");
  stop(first);
  RawPeer waiting = RawPeer::connect(socket.port());
  waiting.send("GET / HTTP/1.0\r\n\r\n");
  auto second = start("second", socket.fd());
  EXPECT_TRUE(waiting.read_to_end().bytes.ends_with("second"));
  stop(second);
}

TEST_F(HandOver, AnInheritedUnixSocketKeepsItsPath) {
  imagecache::test::TempDir directory;
  const std::string path = (directory / "s").native();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const base::Fd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd.get(), 8), 0);
  auto first = start("first", fd.get());
  stop(first);
  RawPeer waiting = RawPeer::connect_unix(path);
  waiting.send("GET / HTTP/1.0\r\n\r\n");
  auto second = start("second", fd.get());
  EXPECT_TRUE(waiting.read_to_end().bytes.ends_with("second"));
  stop(second);
}

TEST_F(HandOver, OnlyAListeningStreamSocketIsAdopted) {
  const base::Fd datagrams(::socket(AF_INET, SOCK_DGRAM, 0));
  const base::Fd idle(::socket(AF_INET, SOCK_STREAM, 0));
  for (const int fd : {datagrams.get(), idle.get(), 0, 987654}) {
    const auto refused = adopt_listener(fd);
    ASSERT_FALSE(refused) << fd;
    EXPECT_EQ(refused.error().code, Errc::invalid_argument);
    EXPECT_NE(refused.error().message.find("descriptor " + std::to_string(fd)), std::string::npos);
  }
  RawListener socket;
  EXPECT_TRUE(adopt_listener(socket.fd()));
}

TEST_F(HandOver, ARequestThatArrivesWithTheStopIsAnswered) {
  for (int i = 0; i < 20; ++i) {
    serve([](Exchange& e) { return test_rig::say(e, "still"); }, {.stop_grace = std::chrono::milliseconds(200)});
    RawPeer client = RawPeer::connect(server->port());
    client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.read_until("still");
    std::jthread stopping([this] { stop(server); });
    client.send("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    const auto ending = client.read_to_end();
    EXPECT_TRUE(ending.bytes.ends_with("still")) << ending.bytes;
  }
}

}  // namespace
}  // namespace imagecache::http
