// What the cache does by itself: room ahead of need, age, and files at rest.
#include <algorithm>
#include <map>
#include <thread>

#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Prune, AboveTheHighMarkRoomIsMadeDownToTheLowOne) {
  Rig rig({.max_size_bytes = 10 * mib,
           .prune_high_percent = 80,
           .prune_low_percent = 50,
           .prune_interval = milliseconds(1)});
  std::vector<std::string> ids;
  for (std::uint64_t i = 0; i < 4; ++i) {
    ids.push_back(rig.origin.add({.content = Content::generated(2 * mib, i)}));
    ASSERT_TRUE(rig.get_and_settle(ids.back()));
    rig.clock.advance(seconds(1));
  }
  EXPECT_EQ(rig.cache->size_bytes(), 8 * mib) << "the mark itself may be reached";
  ids.push_back(rig.origin.add({.content = Content::generated(2 * mib, 9)}));
  ASSERT_TRUE(rig.get_and_settle(ids.back()));
  wait_until([&] { return rig.cache->size_bytes() <= 5 * mib; });
  EXPECT_EQ(rig.cache->size_bytes(), 4 * mib);
  EXPECT_FALSE(rig.cache->is_cached(ids[0]));
  EXPECT_TRUE(rig.cache->is_cached(ids[4]));
  EXPECT_EQ(rig.counters.image_evictions_size, 3U);
}

TEST(Prune, WhatNobodyUsedForTheTtlGoesButForPinnedImages) {
  Rig rig({.ttl = seconds(100), .prune_interval = milliseconds(1)});
  const auto idle = rig.origin.add({.content = Content::generated(mib, 1)});
  const auto used = rig.origin.add({.content = Content::generated(mib, 2)});
  const auto pinned = rig.origin.add({.content = Content::generated(mib, 3)});
  ASSERT_TRUE(rig.io->run(rig.cache->pin(pinned)));
  for (const auto& id : {idle, used, pinned}) ASSERT_TRUE(rig.get_and_settle(id));
  rig.clock.advance(seconds(60));
  ASSERT_TRUE(rig.get(used));
  rig.clock.advance(seconds(60));
  wait_until([&] { return !rig.cache->is_cached(idle); });
  EXPECT_TRUE(rig.cache->is_cached(used));
  EXPECT_TRUE(rig.cache->is_cached(pinned));
  EXPECT_EQ(rig.counters.image_evictions_ttl, 1U);
  ASSERT_TRUE(rig.get_and_settle(idle));
  EXPECT_EQ(rig.counters.image_fetched_again, 1U);
}

TEST(Prune, AClockThatStepsBackEvictsNothingAndBreaksNothing) {
  Rig rig({.ttl = seconds(100), .prune_interval = milliseconds(1)});
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  rig.clock.advance(-std::chrono::hours(24 * 365));
  ASSERT_TRUE(rig.get(id));
  ASSERT_TRUE(rig.io->run(rig.cache->clean()));
  ASSERT_TRUE(rig.io->run(rig.cache->prune()));
  rig.restart();
  EXPECT_TRUE(rig.cache->is_cached(id));
  const auto other = rig.origin.add({.content = Content::generated(mib, 2)});
  ASSERT_TRUE(rig.get_and_settle(other));
  ASSERT_TRUE(rig.get(other));
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

TEST(Pins, OutliveARestartAndKeepAFileThatWouldGoFirst) {
  Rig rig({.max_size_bytes = 5 * mib});
  const auto a = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  const auto b = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto c = rig.origin.add({.content = Content::generated(2 * mib, 3)});
  ASSERT_TRUE(rig.io->run(rig.cache->pin(a)));
  EXPECT_EQ(rig.cache->pinned(), std::vector<std::string>{a}) << "before it is cached";
  ASSERT_TRUE(rig.get_and_settle(a));
  rig.clock.advance(seconds(1));
  ASSERT_TRUE(rig.get_and_settle(b));
  rig.restart();
  ASSERT_TRUE(rig.get_and_settle(c));
  EXPECT_TRUE(rig.cache->is_cached(a));
  EXPECT_FALSE(rig.cache->is_cached(b));
  for (const auto& image : rig.cache->list()) EXPECT_EQ(image.pinned, image.image_id == a);
  ASSERT_TRUE(rig.io->run(rig.cache->remove(a)));
  EXPECT_FALSE(rig.cache->is_cached(a)) << "by name it goes";
}

TEST(Pins, WhereAllIsPinnedNothingMoreIsKept) {
  Rig rig({.max_size_bytes = 3 * mib});
  const auto a = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  const auto b = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  ASSERT_TRUE(rig.get_and_settle(a));
  ASSERT_TRUE(rig.io->run(rig.cache->pin(a)));
  EXPECT_EQ(rig.open(b).error().code, Errc::no_space);
  EXPECT_TRUE(rig.cache->is_cached(a));
  ASSERT_TRUE(rig.io->run(rig.cache->unpin(a)));
  EXPECT_TRUE(rig.get_and_settle(b));
}

TEST(Pins, NothingIsEvictedForAnImageThatDoesNotFitBesideThem) {
  Rig rig({.max_size_bytes = 6 * mib});
  const auto pinned = rig.origin.add({.content = Content::generated(3 * mib, 1)});
  const auto other = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto large = rig.origin.add({.content = Content::generated(4 * mib, 3)});
  ASSERT_TRUE(rig.io->run(rig.cache->pin(pinned)));
  ASSERT_TRUE(rig.get_and_settle(pinned));
  ASSERT_TRUE(rig.get_and_settle(other));
  EXPECT_EQ(rig.open(large).error().code, Errc::no_space);
  EXPECT_TRUE(rig.cache->is_cached(other));
  EXPECT_EQ(rig.counters.image_evictions_size, 0U);
}

TEST(List, ComesInPages) {
  Rig rig;
  std::vector<std::string> ids;
  for (std::uint64_t i = 0; i < 5; ++i) {
    ids.push_back(rig.origin.add({.content = Content::generated(4096, i)}));
    ASSERT_TRUE(rig.get_and_settle(ids.back()));
  }
  std::ranges::sort(ids);
  std::vector<std::string> seen;
  for (std::string marker;;) {
    const auto page = rig.cache->list(marker, 2);
    if (page.empty()) break;
    EXPECT_LE(page.size(), 2U);
    for (const auto& image : page) seen.push_back(image.image_id);
    marker = page.back().image_id;
  }
  EXPECT_EQ(seen, ids);
}

// Files are digested when they are published, so that a scrub has something to do only an interval later.
constexpr auto interval = std::chrono::hours(24);
Options scrubbing(Options options = {}) {
  options.scrub_bytes_per_s = 1ULL << 40;
  options.scrub_interval = interval;
  return options;
}

TEST(Scrub, FilesAtRestAreReadAgainAndADamagedOneIsFetchedAnewNotServed) {
  Rig rig(scrubbing());
  const auto content = Content::generated(3 * mib + 123, 1);
  const auto good = rig.origin.add({.content = content});
  const auto bad = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(good));
  ASSERT_TRUE(rig.get_and_settle(bad));
  std::string wrong = content.bytes();
  wrong[2 * mib] = static_cast<char>(wrong[2 * mib] ^ 1);
  write_file(rig.file(bad), wrong);
  rig.clock.advance(interval * 2);
  rig.restart();
  wait_until([&] { return rig.counters.scrubbed_files == 2; });
  wait_until([&] { return !rig.cache->is_cached(bad); });
  EXPECT_EQ(rig.counters.scrub_failures, 1U);
  EXPECT_EQ(rig.counters.scrubbed_bytes, 2 * (3 * mib + 123));
  EXPECT_TRUE(rig.cache->is_cached(good));
  wait_until([&] { return std::filesystem::exists(rig.file("invalid/" + bad)); });
  EXPECT_EQ(rig.get_and_settle(bad).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(bad), 2U);
}

TEST(Scrub, ARestartGoesOnWhereItWasAndAnEarlyOneDoesNothing) {
  Rig rig(scrubbing());
  std::vector<std::string> ids;
  for (std::uint64_t i = 0; i < 3; ++i) {
    ids.push_back(rig.origin.add({.content = Content::generated(4096, i)}));
    ASSERT_TRUE(rig.get_and_settle(ids.back()));
  }
  std::ranges::sort(ids);
  rig.clock.advance(interval * 2);
  rig.stop();
  const auto began = static_cast<std::uint64_t>(base::to_epoch_seconds(rig.clock.now()));
  write_file(rig.file(".cinder-image-cache/scrub"), std::to_string(began) + "\nrunning\n" + ids[1] + "\n");
  rig.start();
  wait_until([&] { return read_file(rig.file(".cinder-image-cache/scrub")).contains("over"); });
  EXPECT_EQ(rig.counters.scrubbed_files, 1U) << "two had been done";
  rig.restart();
  ASSERT_TRUE(rig.get(ids[0]));
  EXPECT_EQ(rig.counters.scrubbed_files, 1U) << "the next round is not due";
}

TEST(Scrub, ManySmallFilesAreNoReasonToReadFasterThanASetNumberOfThem) {
  Rig rig(scrubbing());
  constexpr std::uint64_t files = 20;
  for (std::uint64_t i = 0; i < files; ++i)
    ASSERT_TRUE(rig.get_and_settle(rig.origin.add({.content = Content::generated(10, i)})));
  rig.clock.advance(interval * 2);
  const auto began = std::chrono::steady_clock::now();
  rig.restart();
  wait_until([&] { return rig.counters.scrubbed_files == files; });
  // Sixteen a second, and what a tenth of a second saves.
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(1000));
}

TEST(Scrub, AStopWritesDownHowFarItGot) {
  auto options = scrubbing();
  options.scrub_bytes_per_s = 1;  // the first file and no more
  Rig rig(options);
  for (std::uint64_t i = 0; i < 3; ++i)
    ASSERT_TRUE(rig.get_and_settle(rig.origin.add({.content = Content::generated(10, i)})));
  rig.clock.advance(interval * 2);
  rig.restart();
  wait_until([&] { return rig.counters.scrubbed_bytes == 10; });
  rig.stop();
  EXPECT_TRUE(read_file(rig.file(".cinder-image-cache/scrub")).contains("running"));
}

TEST(Scrub, AGarbledNoteOfItsProgressBeginsARound) {
  Rig rig(scrubbing());
  const auto id = rig.origin.add({.content = Content::generated(4096, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  rig.clock.advance(interval * 2);
  rig.stop();
  write_file(rig.file(".cinder-image-cache/scrub"), "\x01\xff nonsense");
  rig.start();
  wait_until([&] { return rig.counters.scrubbed_files == 1; });
}

TEST(Scrub, WhatOnlyATimeTellsApartIsAskedOfTheOriginWithTheServicesToken) {
  auto options = scrubbing();
  options.service_context = []() -> Result<base::RequestContext> {
    auto context = base::internal_context();
    context.auth_token = "service";
    return context;
  };
  Rig rig(options);
  const std::map<std::string, std::string> only_md5 = {{"os_hash_algo", "null"}, {"os_hash_value", "null"}};
  const auto known = rig.origin.add({.content = Content::generated(4096, 1), .json = only_md5});
  const auto gone = rig.origin.add({.content = Content::generated(4096, 2), .json = only_md5});
  ASSERT_TRUE(rig.get_and_settle(known));
  ASSERT_TRUE(rig.get_and_settle(gone));
  rig.origin.remove(gone);
  rig.clock.advance(interval * 2);
  rig.restart();
  wait_until([&] { return rig.counters.scrubbed_files == 1 && rig.counters.scrub_skips == 1; });
  EXPECT_EQ(rig.origin.last_request("GET", test::describe_path(known))->header("x-auth-token"), "service");
  EXPECT_TRUE(rig.cache->is_cached(gone)) << "nobody said that it is wrong";
}

}  // namespace
}  // namespace imagecache::image_cache
