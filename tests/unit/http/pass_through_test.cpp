// Requests that are passed on: to upstreams that answer early, late, half or never.
#include <thread>

#include "unit/http/rig.hpp"

namespace imagecache::http {
namespace {

using test_rig::RawListener;
using test_rig::RawPeer;

class PassThrough : public test_rig::Rig {
 protected:
  void pass_to(std::string url, Limits limits = {}) {
    serve(
        [url](Exchange& exchange) -> base::Task<void> {
          auto passed = co_await exchange.pass_through({.url = url});
          if (!passed && !exchange.answered()) {
            static_cast<void>(co_await exchange.respond({.status = 502, .body = passed.error().message}));
          }
        },
        limits);
  }
  RawListener origin;
};

TEST_F(PassThrough, AnOriginThatKnowsNothingOfExpectGetsTheBodyAfterAShortWait) {
  pass_to(origin.url(), {.continue_wait = std::chrono::milliseconds(20)});
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    EXPECT_NE(peer.read_until("\r\n\r\n").find("Expect: 100-continue"), std::string::npos);
    EXPECT_EQ(peer.read_exactly(4), "body");
    peer.send("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
  });
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  EXPECT_TRUE(client.read_until("ok").starts_with("HTTP/1.1 201"));
}

TEST_F(PassThrough, AnOriginThatRefusesBeforeTheBodyIsHeardAndTheClientNeverAsked) {
  pass_to(origin.url(), {.linger_silence = std::chrono::milliseconds(20)});
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    EXPECT_EQ(peer.read_to_end().bytes, "");
  });
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  const auto ending = client.read_to_end();
  EXPECT_TRUE(ending.bytes.starts_with("HTTP/1.1 403") && ending.bytes.ends_with("no")) << ending.bytes;
}

TEST_F(PassThrough, AnEarlyRefusalReachesAClientThatIsStillSending) {
  pass_to(origin.url());
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much");
  });  // closed with much unread: a reset follows
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n");
  EXPECT_TRUE(client.send(std::string(32 << 20, 'x')));
  const auto ending = client.read_to_end();
  EXPECT_FALSE(ending.reset);
  EXPECT_TRUE(ending.bytes.starts_with("HTTP/1.1 413") && ending.bytes.ends_with("too much")) << ending.bytes;
}

TEST_F(PassThrough, AnOriginMayAnswerWhileItReads) {
  pass_to(origin.url());
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    peer.read_until("\r\n\r\n");
    peer.read_until("ping\r\n");
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n");
    peer.read_until("0\r\n\r\n");
    peer.send("3\r\nend\r\n0\r\n\r\n");
  });
  RawPeer client = RawPeer::connect(server->port());
  client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n");
  client.read_until("4\r\npong\r\n");
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "3\r\nend\r\n0\r\n\r\n");
}

TEST_F(PassThrough, AClientThatBreaksOffItsBodyEndsTheRequestUpstream) {
  pass_to(origin.url());
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf");
  RawPeer peer = origin.accept();
  peer.read_until("\r\n\r\nhalf");
  client.close();
  EXPECT_EQ(peer.read_to_end().bytes, "");
}

TEST_F(PassThrough, HalfAHeadAndThenSilenceIsGivenUpOnceTheBodyIsSent) {
  pass_to(origin.url(), {.upstream_timeout = std::chrono::milliseconds(100)});
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf");
  RawPeer peer = origin.accept();
  peer.read_until("\r\n\r\nhalf");
  client.send("done");
  peer.read_exactly(4);
  peer.send("HTTP/1.1 200 OK\r\nContent-");
  EXPECT_TRUE(client.read_until("\r\n").starts_with("HTTP/1.1 502"));
  EXPECT_EQ(peer.read_to_end().bytes, "");
}

TEST_F(PassThrough, WhoThrowsAtTheSightOfTheAnswerStopsTheBodyFirst) {
  serve([url = origin.url()](Exchange& exchange) -> base::Task<void> {
    Upstream upstream{.url = url};
    upstream.on_answer = [](Response&) -> base::Task<bool> {
      throw std::runtime_error("a bug");
      co_return true;
    };
    static_cast<void>(co_await exchange.pass_through(std::move(upstream)));
  });
  std::jthread answering([this] {
    for (int i = 0; i < 2; ++i) {
      RawPeer peer = origin.accept();
      peer.read_until(i == 0 ? "half" : "\r\n\r\n");
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      EXPECT_EQ(peer.read_to_end().bytes, "");
    }
  });
  RawPeer client = RawPeer::connect(server->port());
  client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf");
  EXPECT_TRUE(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 500"));
  client.close();
  EXPECT_EQ(imagecache::test::http(server->port(), "GET", "/").status, 500);
}

TEST_F(PassThrough, AnHttp10ClientSeesThatAnAnswerBrokeOff) {
  pass_to(origin.url());
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
  });
  RawPeer client = RawPeer::connect(server->port());
  client.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(client.read_to_end().reset);
}

TEST_F(PassThrough, AConnectionIsUsedAgainAndAStaleOneReplacedUnseen) {
  pass_to(origin.url());
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  std::jthread answering([&] {
    RawPeer first = origin.accept();
    for (int i = 0; i < 2; ++i) {
      first.read_until("\r\n\r\n");
      first.send(answer);
    }
    first.read_until("\r\n\r\n");  // the third is taken and never answered
    first.close();
    RawPeer second = origin.accept();
    second.read_until("\r\n\r\n");
    second.send(answer);
  });
  imagecache::test::HttpClient client(server->port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.request("GET", "/").body, "ok") << i;
}

TEST_F(PassThrough, AConnectionThatNobodyUsesIsClosed) {
  pass_to(origin.url(), {.upstream_idle_timeout = std::chrono::milliseconds(20)});
  std::jthread answering([&] {
    RawPeer first = origin.accept();
    first.read_until("\r\n\r\n");
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    EXPECT_EQ(first.read_to_end().bytes, "");
  });
  EXPECT_EQ(imagecache::test::http(server->port(), "GET", "/").body, "ok");
}

TEST_F(PassThrough, AConnectionThatCarriedABodyIsNotUsedAgain) {
  pass_to(origin.url());
  std::jthread answering([&] {
    RawPeer first = origin.accept();
    EXPECT_EQ(first.read_until("body").substr(0, 3), "PUT");
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    EXPECT_EQ(first.read_to_end().bytes, "");
    RawPeer second = origin.accept();
    EXPECT_EQ(second.read_until("\r\n\r\n").substr(0, 3), "GET");
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  imagecache::test::HttpClient client(server->port());
  EXPECT_EQ(client.request("PUT", "/", {}, "body").body, "ok");
  EXPECT_EQ(client.request("GET", "/").body, "ok");
}

TEST_F(PassThrough, ANameWithAnUnderscoreIsNotPassedOn) {
  serve([url = origin.url()](Exchange& exchange) -> base::Task<void> {
    if (exchange.method() == "GET") EXPECT_TRUE(co_await exchange.ask_upstream({.url = url}, 100));
    EXPECT_TRUE(co_await exchange.pass_through({.url = url}));
  });
  std::jthread answering([&] {
    for (int i = 0; i < 3; ++i) {  // asked, passed on, passed on with a body
      RawPeer peer = origin.accept();
      const std::string head = peer.read_until("\r\n\r\n");
      EXPECT_EQ(head.find('_'), std::string::npos) << head;
      EXPECT_NE(head.find("X-Roles: member"), std::string::npos) << head;
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
  });
  imagecache::test::HttpClient client(server->port());
  const std::vector<std::string> headers{"X_Roles: admin", "X-Identity_Status: Confirmed", "X-Roles: member"};
  EXPECT_EQ(client.request("GET", "/", headers).body, "ok");
  EXPECT_EQ(client.request("POST", "/", headers, "body").body, "ok");
}

TEST_F(PassThrough, ARequestThatMayNotBeRepeatedIsNot) {
  pass_to(origin.url());
  std::jthread answering([&] {
    RawPeer first = origin.accept();
    first.read_until("\r\n\r\n");
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    RawPeer second = origin.accept();  // a POST gets a connection of its own
    EXPECT_TRUE(second.read_until("\r\n\r\n").starts_with("POST"));
  });
  imagecache::test::HttpClient client(server->port());
  EXPECT_EQ(client.request("GET", "/").body, "ok");
  EXPECT_EQ(client.request("POST", "/").status, 502);
}

TEST_F(PassThrough, WhoPassesOnSeesTheAnswersHeadFirstAndMayAnswerInItsPlace) {
  serve([url = origin.url()](Exchange& exchange) -> base::Task<void> {
    const bool refuse = exchange.path() == "/refuse";
    Upstream upstream{.url = url, .drop = {"X-Secret"}};
    upstream.on_answer = [refuse](Response& head) -> base::Task<bool> {
      head.headers.emplace_back("X-Seen", std::to_string(head.status));
      co_return !refuse;
    };
    EXPECT_TRUE(co_await exchange.pass_through(std::move(upstream)));
    EXPECT_EQ(exchange.answered(), !refuse);
    if (refuse) static_cast<void>(co_await exchange.respond({.status = 410, .body = "gone"}));
  });
  std::jthread answering([this] {
    for (int i = 0; i < 2; ++i) {
      RawPeer peer = origin.accept();
      EXPECT_EQ(peer.read_until("\r\n\r\n").find("X-Secret"), std::string::npos);
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
  });
  imagecache::test::HttpClient client(server->port());
  const auto shown = client.request("GET", "/show", {"X-Secret: s"});
  EXPECT_EQ(shown.header("x-seen"), "200");
  EXPECT_EQ(shown.body, "ok");
  const auto refused = client.request("PUT", "/refuse", {"X-Secret: s"}, "body");
  EXPECT_EQ(refused.status, 410);
  EXPECT_EQ(refused.body, "gone");
}

TEST_F(PassThrough, AnAnswerWithoutFramingIsChunkedForTheClient) {
  pass_to(origin.url());
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
  });
  imagecache::test::HttpClient client(server->port());
  const auto answer = client.request("GET", "/");
  EXPECT_EQ(answer.header("transfer-encoding"), "chunked");
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.body, "until the end");
}

TEST_F(PassThrough, ASwitchOfProtocolsIsNotPassedOn) {
  pass_to(origin.url());
  std::jthread answering([this] {
    RawPeer peer = origin.accept();
    EXPECT_EQ(peer.read_until("\r\n\r\n").find("Upgrade"), std::string::npos);
    peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
  });
  imagecache::test::HttpClient client(server->port());
  EXPECT_EQ(client.request("GET", "/", {"Connection: upgrade", "Upgrade: x"}).status, 502);
}

}  // namespace
}  // namespace imagecache::http
