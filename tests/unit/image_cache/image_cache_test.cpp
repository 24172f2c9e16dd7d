#include <algorithm>
#include <latch>
#include <thread>

#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;

TEST(ImageCache, AMissFetchesOnceAndTheNextReadIsAHit) {
  Rig rig;
  const auto content = Content::generated(5 * mib, 1);
  const auto id = rig.origin.add({.content = content});
  auto reader = rig.open(id);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(reader->outcome(), Outcome::miss);
  EXPECT_EQ(rig.read(*reader).value(), content.bytes());
  rig.settle();

  auto again = rig.open(id);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->outcome(), Outcome::hit);
  EXPECT_EQ(rig.read(*again).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 1U);
  EXPECT_EQ(rig.origin.body_bytes(id), 5 * mib);
  EXPECT_EQ(read_file(rig.file(id)), content.bytes());
}

TEST(ImageCache, EveryReadAsksTheOriginForThisCaller) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  rig.origin.answer_token("stranger", 404);
  base::RequestContext stranger = base::internal_context();
  stranger.auth_token = "stranger";
  const auto refused = rig.io->run(rig.cache->open(id, stranger));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::not_found);
  EXPECT_EQ(rig.origin.describes(id), 2U);
}

TEST(ImageCache, SecondReaderJoinsTheFill) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 2);
  const auto id = rig.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({3 * mib, gate}); });
  auto first = rig.open(id);
  ASSERT_TRUE(first);
  ASSERT_TRUE(gate->wait_arrived());
  auto second = rig.open(id);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->outcome(), Outcome::collapsed);
  // Both may read what has come, while no more comes.
  EXPECT_GE(rig.io->run(second->wait_available(0, base::in(std::chrono::seconds(20)))).value(), 1U);
  gate->open();
  EXPECT_EQ(rig.read(*first).value(), content.bytes());
  EXPECT_EQ(rig.read(*second).value(), content.bytes());
  EXPECT_EQ(rig.origin.body_bytes(id), 6 * mib);
}

TEST(ImageCache, TheFillGoesOnWhenItsFirstReaderLeaves) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 3);
  const auto id = rig.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({2 * mib, gate}); });
  {
    auto first = rig.open(id);
    ASSERT_TRUE(first);
    ASSERT_TRUE(gate->wait_arrived());
  }
  gate->open();
  rig.settle();
  EXPECT_TRUE(rig.cache->is_cached(id));
  EXPECT_EQ(read_file(rig.file(id)), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

TEST(ImageCache, TheLastBytesAreHeldBackUntilTheDigestIsRight) {
  Rig rig({.hold_back_bytes = mib});
  const auto content = Content::generated(4 * mib, 4);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) { s.file.wrong_bytes = {100}; });
  auto reader = rig.open(id);
  ASSERT_TRUE(reader);
  const auto all = rig.read(*reader);
  ASSERT_FALSE(all) << "nobody may complete a body that is wrong";
  EXPECT_EQ(all.error().code, Errc::corrupt);
  rig.settle();
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_FALSE(std::filesystem::exists(rig.file(id)));
  EXPECT_TRUE(std::filesystem::exists(rig.file("invalid/" + id)));
  EXPECT_EQ(rig.counters.fill_digest_mismatches, 1U);
}

TEST(ImageCache, ABrokenTransferIsGoneOnWithByRange) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 5);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.hang_up_at = 4 * mib;
    s.file.hang_up_times = 1;
  });
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 2U);
  EXPECT_EQ(rig.origin.ranges(id).back().substr(0, 6), "bytes=");
  EXPECT_EQ(rig.origin.body_bytes(id), 6 * mib);
}

TEST(ImageCache, WithoutRangesABrokenTransferIsReceivedAgainAndReadersGoOn) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 6);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.hang_up_at = 4 * mib;
    s.file.hang_up_times = 1;
    s.file.ranges = test::RangeSupport::ignored;
  });
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
}

TEST(ImageCache, AShortBodyThatEndsProperlyIsNotPublished) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(4 * mib, 7)});
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.end_at = 3 * mib;
    s.file.chunked = true;
  });
  EXPECT_FALSE(rig.get_and_settle(id));
  EXPECT_FALSE(rig.cache->is_cached(id));
}

TEST(ImageCache, AnEndlessBodyIsCutOff) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(4 * mib, 8)});
  rig.origin.script(id, [&](ImageScript& s) { s.file.endless = true; });
  EXPECT_FALSE(rig.get_and_settle(id));
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_EQ(rig.cache->size_bytes(), 0U);
}

TEST(ImageCache, AnImageWithoutDataIsNotFound) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 9)});
  rig.origin.script(id, [&](ImageScript& s) { s.file.no_data = true; });
  const auto refused = rig.open(id);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::not_found);
}

TEST(ImageCache, TheLeastRecentlyUsedMakesRoomAndTheLimitHolds) {
  Rig rig({.max_size_bytes = 5 * mib});
  const auto a = rig.origin.add({.content = Content::generated(2 * mib, 10)});
  const auto b = rig.origin.add({.content = Content::generated(2 * mib, 11)});
  const auto c = rig.origin.add({.content = Content::generated(2 * mib, 12)});
  ASSERT_TRUE(rig.get_and_settle(a));
  rig.clock.advance(std::chrono::seconds(1));
  ASSERT_TRUE(rig.get_and_settle(b));
  rig.clock.advance(std::chrono::seconds(1));
  ASSERT_TRUE(rig.get_and_settle(a));  // a hit: b is now the older one
  rig.clock.advance(std::chrono::seconds(1));
  ASSERT_TRUE(rig.get_and_settle(c));
  EXPECT_TRUE(rig.cache->is_cached(a));
  EXPECT_FALSE(rig.cache->is_cached(b));
  EXPECT_FALSE(std::filesystem::exists(rig.file(b)));
  EXPECT_EQ(rig.cache->size_bytes(), 4 * mib);
  EXPECT_EQ(rig.counters.image_evictions, 1U);
}

TEST(ImageCache, AnImageLargerThanTheLimitEvictsNothing) {
  Rig rig({.max_size_bytes = 3 * mib});
  const auto small = rig.origin.add({.content = Content::generated(2 * mib, 13)});
  const auto large = rig.origin.add({.content = Content::generated(4 * mib, 14)});
  ASSERT_TRUE(rig.get_and_settle(small));
  const auto refused = rig.open(large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  EXPECT_TRUE(rig.cache->is_cached(small));
  EXPECT_EQ(rig.origin.downloads(large), 0U);
}

TEST(ImageCache, WhatCannotBeKeptCanBeHadOnceVerifiedAndNameless) {
  Rig rig({.max_size_bytes = mib});
  const auto content = Content::generated(4 * mib, 30);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.hang_up_at = 2 * mib;
    s.file.hang_up_times = 1;
  });
  const auto info = rig.io->run(rig.cache->describe(id, base::internal_context())).value();
  auto file = rig.io->run(
      rig.cache->fetch_uncached(info, base::internal_context(), rig.directory.path().native(), std::stop_token()));
  ASSERT_TRUE(file) << file.error().message;
  std::string bytes(4 * mib, '\0');
  EXPECT_EQ(base::read_at(file->get(), std::as_writable_bytes(std::span(bytes)), 0, "test").value(), 4 * mib);
  EXPECT_EQ(bytes, content.bytes());
  EXPECT_FALSE(rig.cache->is_cached(id));

  rig.origin.script(id, [&](ImageScript& s) { s.file.wrong_bytes = {7}; });
  const auto wrong = rig.io->run(
      rig.cache->fetch_uncached(info, base::internal_context(), rig.directory.path().native(), std::stop_token()));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Errc::corrupt);
}

TEST(ImageCache, ARunningFillsReservationCounts) {
  Rig rig({.max_size_bytes = 5 * mib});
  const auto a = rig.origin.add({.content = Content::generated(3 * mib, 15)});
  const auto b = rig.origin.add({.content = Content::generated(3 * mib, 16)});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(a, [&](ImageScript& s) { s.file.gates.push_back({mib, gate}); });
  auto first = rig.open(a);
  ASSERT_TRUE(first);
  const auto refused = rig.open(b);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  gate->open();
  ASSERT_TRUE(rig.read(*first));
}

TEST(ImageCache, AReaderKeepsItsFileThroughAnEviction) {
  Rig rig({.max_size_bytes = 3 * mib});
  const auto content = Content::generated(2 * mib, 17);
  const auto a = rig.origin.add({.content = content});
  const auto b = rig.origin.add({.content = Content::generated(2 * mib, 18)});
  ASSERT_TRUE(rig.get_and_settle(a));
  auto reader = rig.open(a);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(rig.get_and_settle(b));
  EXPECT_FALSE(rig.cache->is_cached(a));
  EXPECT_EQ(rig.read(*reader).value(), content.bytes());
}

TEST(ImageCache, AFileThatWasChangedBehindOurBackIsFetchedAgainAndNeverServed) {
  Rig rig;
  const auto content = Content::generated(2 * mib, 19);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(id));
  std::string wrong = content.bytes();
  wrong[12345] = static_cast<char>(wrong[12345] ^ 1);
  write_file(rig.file(id), wrong);
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 2U);
  EXPECT_EQ(rig.counters.image_files_invalidated, 1U);
}

TEST(ImageCache, AFileThatIsOpenStillIsNotServedAfterItWasUnlinkedOrReplaced) {
  Rig rig;
  const auto content = Content::generated(2 * mib, 19);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(id));
  const auto one = rig.open(id).value();
  const auto two = rig.open(id).value();
  ASSERT_EQ(two.outcome(), Outcome::hit);
  EXPECT_EQ(one.fd(), two.fd()) << "the file is opened once for all who read it";

  std::filesystem::remove(rig.file(id));
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 2U);

  ASSERT_EQ(rig.open(id)->outcome(), Outcome::hit);
  std::string wrong = content.bytes();
  wrong[12345] = static_cast<char>(wrong[12345] ^ 1);
  write_file(rig.file("other"), wrong);
  std::filesystem::rename(rig.file("other"), rig.file(id));
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 3U);
}

TEST(ImageCache, WhatIsRemovedIsNotKeptOpen) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 19)});
  ASSERT_TRUE(rig.get_and_settle(id));
  ASSERT_EQ(rig.open(id)->outcome(), Outcome::hit);
  const auto is_open = [&] {
    return std::ranges::any_of(std::filesystem::directory_iterator("/proc/self/fd"), [&](const auto& fd) {
      std::error_code gone;  // the one that reads the folder
      return std::filesystem::read_symlink(fd, gone).native().starts_with(rig.file(id).native());
    });
  };
  EXPECT_TRUE(is_open());
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  EXPECT_FALSE(is_open());
}

TEST(ImageCache, AnImageIdWithOtherBytesIsOtherContent) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(2 * mib, 20)});
  ASSERT_TRUE(rig.get_and_settle(id));
  const auto other = Content::generated(2 * mib, 21);
  rig.origin.change(id, [&](test::ImageSpec& spec) { spec.content = other; });
  EXPECT_EQ(rig.get_and_settle(id).value(), other.bytes());
}

TEST(ImageCache, AVanishedFileIsFetchedAgain) {
  Rig rig;
  const auto content = Content::generated(mib, 22);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(id));
  std::filesystem::remove(rig.file(id));
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 2U);
}

TEST(ImageCache, AFileThatGlanceLeftIsVerifiedAndThenServed) {
  Rig rig;
  const auto content = Content::generated(2 * mib, 23);
  const auto id = rig.origin.add({.content = content});
  rig.stop();
  write_file(rig.file(id), content.bytes());
  rig.start();
  auto reader = rig.open(id);
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->outcome(), Outcome::hit);
  EXPECT_EQ(rig.read(*reader).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(id), 0U);
}

TEST(ImageCache, HitsSurviveARestartAndWereWrittenInOneGo) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 24)});
  ASSERT_TRUE(rig.get_and_settle(id));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(rig.get(id));
  rig.restart();
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].hits, 3U);
  EXPECT_EQ(rig.cache->list()[0].size_bytes, mib);
}

TEST(ImageCache, AStopInTheMiddleKeepsThePartAndTheNextFillGoesOnThere) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 25);
  const auto id = rig.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({4 * mib, gate}); });
  {
    auto reader = rig.open(id);
    ASSERT_TRUE(reader);
    ASSERT_TRUE(gate->wait_arrived());
    ASSERT_GE(rig.io->run(reader->wait_available(2 * mib, base::in(std::chrono::seconds(20)))).value(), 2 * mib);
  }
  rig.stop();
  gate->open();
  EXPECT_GE(std::filesystem::file_size(rig.file("incomplete/" + id)), 2 * mib);
  rig.start();
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(rig.counters.fills_resumed, 1U);
  EXPECT_NE(rig.origin.ranges(id).back(), "");
}

TEST(ImageCache, APartWithHolesIsFetchedAnew) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 26);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.hang_up_at = 4 * mib;
    s.file.hang_up_times = 100;
  });
  EXPECT_FALSE(rig.get_and_settle(id));
  rig.origin.script(id, [&](ImageScript& s) { s.file.hang_up_times = 0; });
  rig.stop();
  // As a power failure may leave it: the size is there, the bytes are not.
  std::string part = read_file(rig.file("incomplete/" + id));
  ASSERT_EQ(part.size(), 4 * mib);
  std::fill(part.begin() + mib, part.begin() + 2 * mib, '\0');
  write_file(rig.file("incomplete/" + id), part);
  rig.start();
  // The first reader may have been given bytes that were wrong, and must not complete; the next gets it all.
  const auto first = rig.get_and_settle(id);
  if (first) {
    EXPECT_EQ(*first, content.bytes());
  }
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_EQ(read_file(rig.file(id)), content.bytes());
}

TEST(ImageCache, AFillThatNeverGotAByteLeavesNothingAndTheNextOneWorks) {
  Rig rig;
  const auto content = Content::generated(2 * mib, 31);
  const auto id = rig.origin.add({.content = content});
  rig.origin.script(id, [&](ImageScript& s) { s.file.status = 503; });
  EXPECT_FALSE(rig.get_and_settle(id));
  EXPECT_FALSE(std::filesystem::exists(rig.file("incomplete/" + id)));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
  rig.origin.script(id, [&](ImageScript& s) { s.file.status.reset(); });
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
}

TEST(ImageCache, APartKeepsItsRoomAndItsUseWhenAnotherFillLeavesNoneForIt) {
  Rig rig({.max_size_bytes = 7 * mib});
  const auto content = Content::generated(4 * mib, 32);
  const auto a = rig.origin.add({.content = content});
  const auto b = rig.origin.add({.content = Content::generated(3 * mib, 33)});
  const auto c = rig.origin.add({.content = Content::generated(4 * mib, 34)});
  rig.origin.script(a, [&](ImageScript& s) { s.file.hang_up_at = 2 * mib; });
  EXPECT_FALSE(rig.get_and_settle(a));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 4 * mib);
  auto gate = std::make_shared<Gate>();
  rig.origin.script(b, [&](ImageScript& s) { s.file.gates.push_back({mib, gate}); });
  auto reader = rig.open(b);
  ASSERT_TRUE(reader);
  // What is larger than the room beside b takes the part's place only if that helps; the part's own image still fits.
  rig.origin.script(a, [&](ImageScript& s) { s.file.hang_up_at.reset(); });
  EXPECT_EQ(rig.get(a).value_or(""), content.bytes());
  EXPECT_EQ(rig.counters.fills_resumed, 1U);
  const auto refused = rig.open(c);
  EXPECT_TRUE(!refused || refused->outcome() == Outcome::miss);
  gate->open();
  ASSERT_TRUE(rig.read(*reader));
  rig.settle();
  EXPECT_LE(rig.cache->size_bytes(), 7 * mib);
}

TEST(ImageCache, RemovedImagesLeaveNothing) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 27)});
  ASSERT_TRUE(rig.get_and_settle(id));
  EXPECT_EQ(rig.io->run(rig.cache->remove(id)).value().files, 1U);
  EXPECT_FALSE(std::filesystem::exists(rig.file(id)));
  EXPECT_TRUE(rig.cache->list().empty());
  rig.restart();
  EXPECT_TRUE(rig.cache->list().empty());
}

TEST(ImageCache, AQueuedImageIsFetchedWithoutAReader) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 28)});
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, base::internal_context())));
  while (!rig.cache->is_cached(id) || !rig.cache->queued().empty()) std::this_thread::yield();
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

TEST(ImageCache, AnIdThatIsNoFileNameIsRefusedBeforeAnythingIsTouched) {
  Rig rig;
  for (const std::string id : {"../cache.db", ".cinder-image-cache", "cache.db", "a/b"}) {
    origin::ImageInfo info;
    info.id = id;
    info.status = "active";
    info.size_bytes = 10;
    const auto refused = rig.io->run(rig.cache->open_described(info, base::internal_context()));
    ASSERT_FALSE(refused) << id;
    EXPECT_EQ(refused.error().code, Errc::invalid_argument) << id;
  }
}

TEST(ImageCache, SixtyFourReadersCostOneDownload) {
  Rig rig;
  const auto content = Content::generated(8 * mib, 29);
  const auto id = rig.origin.add({.content = content});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({4 * mib, gate}); });
  std::vector<std::jthread> readers;
  std::atomic<int> right = 0;
  std::latch opened(64);
  for (int i = 0; i < 64; ++i) {
    readers.emplace_back([&] {
      auto reader = rig.open(id);
      opened.count_down();
      if (reader && rig.read(*reader).value_or("") == content.bytes()) ++right;
    });
  }
  opened.wait();
  gate->open();
  readers.clear();
  EXPECT_EQ(right, 64);
  EXPECT_EQ(rig.origin.downloads(id), 1U);
  EXPECT_EQ(rig.origin.body_bytes(id), 8 * mib);
}

}  // namespace
}  // namespace imagecache::image_cache
