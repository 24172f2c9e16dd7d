// Two at once on the files of one image, each race held open at the step where it would hurt.
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "base/text.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
using std::chrono::seconds;

std::uint64_t bytes_on_disk(const Rig& rig) {
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(rig.file(""))) {
    if (entry.is_regular_file() && base::is_uuid(entry.path().filename().native())) sum += entry.file_size();
  }
  return sum;
}

TEST(ImageCacheRaces, AnEvictedFileThatIsAskedForBeforeItIsGoneMakesRoomAsAnyOther) {
  Steps steps;
  Rig rig({.max_size_bytes = 5 * mib, .on_step = steps.hook()});
  const auto content = Content::generated(2 * mib, 1);
  const auto a = rig.origin.add({.content = content});
  const auto b = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto c = rig.origin.add({.content = Content::generated(2 * mib, 3)});
  ASSERT_TRUE(rig.get_and_settle(a));
  rig.clock.advance(seconds(1));
  ASSERT_TRUE(rig.get_and_settle(b));
  // c's coming has chosen a; before a's file is unlinked somebody wants it.
  steps.at("evict.chosen", a, [&] { EXPECT_EQ(rig.get(a).value(), content.bytes()); });
  ASSERT_TRUE(rig.get_and_settle(c));
  EXPECT_TRUE(rig.cache->is_cached(a)) << "it is kept, and b went in its place";
  EXPECT_FALSE(rig.cache->is_cached(b));
  EXPECT_EQ(rig.get(a).value(), content.bytes());
  EXPECT_EQ(rig.origin.downloads(a), 1U);
  EXPECT_LE(rig.cache->size_bytes(), 5 * mib);
  EXPECT_EQ(bytes_on_disk(rig), rig.cache->size_bytes());
}

TEST(ImageCacheRaces, AFileThatNobodyCountedIsNotKeptPastTheLimit) {
  Rig rig({.max_size_bytes = 3 * mib});
  const auto content = Content::generated(4 * mib, 4);
  const auto id = rig.origin.add({.content = content});
  write_file(rig.file(id), content.bytes());  // another program's, while we run
  const auto refused = rig.open(id);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  EXPECT_EQ(rig.cache->size_bytes(), 0U);
  EXPECT_EQ(bytes_on_disk(rig), 0U);
}

TEST(ImageCacheRaces, WhatHasComeWholeIsServedBeforeItIsPublished) {
  Steps steps;
  Rig rig({.on_step = steps.hook()});
  const auto content = Content::generated(2 * mib, 7);
  const auto id = rig.origin.add({.content = content});
  EXPECT_FALSE(rig.cache->is_whole(id));
  steps.at("publish.begin", id, [&] {
    // The first reader may have its last byte by now, and whoever asks next for a part need not go to the origin.
    EXPECT_FALSE(rig.cache->is_cached(id));
    EXPECT_TRUE(rig.cache->is_whole(id));
    EXPECT_EQ(rig.get(id).value_or(""), content.bytes());
  });
  ASSERT_TRUE(rig.get_and_settle(id));
  EXPECT_TRUE(rig.cache->is_cached(id) && rig.cache->is_whole(id));
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

TEST(ImageCacheRaces, NobodyWaitsWhileWhatWasVerifiedIsWrittenDown) {
  Steps steps;
  Rig rig({.max_size_bytes = 5 * mib, .on_step = steps.hook()});
  const auto content = Content::generated(2 * mib, 14);
  const auto kept = rig.origin.add({.content = content});
  const auto too_large = rig.origin.add({.content = Content::generated(6 * mib, 15)});
  write_file(rig.file(kept), content.bytes());
  write_file(rig.file(too_large), Content::generated(6 * mib, 15).bytes());
  for (const auto& id : {kept, too_large}) {
    bool answered = false;
    steps.at("verify.record", id, [&] {
      auto look = std::async(std::launch::async, [&] { return rig.cache->size_bytes(); });
      answered = look.wait_for(seconds(5)) == std::future_status::ready;
    });
    static_cast<void>(rig.get_and_settle(id));
    EXPECT_TRUE(answered);
  }
  EXPECT_EQ(rig.origin.downloads(kept), 0U);
  EXPECT_EQ(rig.cache->size_bytes(), 2 * mib);
  EXPECT_EQ(bytes_on_disk(rig), 2 * mib);
}

TEST(ImageCacheRaces, ALongDigestOfAWrongFileDoesNotCondemnTheRightOneThatTookItsPlace) {
  Steps steps;
  Rig rig({.on_step = steps.hook()});
  const auto content = Content::generated(2 * mib, 5);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(id));
  write_file(rig.file(id), std::string(2 * mib, 'x'));
  steps.at("verify.digested", id, [&] {
    write_file(rig.directory / "newer", content.bytes());
    std::filesystem::rename(rig.directory / "newer", rig.file(id));
  });
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_FALSE(std::filesystem::exists(rig.file("invalid/" + id)));
  EXPECT_EQ(rig.origin.downloads(id), 1U) << "the newer file is the image";
}

TEST(ImageCacheRaces, ACleanThatHasChosenAStalePartDoesNotTakeTheNewFillsOne) {
  Steps steps;
  Rig rig({.on_step = steps.hook()});
  const auto content = Content::generated(4 * mib, 6);
  const auto id = rig.origin.add({.content = content});
  write_file(rig.file("incomplete/" + id), "left behind by somebody");
  rig.clock.advance(std::chrono::hours(24 * 365 * 5));
  std::jthread reader;
  Result<std::string> read;
  steps.at("clean.chosen", id, [&] {
    reader = std::jthread([&] { read = rig.get(id); });
    wait_until([&] { return rig.origin.describes(id) == 1 && rig.origin.authorizations(id) == 1; });
  });
  EXPECT_EQ(rig.io->run(rig.cache->clean()).value().files, 1U);
  reader.join();
  rig.settle();
  EXPECT_EQ(read.value_or(""), content.bytes());
  EXPECT_TRUE(rig.cache->is_cached(id));
  EXPECT_EQ(read_file(rig.file(id)), content.bytes());
}

TEST(ImageCacheRaces, StopReturnsAfterTheLastFillThreadHasLeft) {
  Steps steps;
  Rig rig({.on_step = steps.hook()});
  const auto id = rig.origin.add({.content = Content::generated(mib, 7)});
  std::atomic<bool> let_go = false;
  std::atomic<bool> left = false;
  steps.at("fill.ended", id, [&] {
    while (!let_go) std::this_thread::yield();
    left = true;
  });
  ASSERT_TRUE(rig.get(id));
  rig.settle();  // nothing is left of the fill that anybody could see
  std::jthread stopper([&] {
    rig.io->run(rig.cache->stop(base::in(seconds(20))));
    EXPECT_TRUE(left);
  });
  let_go = true;
  stopper.join();
}

TEST(ImageCacheRaces, AnImageThatIsRemovedWhileItIsFetchedIsNotPublished) {
  Rig rig;
  const auto content = Content::generated(6 * mib, 8);
  const auto id = rig.origin.add({.content = content});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({3 * mib, gate}); });
  auto reader = rig.open(id);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(gate->wait_arrived());
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  gate->open();
  EXPECT_EQ(rig.read(*reader).value(), content.bytes()) << "who reads along gets it to the end";
  rig.settle();
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_FALSE(std::filesystem::exists(rig.file(id)));
  EXPECT_FALSE(std::filesystem::exists(rig.file("incomplete/" + id)));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
}

TEST(ImageCacheRaces, AFillOfARemovedImageThatNobodyReadsEndsAtOnce) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(6 * mib, 9)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({3 * mib, gate}); });
  {
    auto reader = rig.open(id);
    ASSERT_TRUE(reader);
    ASSERT_TRUE(gate->wait_arrived());
    ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
    EXPECT_EQ(rig.cache->fills().size(), 1U) << "it has a reader";
  }
  rig.settle();  // the gate is shut still
  EXPECT_FALSE(std::filesystem::exists(rig.file("incomplete/" + id)));
  gate->open();
}

TEST(ImageCacheRaces, ARemovalBetweenTheDigestAndTheRenameIsSeen) {
  Steps steps;
  Rig rig({.on_step = steps.hook()});
  const auto id = rig.origin.add({.content = Content::generated(mib, 10)});
  steps.at("publish.begin", id, [&] { ASSERT_TRUE(rig.io->run(rig.cache->remove(id))); });
  EXPECT_TRUE(rig.get_and_settle(id));
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_EQ(bytes_on_disk(rig), 0U);
}

TEST(ImageCacheRaces, AFillOfFormerContentIsNotPublishedOnceTheNewIsKnown) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(6 * mib, 11)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({3 * mib, gate}); });
  auto former = rig.open(id);
  ASSERT_TRUE(former);
  ASSERT_TRUE(gate->wait_arrived());
  const auto other = Content::generated(4 * mib, 12);
  rig.origin.change(id, [&](test::ImageSpec& spec) { spec.content = other; });
  EXPECT_EQ(rig.open(id).error().code, Errc::conflict);
  gate->open();
  EXPECT_TRUE(rig.read(*former));
  rig.settle();
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_EQ(rig.get_and_settle(id).value(), other.bytes());
}

TEST(ImageCacheRaces, AHerdOnADoubtfulFileDigestsItOnce) {
  std::atomic<int> digested = 0;
  std::atomic<int> opening = 0;
  Rig rig({.on_step = [&](std::string_view step, const std::string&) {
    if (step != "verify.digested") return;
    ++digested;
    while (opening < 16) std::this_thread::yield();
  }});
  const auto content = Content::generated(2 * mib, 13);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.get_and_settle(id));
  std::filesystem::last_write_time(rig.file(id), std::filesystem::file_time_type::clock::now());
  std::vector<std::jthread> readers;
  for (int i = 0; i < 16; ++i) {
    readers.emplace_back([&] {
      ++opening;
      EXPECT_EQ(rig.get(id).value_or(""), content.bytes());
    });
  }
  readers.clear();
  EXPECT_LE(digested, 2) << "one for all who came while it ran";
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

/// So that unlink(2) fails, for whoever asks.
void put_a_folder_in_its_place(const std::filesystem::path& file) {
  std::filesystem::remove(file);
  std::filesystem::create_directories(file / "something");
}

TEST(ImageCacheRoom, WhatGoesCountsUntilItIsGone) {
  Steps steps;
  Rig rig({.max_size_bytes = 5 * mib, .on_step = steps.hook()});
  const auto large = rig.origin.add({.content = Content::generated(3 * mib, 1)});
  const auto kept = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto wanted = rig.origin.add({.content = Content::generated(mib, 3)});
  ASSERT_TRUE(rig.get_and_settle(large));
  rig.clock.advance(seconds(1));
  ASSERT_TRUE(rig.get_and_settle(kept));
  std::uint64_t counted = 0;
  steps.at("evict.chosen", large,
           [&] { counted = rig.counters.image_cache_bytes + rig.counters.image_cache_reserved_bytes; });
  ASSERT_TRUE(rig.get_and_settle(wanted));
  EXPECT_EQ(counted, 5 * mib) << "what is kept, what is wanted, and the rest of what goes";
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
  EXPECT_EQ(rig.cache->size_bytes(), 3 * mib);
}

TEST(ImageCacheRoom, RoomThatOneIsMakingIsNotMadeASecondTimeByAnother) {
  Steps steps;
  Rig rig({.max_size_bytes = 5 * mib, .on_step = steps.hook()});
  const auto large = rig.origin.add({.content = Content::generated(3 * mib, 1)});
  const auto kept = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto one = rig.origin.add({.content = Content::generated(mib, 3)});
  const auto two = rig.origin.add({.content = Content::generated(mib, 4)});
  ASSERT_TRUE(rig.get_and_settle(large));
  rig.clock.advance(seconds(1));
  ASSERT_TRUE(rig.get_and_settle(kept));
  std::future<Result<std::string>> other;
  steps.at("evict.chosen", large, [&] {
    other = std::async(std::launch::async, [&] { return rig.get(two); });
    wait_until([&] { return rig.counters.fills_in_flight == 2; });
    EXPECT_EQ(rig.origin.downloads(two), 0U) << "not a byte before what goes is gone";
  });
  ASSERT_TRUE(rig.get(one));
  ASSERT_TRUE(other.get());
  rig.settle();
  EXPECT_TRUE(rig.cache->is_cached(kept));
  EXPECT_EQ(rig.counters.image_evictions, 1U);
  EXPECT_EQ(rig.cache->size_bytes(), 4 * mib);
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
}

TEST(ImageCacheRoom, AWrongFillCountsUntilItIsCleanedAway) {
  Rig rig({.max_size_bytes = 6 * mib, .fill_attempts = 1});
  const auto id = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  rig.origin.script(id, [](ImageScript& script) { script.file.wrong_bytes = {mib}; });
  EXPECT_FALSE(rig.get_and_settle(id));
  EXPECT_TRUE(std::filesystem::exists(rig.file("invalid/" + id)));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 2 * mib);
  ASSERT_TRUE(rig.io->run(rig.cache->clean()));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
}

TEST(ImageCacheRoom, WhatCannotBeRemovedFromInvalidRefusesOneFillAndNoMore) {
  Rig rig({.max_size_bytes = 6 * mib, .fill_attempts = 1});
  const auto wrong = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  rig.origin.script(wrong, [](ImageScript& script) { script.file.wrong_bytes = {mib}; });
  EXPECT_FALSE(rig.get_and_settle(wrong));
  const auto old = rig.origin.add({.content = Content::generated(3 * mib, 2)});
  ASSERT_TRUE(rig.get_and_settle(old));
  put_a_folder_in_its_place(rig.file("invalid/" + wrong));
  const auto wanted = rig.origin.add({.content = Content::generated(2 * mib, 3)});
  EXPECT_FALSE(rig.open(wanted));
  ASSERT_TRUE(rig.get_and_settle(wanted)) << "what is good goes in its place";
  EXPECT_FALSE(rig.cache->is_cached(old));
}

TEST(ImageCacheRoom, AFileThatCannotBeRemovedStaysCountedAndMakesNoRoom) {
  Steps steps;
  Rig rig({.max_size_bytes = 5 * mib, .on_step = steps.hook()});
  const auto stuck = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  const auto other = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto wanted = rig.origin.add({.content = Content::generated(2 * mib, 3)});
  ASSERT_TRUE(rig.get_and_settle(stuck));
  rig.clock.advance(seconds(1));
  ASSERT_TRUE(rig.get_and_settle(other));
  steps.at("evict.chosen", stuck, [&] { put_a_folder_in_its_place(rig.file(stuck)); });
  const auto refused = rig.open(wanted);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  EXPECT_NE(refused.error().message.find("cannot be removed"), std::string::npos) << refused.error().message;
  EXPECT_EQ(rig.cache->size_bytes(), 4 * mib);
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
  EXPECT_EQ(rig.origin.downloads(wanted), 0U);
  // It is not the first to go again, so the next who asks is not refused for its sake.
  ASSERT_TRUE(rig.get_and_settle(wanted));
  EXPECT_FALSE(rig.cache->is_cached(other));
  EXPECT_EQ(rig.cache->size_bytes(), 4 * mib);
}

TEST(ImageCacheRoom, ADeletionThatFailsSaysSoAndTheImageIsStillListed) {
  Rig rig({.max_size_bytes = 5 * mib});
  const auto id = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  put_a_folder_in_its_place(rig.file(id));
  EXPECT_FALSE(rig.io->run(rig.cache->remove(id)));
  EXPECT_FALSE(rig.io->run(rig.cache->remove_all()));
  EXPECT_EQ(rig.cache->list().size(), 1U);
  std::filesystem::remove_all(rig.file(id));
  EXPECT_TRUE(rig.io->run(rig.cache->remove(id)));
  EXPECT_TRUE(rig.cache->list().empty());
}

TEST(ImageCacheRoom, WhatIsInvalidCountsAndIsTheFirstToGo) {
  Rig rig({.max_size_bytes = 6 * mib});
  const auto content = Content::generated(2 * mib, 1);
  const auto broken = rig.origin.add({.content = content});
  const auto other = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  const auto third = rig.origin.add({.content = Content::generated(2 * mib, 3)});
  ASSERT_TRUE(rig.get_and_settle(broken));
  write_file(rig.file(broken), std::string(2 * mib, 'x'));
  EXPECT_EQ(rig.get_and_settle(broken).value(), content.bytes());
  ASSERT_TRUE(rig.get_and_settle(other));
  EXPECT_TRUE(std::filesystem::exists(rig.file("invalid/" + broken)));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 2 * mib);
  rig.restart();
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 2 * mib);
  ASSERT_TRUE(rig.get_and_settle(third));
  EXPECT_FALSE(std::filesystem::exists(rig.file("invalid/" + broken)));
  EXPECT_EQ(rig.cache->size_bytes(), 6 * mib) << "no good file had to go for it";
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
}

TEST(ImageCacheRoom, CleaningGivesBackTheRoomOfWhatIsInvalid) {
  Rig rig({.max_size_bytes = 5 * mib});
  const auto id = rig.origin.add({.content = Content::generated(2 * mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  write_file(rig.file(id), std::string(2 * mib, 'x'));
  ASSERT_TRUE(rig.get_and_settle(id));
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 2 * mib);
  EXPECT_EQ(rig.io->run(rig.cache->clean()).value().files, 1U);
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 0U);
}

}  // namespace
}  // namespace imagecache::image_cache
