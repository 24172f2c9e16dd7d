// Image downloads through the whole daemon.

#include <latch>

#include "base/digest.hpp"
#include "service/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = 1 << 20;

TEST(ImageApi, SixtyFourReadersOfAnUncachedImageCostOneDownload) {
  Daemon daemon;
  const auto content = Content::generated(8 * mib, 1);
  const auto id = daemon.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({4 * mib, gate}); });
  std::atomic<int> right = 0;
  std::latch under_way(64);
  std::vector<std::jthread> readers;
  for (int i = 0; i < 64; ++i) {
    readers.emplace_back([&] {
      HttpClient client(daemon.service->image_api_port());
      client.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\n\r\n");
      auto answer = client.read_head();
      std::string body = client.read_body(answer, mib);
      under_way.count_down();
      body += client.read_body(answer);
      if (answer.status == 200 && answer.complete && body == content.bytes()) ++right;
    });
  }
  under_way.wait();
  gate->open();
  readers.clear();
  EXPECT_EQ(right, 64);
  EXPECT_EQ(daemon.origin.body_bytes(id), 8 * mib);
  EXPECT_EQ(daemon.origin.downloads(id), 1U);
  EXPECT_EQ(daemon.counters().image_misses, 1U);
  EXPECT_EQ(daemon.counters().image_collapsed, 63U);
}

TEST(ImageApi, TheOthersGoOnWhenTheFirstLeavesAtAThirdAndTheOriginBreaks) {
  Daemon daemon;
  const auto content = Content::generated(9 * mib, 2);
  const auto id = daemon.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(id, [&](ImageScript& s) {
    s.file.gates.push_back({3 * mib, gate});
    s.file.hang_up_at = 6 * mib;
    s.file.hang_up_times = 1;
  });
  HttpClient first(daemon.service->image_api_port());
  first.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\n\r\n");
  auto head = first.read_head();
  ASSERT_EQ(first.read_body(head, mib).size(), mib);
  HttpClient second(daemon.service->image_api_port());
  second.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\n\r\n");
  auto answer = second.read_head();
  first.close();
  gate->open();
  EXPECT_EQ(second.read_body(answer), content.bytes());
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.header("cache-status"), "cinder-image-cache; fwd=miss; collapsed");
  EXPECT_EQ(daemon.origin.body_bytes(id), 9 * mib);
}

TEST(ImageApi, AHitHasGlancesHeadersAndItsLength) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 3);
  const auto id = daemon.origin.add({.content = content});
  ASSERT_EQ(daemon.image("GET", file_path(id)).body, content.bytes());
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  const auto hit = daemon.image("GET", file_path(id));
  EXPECT_EQ(hit.status, 200);
  EXPECT_EQ(hit.body, content.bytes());
  EXPECT_EQ(hit.header("content-type"), "application/octet-stream");
  EXPECT_EQ(hit.header("content-md5"), content.md5());
  EXPECT_EQ(hit.header("content-length"), std::to_string(2 * mib));
  EXPECT_EQ(hit.header("cache-status"), "cinder-image-cache; hit");
  EXPECT_EQ(hit.header("x-openstack-request-id").substr(0, 4), "req-");
  EXPECT_EQ(daemon.counters().image_hits, 1U);
}

TEST(ImageApi, RangesOfACachedImageComeFromTheCache) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 4);
  const auto id = daemon.origin.add({.content = content});
  ASSERT_EQ(daemon.image("GET", file_path(id)).status, 200);
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  const auto part = daemon.image("GET", file_path(id), {"Range: bytes=1000-1999"});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.header("content-range"), "bytes 1000-1999/2097152");
  EXPECT_EQ(part.body, content.bytes(1000, 1000));
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=-10"}).body, content.bytes(2 * mib - 10, 10));
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=2097000-"}).body, content.bytes(2097000));
  EXPECT_EQ(daemon.origin.downloads(id), 1U);
  // What cannot be served from here the origin answers in its own words.
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=99999999-"}).status, 416);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=0-1,4-5"}).status, 400);
}

TEST(ImageApi, TheOriginDecidesForEachCallerAlsoOnAHit) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 5)});
  ASSERT_EQ(daemon.image("GET", file_path(id)).status, 200);
  daemon.origin.answer_token("expired", 401);
  daemon.origin.answer_token("stranger", 404);
  daemon.origin.answer_token("denied", 403);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: expired"}).status, 401);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: stranger"}).status, 404);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: denied"}).status, 403);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=0-9", "X-Auth-Token: stranger"}).status, 404);
}

TEST(ImageApi, NobodyCompletesABodyWhoseDigestIsWrong) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(4 * mib, 6)});
  daemon.origin.script(id, [&](ImageScript& s) { s.file.wrong_bytes = {3 * mib}; });
  const auto answer = daemon.image("GET", file_path(id));
  EXPECT_FALSE(answer.complete);
  EXPECT_LT(answer.body.size(), 4 * mib);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
}

TEST(ImageApi, WhatTheOriginCannotAnswerProperlyIsAnErrorAndNeverCached) {
  Daemon daemon({.service = "fill_attempts = 1\n"});
  struct Case {
    const char* name;
    std::function<void(ImageScript&)> script;
    int status;  // 0: the body is cut short
  };
  const std::vector<Case> cases = {
      {"HTML with 200 for the record", [](ImageScript& s) { s.describe.html_with_200 = true; }, 503},
      {"a redirect loop", [](ImageScript& s) { s.describe.redirect_to = "self"; }, 503},
      {"a record that never ends", [](ImageScript& s) { s.describe.endless = true; }, 503},
      {"no data", [](ImageScript& s) { s.file.no_data = true; }, 204},
      {"a short body",
       [](ImageScript& s) {
         s.file.end_at = mib;
         s.file.chunked = true;
       },
       0},
      {"an endless body", [](ImageScript& s) { s.file.endless = true; }, 0},
  };
  std::uint64_t seed = 100;
  for (const auto& [name, script, status] : cases) {
    const auto id = daemon.origin.add({.content = Content::generated(4 * mib, ++seed)});
    daemon.origin.script(id, script);
    const auto answer = daemon.image("GET", file_path(id));
    if (status != 0) {
      EXPECT_EQ(answer.status, status) << name << ": " << answer.body;
    } else {
      EXPECT_FALSE(answer.status == 200 && answer.complete) << name;
    }
    while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
    EXPECT_FALSE(daemon.service->images().is_cached(id)) << name;
  }
}

TEST(ImageApi, AnImageTooLargeForTheCachePassesThrough) {
  Daemon daemon({.defaults = "image_cache_max_size = 1048576\n"});
  const auto content = Content::generated(4 * mib, 7);
  const auto id = daemon.origin.add({.content = content});
  EXPECT_EQ(daemon.image("GET", file_path(id)).body, content.bytes());
  EXPECT_EQ(daemon.counters().image_passes, 1U);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
}

TEST(ImageApi, EverythingElseGoesThroughUntouched) {
  Daemon daemon;
  daemon.origin.answer("POST", "/v2/images",
                       {.status = 201, .headers = {{"Location", "/v2/images/x"}}, .body = "{\"id\": \"x\"}"});
  const auto made = daemon.image("POST", "/v2/images?a=b", {"Content-Type: application/json", "X-Auth-Token: t"},
                                 "{\"name\": \"n\"}");
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(made.body, "{\"id\": \"x\"}");
  EXPECT_EQ(made.header("location"), "/v2/images/x");
  const auto seen = daemon.origin.last_request("POST", "/v2/images");
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->target, "/v2/images?a=b");
  EXPECT_EQ(seen->header("x-auth-token"), "t");
  EXPECT_EQ(seen->header("x-openstack-request-id").substr(0, 4), "req-");
  EXPECT_EQ(seen->body_start, "{\"name\": \"n\"}");
}

TEST(ImageApi, AnUploadIsStreamedChunkedOrNotAndWithExpect) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 8), .status = "queued"});
  const std::string data = Content::generated(3 * mib, 9).bytes();
  const auto plain = daemon.image("PUT", file_path(id), {"Content-Type: application/octet-stream"}, data);
  EXPECT_EQ(plain.status, 204);
  EXPECT_EQ(daemon.origin.last_request("PUT", file_path(id))->body_bytes, data.size());

  HttpClient client(daemon.service->image_api_port());
  client.send("PUT " + file_path(id) +
              " HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 100);
  client.send("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 204);
  EXPECT_EQ(daemon.origin.last_request("PUT", file_path(id))->body_start, "hello world");
}

TEST(ImageApi, ADeletedImageLeavesTheCacheAtOnce) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 10)});
  ASSERT_EQ(daemon.image("GET", file_path(id)).status, 200);
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  ASSERT_TRUE(std::filesystem::exists(daemon.cache_dir() / id));
  EXPECT_EQ(daemon.image("DELETE", describe_path(id)).status, 204);
  EXPECT_FALSE(std::filesystem::exists(daemon.cache_dir() / id));
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.image("GET", file_path(id)).status, 404);
}

TEST(ImageApi, AConnectionServesOneRequestAfterAnother) {
  Daemon daemon;
  const auto content = Content::generated(mib, 11);
  const auto id = daemon.origin.add({.content = content});
  HttpClient client(daemon.service->image_api_port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.request("GET", file_path(id)).body, content.bytes());
  EXPECT_EQ(client.request("GET", describe_path(id)).status, 200);
  EXPECT_EQ(daemon.counters().http_connections_accepted, 1U);
}

TEST(ImageApi, AnOldClientGetsAnAnswerItUnderstands) {
  Daemon daemon;
  const auto content = Content::generated(mib, 12);
  const auto id = daemon.origin.add({.content = content});
  HttpClient client(daemon.service->image_api_port());
  client.send("GET " + file_path(id) + " HTTP/1.0\r\n\r\n");
  auto answer = client.read_head();
  EXPECT_EQ(client.read_body(answer), content.bytes());
  EXPECT_EQ(answer.header("transfer-encoding"), "");
  EXPECT_EQ(answer.header("connection"), "close");
}

TEST(ImageApi, AHeadThatIsTooLargeIsRefused) {
  Daemon daemon({.service = "max_header_bytes = 4096\n"});
  const auto answer = daemon.image("GET", "/v2/images", {"X-Long: " + std::string(10000, 'x')});
  EXPECT_EQ(answer.status, 431);
}

TEST(ImageApi, TheOriginBeingAwayIs503AndItsReturnMendsIt) {
  Daemon daemon;
  const auto content = Content::generated(mib, 13);
  const auto id = daemon.origin.add({.content = content});
  daemon.origin.go_down();
  EXPECT_EQ(daemon.image("GET", file_path(id)).status, 503);
  daemon.origin.come_back();
  EXPECT_EQ(daemon.image("GET", file_path(id)).body, content.bytes());
}

TEST(ImageApi, AStopLetsADownloadEnd) {
  Daemon daemon;
  const auto content = Content::generated(6 * mib, 14);
  const auto id = daemon.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({3 * mib, gate}); });
  HttpClient client(daemon.service->image_api_port());
  client.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\n\r\n");
  auto answer = client.read_head();
  ASSERT_TRUE(gate->wait_arrived());
  std::jthread stopping([&] { daemon.service->stop(); });
  gate->open();
  EXPECT_EQ(client.read_body(answer), content.bytes());
  EXPECT_TRUE(answer.complete);
}

TEST(Service, AStateDirectoryThatIsHeldIsRefused) {
  Daemon daemon;
  const auto second = daemon.try_start();
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("this state directory"), std::string::npos) << second.error().message;
}

}  // namespace
}  // namespace imagecache::test
