#include "http/server.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <fstream>
#include <thread>

#include "http/router.hpp"
#include "support/http_client.hpp"
#include "support/scripted_origin.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::http {
namespace {

using test::HttpClient;

base::Task<void> echo(Exchange& exchange) {
  auto body = co_await exchange.read_body();
  Response response;
  if (!body) response.status = body.error().code == Errc::timeout ? 408 : 413;
  response.body = body ? *body : body.error().message;
  static_cast<void>(co_await exchange.respond(std::move(response)));
}

class ServerTest : public ::testing::Test {
 protected:
  void serve(Handler handler, Limits limits = {}) {
    server = std::make_unique<Server>("test", limits, UpstreamTls{}, std::move(handler), io, pool, counters);
    ASSERT_TRUE(server->listen({.host = "127.0.0.1"}));
  }
  ~ServerTest() override {
    if (server) io.run(server->stop(base::in(std::chrono::seconds(10))));
  }
  events::Counters counters{};
  base::BlockingPool pool{{.name = "read", .threads = 2}};
  base::IoThreads io{2};
  std::unique_ptr<Server> server;
};

TEST_F(ServerTest, ReadsABodyAndKeepsTheConnection) {
  serve(echo);
  HttpClient client(server->port());
  EXPECT_EQ(client.request("POST", "/", {}, "one").body, "one");
  EXPECT_EQ(client.request("POST", "/", {}, "two").body, "two");
  EXPECT_EQ(counters.http_connections_accepted, 1U);
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  serve(echo);
  HttpClient client(server->port());
  client.send(
      "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\naPOST / HTTP/1.1\r\nHost: t\r\nContent-Length: "
      "1\r\n\r\nb");
  auto first = client.read_head();
  EXPECT_EQ(client.read_body(first), "a");
  auto second = client.read_head();
  EXPECT_EQ(client.read_body(second), "b");
}

TEST_F(ServerTest, ABodyOverTheLimitIsRefusedWhetherAnnouncedOrNot) {
  serve(echo, {.max_body_bytes = 10});
  EXPECT_EQ(test::http(server->port(), "POST", "/", {}, "12345678901").status, 413);
  HttpClient client(server->port());
  client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 413);
}

TEST_F(ServerTest, WhatIsNoHttpIs400AndASlowHeadEndsTheConnection) {
  serve(echo, {.header_timeout = std::chrono::milliseconds(50)});
  HttpClient nonsense(server->port());
  nonsense.send("\x16\x03\x01\x02 nonsense\r\n\r\n");
  EXPECT_EQ(nonsense.read_head().status, 400);
  HttpClient slow(server->port());
  slow.send("GET / HTTP/1.1\r\nHos");
  EXPECT_EQ(slow.read_head().status, 0);
}

TEST_F(ServerTest, ATransferCodingThatIsNotReadIsRefusedAndNothingBehindItIsTakenForARequest) {
  serve(echo);
  HttpClient client(server->port());
  client.send(
      "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\nPOST / HTTP/1.1\r\nHost: t\r\nContent-Length: "
      "1\r\n\r\nx");
  auto answer = client.read_head();
  EXPECT_EQ(answer.status, 501);
  client.read_body(answer);
  EXPECT_EQ(client.read_head().status, 0);
  EXPECT_EQ(counters.http_requests, 0U);
}

TEST_F(ServerTest, OneConnectionTooManyWaitsUntilAnotherHasItsAnswerWhichEndsIt) {
  base::Signal entered;
  base::Signal gate;
  const auto gate_shut = gate.version();
  serve(
      [&](Exchange& exchange) -> base::Task<void> {
        entered.notify();
        co_await gate.wait_past(gate_shut);
        co_await echo(exchange);
      },
      {.max_connections = 1});
  const auto before = entered.version();
  HttpClient busy(server->port());
  busy.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx");
  while (entered.version() == before) std::this_thread::yield();
  HttpClient waits(server->port());
  waits.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\ny");
  while (counters.http_connections_waited == 0) std::this_thread::yield();
  EXPECT_EQ(counters.http_requests, 1U);
  gate.notify();
  auto answer = busy.read_head();
  EXPECT_EQ(answer.header("connection"), "close") << "who has his answer makes place";
  EXPECT_EQ(busy.read_body(answer), "x");
  answer = waits.read_head();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(waits.read_body(answer), "y");
  EXPECT_EQ(answer.header("connection"), "keep-alive") << "nobody waits any more";
  EXPECT_EQ(counters.http_connections_waited, 1U);
}

TEST_F(ServerTest, TheConnectionThatHasBeenIdleForLongestMakesPlace) {
  serve(echo, {.max_connections = 3, .full_idle_timeout = std::chrono::milliseconds(1)});
  // The first and the third have the same thread of the server's: it has left the third when it answers the first.
  HttpClient oldest(server->port());
  ASSERT_EQ(oldest.request("POST", "/", {}, "x").status, 200);
  HttpClient other(server->port());
  ASSERT_EQ(other.request("POST", "/", {}, "x").status, 200);
  HttpClient newer(server->port());
  ASSERT_EQ(newer.request("POST", "/", {}, "x").status, 200);
  ASSERT_EQ(oldest.request("POST", "/", {}, "x").status, 200);
  ASSERT_EQ(other.request("POST", "/", {}, "x").status, 200);  // now newer has been idle for longest
  HttpClient one_more(server->port());
  EXPECT_EQ(one_more.request("POST", "/", {}, "x").status, 200);
  EXPECT_EQ(newer.read_head().status, 0) << "closed without a word, as one that idles too long";
  EXPECT_EQ(oldest.request("POST", "/", {}, "x").status, 200);
  EXPECT_EQ(counters.http_connections_waited, 1U);
  EXPECT_EQ(other.request("POST", "/", {}, "x").status, 200);
  EXPECT_EQ(server->connections(), 3U);
}

TEST_F(ServerTest, AnExchangeThatIsDroppedEndsWithoutAnAnswer) {
  serve([](Exchange& exchange) -> base::Task<void> {
    exchange.drop();
    co_return;
  });
  const auto answer = test::http(server->port(), "GET", "/");
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.body, "");
}

TEST_F(ServerTest, SendsAFileAsFarAsItIsAvailable) {
  test::TempDir directory;
  const auto content = test::Content::generated(3 << 20, 1).bytes();
  std::ofstream(directory / "f", std::ios::binary) << content;
  const auto fd = base::open_file(directory / "f", O_RDONLY).value();
  serve([&](Exchange& exchange) -> base::Task<void> {
    // Half first, then all: what comes later is waited for. Unknown length: chunked.
    WaitAvailable wait = [&](std::uint64_t offset, base::Deadline) -> base::Task<Result<std::uint64_t>> {
      co_return offset == 0 ? content.size() / 2 : content.size();
    };
    const bool chunked = exchange.path() == "/chunked";
    const auto length = chunked ? std::optional<std::uint64_t>() : content.size();
    static_cast<void>(co_await exchange.respond_file({}, fd.get(), 0, length, wait));
  });
  const auto plain = test::http(server->port(), "GET", "/");
  EXPECT_TRUE(plain.complete && plain.body == content);
  const auto chunked = test::http(server->port(), "GET", "/chunked");
  EXPECT_EQ(chunked.header("transfer-encoding"), "chunked");
  EXPECT_TRUE(chunked.complete && chunked.body == content);
  io.run(server->stop(base::in(std::chrono::seconds(10))));  // before the file is closed
  server.reset();
}

TEST_F(ServerTest, ShortPartsAreRightInMemoryAndAfterTheirPagesHaveGone) {
  test::TempDir directory;
  const auto content = test::Content::generated(8 << 20, 1).bytes();
  std::ofstream(directory / "f", std::ios::binary) << content;
  const auto fd = base::open_file(directory / "f", O_RDWR).value();
  constexpr std::uint64_t part = 64 << 10;
  serve([&](Exchange& exchange) -> base::Task<void> {
    const std::uint64_t offset = std::stoull(std::string(exchange.path().substr(1)));
    static_cast<void>(co_await exchange.respond_file({}, fd.get(), offset, part, {}));
  });
  HttpClient client(server->port());
  // So many on one connection that the server has come to rely on finding them in memory; then they are not.
  for (std::uint64_t i = 0; i < 60; ++i) {
    if (i == 40) {
      ASSERT_EQ(::fdatasync(fd.get()), 0);
      ASSERT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    }
    const std::uint64_t offset = i * 130'001;
    const auto answer = client.request("GET", "/" + std::to_string(offset));
    ASSERT_EQ(answer.status, 200);
    ASSERT_TRUE(answer.body == content.substr(offset, part)) << "at " << offset;
  }
  io.run(server->stop(base::in(std::chrono::seconds(10))));  // before the file is closed
  server.reset();
}

TEST_F(ServerTest, AHandlerThatThrowsIs500AndTheServerGoesOn) {
  serve([](Exchange& exchange) -> base::Task<void> {
    if (exchange.path() == "/bad") throw std::runtime_error("a bug");
    co_await echo(exchange);
  });
  EXPECT_EQ(test::http(server->port(), "GET", "/bad").status, 500);
  EXPECT_EQ(test::http(server->port(), "POST", "/", {}, "x").body, "x");
}

TEST_F(ServerTest, APassedThroughAnswerThatBreaksOffIsNotCompleted) {
  test::ScriptedOrigin origin;
  const auto id = origin.add({.content = test::Content::generated(2 << 20, 2)});
  origin.script(id, [](test::ImageScript& s) {
    s.file.chunked = true;
    s.file.hang_up_at = 1 << 20;
  });
  serve([&](Exchange& exchange) -> base::Task<void> {
    static_cast<void>(co_await exchange.pass_through({.url = origin.url()}));
  });
  const auto answer = test::http(server->port(), "GET", test::file_path(id));
  EXPECT_EQ(answer.status, 200);
  EXPECT_FALSE(answer.complete);
}

TEST_F(ServerTest, AnUpstreamIsAskedWithoutAnsweringTheClient) {
  test::ScriptedOrigin origin;
  origin.answer("GET", "/v2/things", {.status = 403, .headers = {{"X-Why", "no"}}, .body = "forbidden"});
  serve([&](Exchange& exchange) -> base::Task<void> {
    auto asked = co_await exchange.ask_upstream({.url = origin.url(), .target = "/v2/things?a=1"}, 1024);
    EXPECT_FALSE(exchange.answered());
    const auto too_large = co_await exchange.ask_upstream({.url = origin.url(), .target = "/v2/things"}, 4);
    EXPECT_FALSE(too_large);
    Response response;
    if (asked) response = std::move(*asked);
    response.headers.emplace_back("X-Asked", asked ? "yes" : asked.error().message);
    static_cast<void>(co_await exchange.respond(std::move(response)));
  });
  HttpClient client(server->port());
  const auto answer = client.request("GET", "/else", {"X-Forwarded-For: 192.0.2.7", "X-Auth-Token: t"});
  EXPECT_EQ(answer.header("x-asked"), "yes");
  EXPECT_EQ(answer.status, 403);
  EXPECT_EQ(answer.body, "forbidden");
  EXPECT_EQ(answer.header("x-why"), "no");
  const auto seen = origin.last_request("GET", "/v2/things").value();
  EXPECT_EQ(seen.header("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
  EXPECT_EQ(seen.header("x-forwarded-proto"), "http");
  EXPECT_EQ(seen.header("x-forwarded-host"), "test");
  EXPECT_EQ(seen.header("via"), "1.1 cinder-image-cache");
  EXPECT_EQ(seen.header("x-auth-token"), "t");
  EXPECT_EQ(client.request("PUT", "/else", {}, "x").header("x-asked").substr(0, 3), "PUT");
}

TEST_F(ServerTest, AStaleUnixSocketIsReplacedAndAFileIsNot) {
  test::TempDir directory;
  const std::string path = (directory / "s").native();
  {
    const base::Fd stale(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(stale.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  server = std::make_unique<Server>("test", Limits{}, UpstreamTls{}, echo, io, pool, counters);
  EXPECT_TRUE(server->listen({.unix_path = path}));
  std::ofstream(directory / "file") << "x";
  const auto refused = server->listen({.unix_path = (directory / "file").native()});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("not a socket"), std::string::npos);
}

TEST_F(ServerTest, AStopEndsIdleConnectionsAndLetsABusyOneEnd) {
  base::Signal entered;
  base::Signal gate;
  const auto gate_shut = gate.version();
  serve([&](Exchange& exchange) -> base::Task<void> {
    entered.notify();
    co_await gate.wait_past(gate_shut);
    co_await echo(exchange);
  });
  HttpClient idle(server->port());
  HttpClient busy(server->port());
  const auto before = entered.version();
  busy.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx");
  while (entered.version() == before) std::this_thread::yield();
  std::jthread stopping([&] { io.run(server->stop(base::in(std::chrono::seconds(10)))); });
  EXPECT_EQ(idle.read_head().status, 0);
  gate.notify();
  auto answer = busy.read_head();
  EXPECT_EQ(busy.read_body(answer), "x");
}

TEST(Router, FindsByPatternAndSays405WithAllow) {
  Router router;
  std::string seen;
  router.add("GET", "/v1/things/{id}", [&](Exchange&, const PathParameters& p) -> base::Task<void> {
    seen = p.at("id");
    co_return;
  });
  events::Counters counters{};
  base::BlockingPool pool({.name = "read", .threads = 1});
  base::IoThreads io(1);
  Server server("test", {}, {}, [&](Exchange& e) { return router.handle(e); }, io, pool, counters);
  ASSERT_TRUE(server.listen({.host = "127.0.0.1"}));
  EXPECT_EQ(test::http(server.port(), "GET", "/v1/things/a%2Fb").status, 500);  // the handler said nothing
  EXPECT_EQ(seen, "a/b");
  const auto wrong = test::http(server.port(), "PUT", "/v1/things/x");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.header("allow"), "GET");
  EXPECT_EQ(test::http(server.port(), "GET", "/v1/things").status, 404);
  io.run(server.stop(base::in(std::chrono::seconds(10))));
}

}  // namespace
}  // namespace imagecache::http
