// Parts of an image: from the cache, from the origin, and from a store that has none to give.

#include <thread>

#include "service/images.hpp"

namespace imagecache::test {
namespace {

TEST(ImageRange, TheWholeAsARangeIsARange) {
  Daemon daemon;
  const auto content = Content::generated(mib, 41);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  const auto whole = daemon.image("GET", file_path(id), {"Range: bytes=0-"});
  EXPECT_EQ(whole.status, 206);
  EXPECT_EQ(whole.header("content-range"), "bytes 0-1048575/1048576");
  EXPECT_EQ(whole.header("content-md5"), content.md5());
  EXPECT_EQ(whole.body, content.bytes());
  EXPECT_EQ(daemon.counters().image_ranges, 1U);
  // Counted when all of it has gone, which the client may see first.
  while (daemon.counters().image_range_bytes == 0) std::this_thread::yield();
  EXPECT_EQ(daemon.counters().image_range_bytes, mib);
}

TEST(ImageRange, ARangeBehindTheEndIsRefusedWithTheSizeAndInGlancesWords) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 42)});
  for (int cached = 0; cached < 2; ++cached) {
    const auto answer = daemon.image("GET", file_path(id), {"Range: bytes=9999999999-", "Accept: */*"});
    EXPECT_EQ(answer.status, 416);
    EXPECT_EQ(answer.header("content-range"), "bytes */1048576");
    EXPECT_NE(answer.body.find("Start position MUST be in the inclusive range [0, 1048575]."), std::string::npos);
    if (cached == 0) warm(daemon, id);
  }
  EXPECT_EQ(daemon.origin.downloads(id), 1U);
}

TEST(ImageRange, WhatIsNoSingleRangeTheOriginAnswers) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 43)});
  warm(daemon, id);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=0-1,4-5"}).status, 400);
  const auto unit = daemon.image("GET", file_path(id), {"Range: foo=3-5"});
  EXPECT_EQ(unit.status, 416);
  EXPECT_EQ(unit.header("cache-status"), "cinder-image-cache; fwd=bypass; detail=range");
  const auto legacy = daemon.image("GET", file_path(id), {"Content-Range: bytes 3-5/*"});
  EXPECT_EQ(legacy.header("cache-status"), "cinder-image-cache; fwd=bypass; detail=content_range");
  EXPECT_EQ(daemon.origin.last_request("GET", file_path(id))->header("content-range"), "bytes 3-5/*");
}

TEST(ImageRange, OfAnImageThatIsNotCachedComesFromTheOriginAndKeepsNothing) {
  Daemon daemon;
  const auto content = Content::generated(mib, 44);
  const auto id = daemon.origin.add({.content = content});
  const auto part = daemon.image("GET", file_path(id), {"Range: bytes=100-199"});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, content.bytes(100, 100));
  EXPECT_EQ(part.header("cache-status"), "cinder-image-cache; fwd=uri-miss");
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.counters().fills_started, 0U);
  // Counted when all of it has gone, which the client may see first.
  while (daemon.counters().image_range_bytes == 0) std::this_thread::yield();
  EXPECT_EQ(daemon.counters().image_range_bytes, 100U);
}

TEST(ImageRange, AStoreWithoutRangesIsReadOnceAndThePartServedFromIt) {
  Daemon daemon;
  const auto content = Content::generated(3 * mib, 45);
  const auto id = daemon.origin.add({.content = content});
  daemon.origin.script(id, [](ImageScript& s) { s.file.ranges = RangeSupport::refused; });
  const auto part = daemon.image("GET", file_path(id), {"Range: bytes=1000-1999"});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.header("content-range"), "bytes 1000-1999/3145728");
  EXPECT_EQ(part.body, content.bytes(1000, 1000));
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  EXPECT_TRUE(daemon.service->images().is_cached(id));
  const auto another = daemon.image("GET", file_path(id), {"Range: bytes=-7"});
  EXPECT_EQ(another.body, content.bytes(3 * mib - 7));
  EXPECT_EQ(daemon.counters().fills_started, 1U);
}

TEST(ImageRange, APartOfAWrongImageIsNeverServed) {
  Daemon daemon({.service = "fill_attempts = 1\n"});
  const auto id = daemon.origin.add({.content = Content::generated(3 * mib, 46)});
  daemon.origin.script(id, [](ImageScript& s) {
    s.file.ranges = RangeSupport::refused;
    s.file.wrong_bytes = {2 * mib};
  });
  const auto part = daemon.image("GET", file_path(id), {"Range: bytes=0-99"});
  EXPECT_GE(part.status, 500);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
}

TEST(ImageRange, IfRangeGivesThePartOnlyOfTheSameImage) {
  Daemon daemon;
  const auto content = Content::generated(mib, 47);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  const auto same = daemon.image("GET", file_path(id), {"Range: bytes=0-9", "If-Range: \"" + content.sha512() + "\""});
  EXPECT_EQ(same.status, 206);
  EXPECT_EQ(same.body, content.bytes(0, 10));
  for (const auto* other : {"\"x\"", "Sun, 22 Nov 2026 21:33:03 GMT"}) {
    const auto whole = daemon.image("GET", file_path(id), {"Range: bytes=0-9", std::string("If-Range: ") + other});
    EXPECT_EQ(whole.status, 200) << other;
    EXPECT_EQ(whole.body, content.bytes()) << other;
  }
}

}  // namespace
}  // namespace imagecache::test
