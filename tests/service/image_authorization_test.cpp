// Nobody is given a byte of an image that the origin would not give him: not from a hit, not from a fill, not from one
// that somebody else has begun. The denied caller may see the image's record: it is its bytes that a policy keeps.

#include <latch>

#include "service/images.hpp"

namespace imagecache::test {
namespace {

struct Herd {
  std::atomic<int> whole = 0;
  std::atomic<int> refused = 0;
  std::atomic<std::size_t> leaked = 0;
};

/// `readers` callers who may and as many who may not, all at once.
void run_herd(Daemon& daemon, const std::string& id, const std::string& content, int readers, Herd& herd) {
  std::latch together(2 * readers);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2 * readers; ++i) {
    threads.emplace_back([&, may = i % 2 == 0] {
      together.arrive_and_wait();
      const auto answer = daemon.image("GET", file_path(id), {may ? "X-Auth-Token: friend" : "X-Auth-Token: denied"});
      if (may) {
        if (answer.status == 200 && answer.body == content) ++herd.whole;
        return;
      }
      if (answer.status == 403) ++herd.refused;
      if (answer.status != 403) herd.leaked += answer.body.size();
    });
  }
}

std::string add_image(Daemon& daemon, const Content& content) {
  const auto id = daemon.origin.add({.content = content});
  daemon.origin.script(id, [](ImageScript& s) { s.file.tokens["denied"] = 403; });
  return id;
}

TEST(ImageAuthorization, OnAMissTheDeniedGetNothing) {
  Daemon daemon;
  const auto content = Content::generated(4 * mib, 51);
  const auto id = add_image(daemon, content);
  Herd herd;
  run_herd(daemon, id, content.bytes(), 16, herd);
  EXPECT_EQ(herd.whole, 16);
  EXPECT_EQ(herd.refused, 16);
  EXPECT_EQ(herd.leaked, 0U);
}

TEST(ImageAuthorization, OnAHitTheDeniedGetNothing) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 52);
  const auto id = add_image(daemon, content);
  warm(daemon, id);
  Herd herd;
  run_herd(daemon, id, content.bytes(), 16, herd);
  EXPECT_EQ(herd.whole, 16);
  EXPECT_EQ(herd.refused, 16);
  EXPECT_EQ(herd.leaked, 0U);
  EXPECT_EQ(daemon.image("HEAD", file_path(id), {"X-Auth-Token: denied"}).status, 403);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: denied", "Range: bytes=0-9"}).status, 403);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: denied", "If-None-Match: \"" + content.sha512() + "\""})
                .status,
            403);
  EXPECT_EQ(daemon.image("GET", describe_path(id), {"X-Auth-Token: denied"}).status, 200);
}

TEST(ImageAuthorization, AFillThatIsRunningIsNoWayIn) {
  Daemon daemon;
  const auto content = Content::generated(4 * mib, 53);
  const auto id = add_image(daemon, content);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({2 * mib, gate}); });
  HttpClient first(daemon.service->image_api_port());
  first.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\nX-Auth-Token: friend\r\n\r\n");
  auto head = first.read_head();
  std::string body = first.read_body(head, mib);
  const auto denied = daemon.image("GET", file_path(id), {"X-Auth-Token: denied"});
  EXPECT_EQ(denied.status, 403);
  EXPECT_EQ(denied.header("cache-status"), "cinder-image-cache; fwd=bypass; detail=denied");
  gate->open();
  body += first.read_body(head);
  EXPECT_EQ(body, content.bytes());
}

TEST(ImageAuthorization, AStoreWithoutRangesDeniesAsWell) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 54);
  const auto id = add_image(daemon, content);
  daemon.origin.script(id, [](ImageScript& s) { s.file.ranges = RangeSupport::refused; });
  warm(daemon, id);
  Herd herd;
  run_herd(daemon, id, content.bytes(), 4, herd);
  EXPECT_EQ(herd.whole, 4);
  EXPECT_EQ(herd.refused, 4);
  EXPECT_EQ(herd.leaked, 0U);
}

TEST(ImageAuthorization, ARememberedYesEndsWithTheChangeThatPassesBy) {
  Daemon daemon({.service = "authorization_memory = 3600\n"});
  const auto id = daemon.origin.add({.content = Content::generated(mib, 55)});
  warm(daemon, id);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: friend"}).status, 200);
  const auto asked = daemon.origin.describes(id);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: friend"}).status, 200);
  EXPECT_EQ(daemon.origin.describes(id), asked);
  // A member is taken off; the origin says no from now on.
  daemon.origin.script(id, [](ImageScript& s) {
    s.file.tokens["friend"] = 404;
    s.describe.tokens["friend"] = 404;
  });
  daemon.origin.answer("DELETE", describe_path(id) + "/members/friend", {.status = 204});
  EXPECT_EQ(daemon.image("DELETE", describe_path(id) + "/members/friend").status, 204);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: friend"}).status, 404);
}

}  // namespace
}  // namespace imagecache::test
