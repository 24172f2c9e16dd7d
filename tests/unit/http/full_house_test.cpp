// All places are taken, and somebody wants to be let in: who goes, and who is left in peace.
#include <thread>
#include <vector>

#include "http/idle_order.hpp"
#include "support/temp_dir.hpp"
#include "unit/http/certificates.hpp"
#include "unit/http/rig.hpp"

namespace imagecache::http {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using test_rig::RawPeer;

constexpr auto request = "GET /healthcheck HTTP/1.1\r\nHost: h\r\n\r\n";
constexpr auto half_a_head = "GET / HTTP/1.1\r\nHo";
constexpr auto the_other_half = "st: h\r\n\r\n";
constexpr auto half_a_hello = "\x16\x03\x01";

class FullHouse : public test_rig::Rig {
 protected:
  void serve_quickly(Limits limits, std::optional<ServerTls> tls = {}) {
    limits.header_timeout = hours(1);
    limits.idle_timeout = hours(1);
    serve([](Exchange& e) { return test_rig::say(e, "well"); }, limits, std::move(tls));
  }
  /// So many connect one after the other, say this, and are in.
  std::vector<RawPeer> peers_that_say(std::string_view words, std::size_t how_many) {
    std::vector<RawPeer> peers;
    const auto before = server->connections();
    for (std::size_t i = 1; i <= how_many; ++i) {
      peers.push_back(RawPeer::connect(server->port()));
      peers.back().send(words);
      while (server->connections() < before + i) std::this_thread::yield();
    }
    return peers;
  }
  static int how_many_are_answered(std::vector<RawPeer>& peers, std::string_view words) {
    int answered = 0;
    for (auto& peer : peers) {
      peer.send(words);
      const auto answer = peer.read_until("well");
      EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 200")) << answer;
      if (!answer.empty()) ++answered;
    }
    return answered;
  }
  static bool is_well(RawPeer& peer) {
    peer.send(request);
    return peer.read_until("well").starts_with("HTTP/1.1 200");
  }
};

TEST_F(FullHouse, ClientsThatConnectAndSayNothingKeepNobodyOut) {
  serve_quickly({.max_connections = 3, .full_idle_timeout = milliseconds(1)});
  auto silent = peers_that_say("", 3);
  RawPeer health = RawPeer::connect(server->port());
  EXPECT_TRUE(is_well(health));
  EXPECT_EQ(how_many_are_answered(silent, request), 2) << "one made place, and nobody else";
  EXPECT_EQ(counters.http_connections_displaced, 1U);
}

TEST_F(FullHouse, NorDoThoseThatBeginAHeadAndDoNotEndIt) {
  serve_quickly({.max_connections = 2, .full_idle_timeout = milliseconds(1), .full_header_timeout = milliseconds(1)});
  auto slow = peers_that_say(half_a_head, 2);
  RawPeer health = RawPeer::connect(server->port());
  EXPECT_TRUE(is_well(health));
  EXPECT_EQ(how_many_are_answered(slow, the_other_half), 1);
  EXPECT_EQ(counters.http_connections_displaced, 1U);
}

TEST_F(FullHouse, ByTlsNeitherKeepsAnybodyOut) {
  imagecache::test::TempDir directory;
  test_rig::Authority authority("authority");
  const std::string pem = (directory / "server.pem").native();
  authority.issue(pem, "server");
  for (const auto* words : {"", half_a_hello}) {
    serve_quickly({.max_connections = 2, .full_idle_timeout = milliseconds(1), .full_header_timeout = milliseconds(1)},
                  ServerTls{.cert_file = pem, .key_file = {}, .client_ca_file = {}});
    auto peers = peers_that_say(words, 2);
    const auto one_more = RawPeer::connect(server->port());
    while (peers[0].is_silent(0) && peers[1].is_silent(0)) std::this_thread::yield();
    EXPECT_NE(peers[0].is_silent(0), peers[1].is_silent(0)) << "one made place, and nobody else";
    peers.clear();
    stop(server);
  }
}

TEST_F(FullHouse, WhoIsSilentGoesAndWhoHasBegunIsServed) {
  serve_quickly({.max_connections = 2, .full_idle_timeout = milliseconds(1), .full_header_timeout = hours(1)});
  auto silent = peers_that_say("", 1);
  auto slow = peers_that_say(half_a_head, 1);
  RawPeer health = RawPeer::connect(server->port());
  EXPECT_TRUE(is_well(health));
  EXPECT_EQ(silent[0].read_to_end().bytes, "") << "closed without a word, as one that idles too long";
  EXPECT_EQ(how_many_are_answered(slow, the_other_half), 1);
}

TEST_F(FullHouse, ASlowHeadHasItsTimeThoughSomebodyWaits) {
  serve_quickly({.max_connections = 1, .full_idle_timeout = hours(1), .full_header_timeout = hours(1)});
  auto slow = peers_that_say(half_a_head, 1);
  RawPeer health = RawPeer::connect(server->port());
  health.send(request);
  while (counters.http_connections_waited < 1) std::this_thread::yield();
  slow[0].send(the_other_half);
  const auto answer = slow[0].read_to_end().bytes;
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_NE(answer.find("Connection: close"), std::string::npos) << "its answer makes place";
  EXPECT_TRUE(health.read_until("well").starts_with("HTTP/1.1 200"));
  EXPECT_EQ(counters.http_connections_displaced, 0U);
}

TEST_F(FullHouse, WhileThereIsRoomSilenceIsNobodysBusiness) {
  serve_quickly({.max_connections = 3, .full_idle_timeout = milliseconds(0), .full_header_timeout = milliseconds(0)});
  auto silent = peers_that_say("", 1);
  auto slow = peers_that_say(half_a_head, 1);
  RawPeer health = RawPeer::connect(server->port());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(is_well(health));
  EXPECT_TRUE(is_well(silent[0]));
  slow[0].send(the_other_half);
  EXPECT_TRUE(slow[0].read_until("well").starts_with("HTTP/1.1 200"));
  EXPECT_EQ(counters.http_connections_displaced, 0U);
}

class Order : public ::testing::Test {
 protected:
  using For = IdleOrder::For;
  IdleOrder::Time at(int ms) const { return start + milliseconds(ms); }
  const IdleOrder::Time start = std::chrono::steady_clock::now();
  IdleOrder order{milliseconds(10), milliseconds(50)};
  IdleOrder::Place a{nullptr}, b{nullptr}, c{nullptr};
  ~Order() override {
    for (auto* each : {&a, &b, &c}) order.leave(*each);
  }
};

TEST_F(Order, WhoCameBackLastIsLast) {
  order.enter(a, For::request, at(0));
  order.enter(b, For::request, at(1));
  order.leave(a);
  order.enter(a, For::request, at(2));
  EXPECT_EQ(order.choose(3, at(10)), nullptr) << "nobody has waited long enough";
  EXPECT_EQ(order.choose(3, at(20)), &b);
  EXPECT_EQ(order.choose(3, at(20)), &a);
  EXPECT_EQ(order.choose(3, at(20)), nullptr);
}

TEST_F(Order, WhoHasBegunGoesOnlyWhereNobodyIsSilent) {
  order.enter(a, For::rest_of_head, at(0));
  order.enter(b, For::request, at(45));
  EXPECT_EQ(order.choose(1, at(49)), nullptr);
  EXPECT_EQ(order.choose(1, at(55)), &b);
  EXPECT_EQ(order.choose(2, at(55)), &a);
}

TEST_F(Order, NoMoreGoThanAreWanted) {
  order.enter(a, For::request, at(0));
  order.enter(b, For::request, at(0));
  order.enter(c, For::request, at(0));
  EXPECT_EQ(order.choose(1, at(20)), &a);
  EXPECT_EQ(order.choose(1, at(20)), nullptr) << "one is on his way out";
  EXPECT_TRUE(order.is_going(a));
  order.leave(a);  // his request came after all
  EXPECT_FALSE(order.is_going(a));
  EXPECT_EQ(order.choose(1, at(20)), &b);
  order.leave(b);
  order.go(c);  // by himself
  order.enter(a, For::request, at(0));
  EXPECT_EQ(order.choose(1, at(20)), nullptr);
  EXPECT_EQ(order.choose(2, at(20)), &a);
}

}  // namespace
}  // namespace imagecache::http
