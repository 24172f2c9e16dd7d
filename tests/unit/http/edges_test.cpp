// What peers send that is not quite HTTP, or is so by another reading.
#include <fcntl.h>

#include <atomic>
#include <fstream>
#include <future>
#include <thread>

#include "support/temp_dir.hpp"
#include "unit/http/rig.hpp"

namespace imagecache::http {
namespace {

using test_rig::RawPeer;

class Edges : public test_rig::Rig {
 protected:
  void serve_counting(Limits limits = {}) {
    serve(
        [this](Exchange& exchange) -> base::Task<void> {
          ++handled;
          auto body = co_await exchange.read_body();
          std::string seen = std::string(exchange.method()) + " " + std::string(exchange.target()) + " " +
                             std::string(exchange.header("Host")) + " " + (body ? *body : body.error().message);
          const bool late = !body && body.error().code == Errc::timeout;
          static_cast<void>(co_await exchange.respond({.status = late ? 408U : 200U, .body = std::move(seen)}));
        },
        limits);
  }
  /// The status of the first answer, and all that came until the end.
  std::pair<int, std::string> tell(std::string_view request) {
    RawPeer peer = RawPeer::connect(server->port());
    peer.send(request);
    peer.half_close();
    const auto ending = peer.read_to_end();
    EXPECT_FALSE(ending.reset) << request;
    return {ending.bytes.size() > 12 ? std::stoi(ending.bytes.substr(9, 3)) : 0, ending.bytes};
  }
  std::atomic<int> handled = 0;
};

TEST_F(Edges, AHeadThatCanBeReadInTwoWaysIsRefusedAndNothingBehindItIsARequest) {
  serve_counting();
  const std::string next = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::pair<int, std::string> cases[] = {
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\na"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\na"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\na"},
      {400, "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
      {501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\r\n folded\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\n\tX-A: b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nX-A : b\r\n\r\n"},
      {400, "GET / HTTP/1.1\nHost: h\n\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\nX-C: d\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\rc\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nX-A: b" + std::string(1, '\0') + "c\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\n: no name\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nCONTENT_LENGTH: 2\r\n\r\na"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nKeep_Alive: 5\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nproxy_Connection: close\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {400, "GET * HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET nothing HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET http://user@host/ HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /v2/../admin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /.. HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /%2e%2E/admin?a=b HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /v2/.%2e%2fadmin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /v2%2F..%2fadmin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /v2\\admin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /v2/..%5cadmin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET http://h/../admin HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /\r\nHost: h\r\n\r\n"},
      {505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n"},
      {405, "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"},
      {405, "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n"},
  };
  for (const auto& [status, request] : cases) {
    const auto [told, all] = tell(request + next);
    EXPECT_EQ(told, status) << request;
    EXPECT_NE(all.find("Connection: close"), std::string::npos) << request;
    EXPECT_EQ(all.find("smuggled"), std::string::npos) << request;
  }
  EXPECT_EQ(handled, 0);
}

TEST_F(Edges, WhatOldAndLaxClientsSendIsUnderstood) {
  serve_counting();
  const std::pair<std::string, std::string> cases[] = {
      {"GET http://other:80/a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b=c other:80 "},
      {"GET http://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET / other "},
      {"\r\n\r\nGET /lines HTTP/1.1\r\nHost: h\r\n\r\n", "GET /lines h "},
      {"GET /old HTTP/1.0\r\n\r\n", "GET /old  "},
      {"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "GET /up h "},
      {"POST /chunks HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: u\r\n\r\n",
       "POST /chunks h abc"},
      {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", "aaa h "},
      {"GET /a..b/..c/.../%252e?to=../d%5c HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a..b/..c/.../%252e?to=../d%5c h "},
      {"GET /tab HTTP/1.1\r\nHost:\th\r\n\r\n", "GET /tab h "},
  };
  for (const auto& [request, answer] : cases) {
    const auto [status, all] = tell(request);
    EXPECT_EQ(status, 200) << request;
    EXPECT_NE(all.find(answer), std::string::npos) << request << all;
  }
  const auto [status, all] = tell("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(status, 200);
  EXPECT_NE(all.find("Allow: "), std::string::npos);
}

TEST_F(Edges, AHeadLargerThanTheLimitIs431AndALongTarget414) {
  serve_counting({.max_header_bytes = 10000});
  EXPECT_EQ(tell("GET /" + std::string(10000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n").first, 414);
  EXPECT_EQ(tell("GET / HTTP/1.1\r\nHost: h\r\nX-A: " + std::string(10000, 'a') + "\r\n\r\n").first, 431);
  EXPECT_EQ(tell("GET / HTTP/1.1\r\nHost: h\r\nX-A: " + std::string(9000, 'a') + "\r\n\r\n").first, 200);
  EXPECT_EQ(handled, 1);
}

TEST_F(Edges, ChunksThatAreNoneEndTheConnection) {
  serve_counting();
  for (const std::string chunk : {"zz\r\n", "1\nab", "-1\r\na\r\n", "2\r\nabX\r\n", "ffffffffffffffffff\r\n"}) {
    RawPeer peer = RawPeer::connect(server->port());
    peer.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk +
              "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    peer.half_close();
    EXPECT_EQ(peer.read_to_end().bytes.find("GET /smuggled"), std::string::npos) << chunk;
  }
}

TEST_F(Edges, ASenderOfSingleBytesIsGivenUp) {
  serve_counting({.body_timeout = std::chrono::milliseconds(100), .min_progress_bytes = 1000});
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
  int sent = 0;
  while (sent < 100000 && peer.is_silent(2) && peer.send("x")) ++sent;
  EXPECT_LT(sent, 1000);
  EXPECT_EQ(peer.read_until("\r\n").substr(0, 12), "HTTP/1.1 408");
}

TEST_F(Edges, AReaderWhoReadsNothingIsGivenUp) {
  imagecache::test::TempDir directory;
  std::ofstream(directory / "f").close();
  std::filesystem::resize_file(directory / "f", 64 << 20);
  const auto fd = base::open_file(directory / "f", O_RDONLY).value();
  std::promise<Result<void>> outcome;
  serve(
      [&](Exchange& exchange) -> base::Task<void> {
        outcome.set_value(co_await exchange.respond_file({}, fd.get(), 0, 64 << 20, {}));
        EXPECT_LT(exchange.body_bytes_sent(), 64U << 20);
      },
      {.body_timeout = std::chrono::milliseconds(50)});
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto sent = outcome.get_future().get();
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::timeout);
  stop(server);
}

TEST_F(Edges, AFileThatCannotBeReadIsNotTheClientsFault) {
  const auto memory = base::open_file("/proc/self/mem", O_RDONLY).value();  // nothing is mapped at its first page
  const auto directory = base::open_file("/", O_RDONLY | O_DIRECTORY).value();
  std::promise<Result<void>> outcomes[2];
  serve([&](Exchange& exchange) -> base::Task<void> {
    const bool first = exchange.path() == "/memory";
    const int fd = first ? memory.get() : directory.get();
    outcomes[first ? 0 : 1].set_value(co_await exchange.respond_file({}, fd, 0, 4096, {}));
  });
  for (const std::string path : {"/memory", "/directory"}) {
    RawPeer peer = RawPeer::connect(server->port());
    peer.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_TRUE(peer.read_to_end().bytes.ends_with("\r\n\r\n"));
    const auto sent = outcomes[path == "/memory" ? 0 : 1].get_future().get();
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code, Errc::internal) << sent.error().message;
  }
}

TEST_F(Edges, AHeadThatComesInSingleBytesHasAnEnd) {
  serve_counting({.header_timeout = std::chrono::milliseconds(100)});
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("GET / HTTP/1.1\r\nX-A: ");
  int sent = 0;
  while (sent < 20000 && peer.is_silent(2) && peer.send("x")) ++sent;
  EXPECT_LT(sent, 20000);
  EXPECT_EQ(peer.read_to_end().bytes, "");
}

TEST_F(Edges, ARefusalReachesAClientThatIsStillSending) {
  serve([](Exchange& exchange) -> base::Task<void> {
    static_cast<void>(co_await exchange.respond({.status = 413, .body = "too much"}));
  });
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 16777216\r\n\r\n");
  EXPECT_TRUE(peer.send(std::string(16 << 20, 'x')));
  const auto ending = peer.read_to_end();
  EXPECT_FALSE(ending.reset);
  EXPECT_TRUE(ending.bytes.starts_with("HTTP/1.1 413") && ending.bytes.ends_with("too much")) << ending.bytes;
}

TEST_F(Edges, OfManyMoreConnectionsThanAllowedEachIsAnsweredInItsTurn) {
  serve_counting({.max_connections = 2, .full_idle_timeout = std::chrono::milliseconds(1)});
  std::vector<RawPeer> peers;
  for (int i = 0; i < 40; ++i) {
    peers.push_back(RawPeer::connect(server->port()));
    peers.back().send("GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  for (int i = 0; i < 40; ++i) {
    const std::string head = peers[i].read_until("\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200")) << i << ": " << head;
    EXPECT_LE(server->connections(), 2U);
  }
  EXPECT_EQ(handled, 40);
  EXPECT_GT(counters.http_connections_waited, 0U);
}

TEST_F(Edges, AStopAnswersThoseWhoWaitToBeLetIn) {
  serve_counting({.max_connections = 1});
  RawPeer idle = RawPeer::connect(server->port());
  idle.send("GET /idle HTTP/1.1\r\nHost: h\r\n\r\n");
  idle.read_until("\r\n\r\n");
  std::vector<RawPeer> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(RawPeer::connect(server->port()));
    waiting.back().send("GET /w HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  stop(server);
  for (auto& peer : waiting) EXPECT_TRUE(peer.read_to_end().bytes.starts_with("HTTP/1.1 200"));
}

TEST_F(Edges, WhileSomeWaitAtAStopNobodyElseCanConnect) {
  std::atomic<bool> may_answer = false;
  serve(
      [&](Exchange& exchange) -> base::Task<void> {
        while (!may_answer) co_await base::sleep_until(base::in(std::chrono::milliseconds(1)));
        co_await test_rig::say(exchange, "");
      },
      {.max_connections = 1});
  const std::uint16_t port = server->port();
  std::vector<RawPeer> peers;
  for (int i = 0; i < 2; ++i) {
    peers.push_back(RawPeer::connect(port));
    peers.back().send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  auto stopped = std::async(std::launch::async, [&] { stop(server); });
  const auto can_connect = [port] {
    const base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  };
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (can_connect() && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  EXPECT_FALSE(can_connect());
  may_answer = true;
  for (auto& peer : peers) EXPECT_TRUE(peer.read_to_end().bytes.starts_with("HTTP/1.1 200"));
  stopped.get();
}

TEST_F(Edges, AClientThatSaysItsLastWordFirstIsAnsweredStill) {
  serve_counting();
  const auto [status, all] =
      tell("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(status, 200);
  EXPECT_NE(all.find("GET /3 h"), std::string::npos);
  EXPECT_EQ(handled, 3);
}

TEST_F(Edges, ListensOnSeveralAddressesOfEveryKind) {
  imagecache::test::TempDir directory;
  const std::string path = (directory / "s").native();
  serve_counting();
  const std::string request = "GET /x HTTP/1.0\r\n\r\n";
  Server both("both", {}, {}, [](Exchange& e) { return test_rig::say(e, std::string(e.peer())); }, io, pool, counters);
  ASSERT_TRUE(both.listen({.host = "::"}));
  ASSERT_TRUE(both.listen({.unix_path = path}));
  for (const char* address : {"127.0.0.1", "::1"}) {
    RawPeer peer = RawPeer::connect(both.port(), address);
    peer.send(request);
    EXPECT_TRUE(peer.read_to_end().bytes.ends_with(std::string("\r\n") + address));
  }
  RawPeer peer = RawPeer::connect_unix(path);
  peer.send(request);
  EXPECT_TRUE(peer.read_to_end().bytes.ends_with("\r\nunix"));

  Server six("six", {}, {}, [](Exchange& e) { return test_rig::say(e, "six"); }, io, pool, counters);
  // The same port is free where only IPv6 is taken.
  ASSERT_TRUE(six.listen({.host = "[::]", .port = server->port(), .v6_only = true}));
  EXPECT_EQ(imagecache::test::http(server->port(), "GET", "/x").body.substr(0, 6), "GET /x");
  const auto taken = six.listen({.host = "127.0.0.1", .port = server->port()});
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find("Address already in use"), std::string::npos) << taken.error().message;
  io.run(six.stop(base::in(std::chrono::seconds(10))));
  io.run(both.stop(base::in(std::chrono::seconds(10))));
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace imagecache::http
