#include "image_cache/entries.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace imagecache::image_cache {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Entry used_at(double time, std::uint64_t size_bytes = 10) {
  return {.size_bytes = size_bytes, .last_accessed = time, .last_modified = time};
}

std::vector<std::string> page(const Entries& entries, std::string_view marker, std::size_t limit) {
  std::vector<std::string> ids;
  entries.for_each_after(marker, limit, [&](const std::string& id, const Entry&) { ids.push_back(id); });
  return ids;
}

TEST(Entries, AListIsReadPageByPage) {
  Entries entries;
  for (const auto* id : {"d", "a", "c", "b"}) entries.put(id, used_at(1), true);
  EXPECT_THAT(page(entries, "", 2), ElementsAre("a", "b"));
  EXPECT_THAT(page(entries, "b", 2), ElementsAre("c", "d"));
  EXPECT_THAT(page(entries, "bb", 9), ElementsAre("c", "d")) << "the marker need not be there any more";
  EXPECT_THAT(page(entries, "d", 2), IsEmpty());
}

TEST(Entries, WhatAStartFindsGoesInTheOrderOfItsLastUse) {
  Entries entries;
  entries.load({{.image_id = "a", .last_accessed = 30, .size_bytes = 1},
                {.image_id = "b", .last_accessed = 10, .size_bytes = 2},
                {.image_id = "c", .last_accessed = 20, .size_bytes = 4, .hits = 5}});
  EXPECT_EQ(entries.bytes(), 7U);
  EXPECT_EQ(entries.count(), 3U);
  EXPECT_EQ(entries.find("c")->hits, 5U);
  EXPECT_TRUE(entries.take_changes().empty()) << "nothing of it is new";
  EXPECT_EQ(entries.victim(), "b");
  entries.evict("b", EvictionReason::size);
  EXPECT_EQ(entries.victim(), "c");
}

TEST(Entries, APinnedImageIsNeverAVictim) {
  Entries entries;
  entries.pin("b");  // before it is cached
  for (const auto* id : {"a", "b", "c"}) entries.put(id, used_at(1), true);
  entries.pin("a");
  EXPECT_TRUE(entries.find("a")->pinned);
  EXPECT_TRUE(entries.find("b")->pinned);
  EXPECT_EQ(entries.pinned_files(), 2U);
  EXPECT_EQ(entries.victim(), "c");
  EXPECT_EQ(entries.unused_since(100), "c");
  entries.evict("c", EvictionReason::size);
  EXPECT_EQ(entries.victim(), std::nullopt);
  EXPECT_EQ(entries.unused_since(100), std::nullopt);
  entries.touch("a", 50);
  entries.unpin("b");
  EXPECT_EQ(entries.victim(), "b");
  EXPECT_THAT(entries.pinned(), ElementsAre("a"));
}

TEST(Entries, APinOutlivesTheFile) {
  Entries entries;
  entries.put("a", used_at(1), true);
  entries.pin("a");
  entries.erase("a");
  EXPECT_EQ(entries.pinned_files(), 0U);
  entries.put("a", used_at(2), true);
  EXPECT_TRUE(entries.find("a")->pinned);
  EXPECT_EQ(entries.victim(), std::nullopt);
  entries.unpin("a");
  entries.unpin("a");
  EXPECT_EQ(entries.pinned_files(), 0U);
  EXPECT_EQ(entries.victim(), "a");
}

TEST(Entries, ATtlTakesTheLeastRecentlyUsedFirstWhateverThePolicy) {
  Entries entries;
  entries.use(make_eviction_policy("gdsf", 100).value());
  entries.put("a", used_at(10, 1), true);
  entries.put("b", used_at(20, 90), true);
  EXPECT_EQ(entries.victim(), "b");
  EXPECT_EQ(entries.unused_since(10), std::nullopt);
  EXPECT_EQ(entries.unused_since(10.5), "a");
  entries.touch("a", 30);
  EXPECT_EQ(entries.unused_since(10.5), std::nullopt);
  EXPECT_EQ(entries.unused_since(25), "b");
}

TEST(Entries, AClockThatIsSetBackChangesNoOrder) {
  Entries entries;
  entries.put("a", used_at(1000), true);
  entries.put("b", used_at(1001), true);
  entries.touch("a", 5);
  EXPECT_EQ(entries.find("a")->last_accessed, 1000);
  EXPECT_EQ(entries.victim(), "b");
}

TEST(Entries, WhatWasEvictedIsRememberedOnce) {
  Entries entries;
  entries.put("a", used_at(1), true);
  entries.put("b", used_at(1), true);
  entries.evict("a", EvictionReason::ttl);
  entries.erase("b");
  EXPECT_EQ(entries.take_eviction("a"), EvictionReason::ttl);
  EXPECT_EQ(entries.take_eviction("a"), std::nullopt);
  EXPECT_EQ(entries.take_eviction("b"), std::nullopt) << "somebody removed it";
  for (int i = 0; i < 20000; ++i) {
    entries.put(std::to_string(i), used_at(1), true);
    entries.evict(std::to_string(i), EvictionReason::size);
  }
  EXPECT_EQ(entries.take_eviction("0"), std::nullopt) << "the memory is bounded";
  EXPECT_EQ(entries.take_eviction("19999"), EvictionReason::size);
}

TEST(Entries, AFileOfAnotherSizeThanItsRowCountsAsItIs) {
  Entries entries;
  entries.load({{.image_id = "a", .size_bytes = 0}});
  entries.set_size("a", 70);
  EXPECT_EQ(entries.bytes(), 70U);
  const auto changes = entries.take_changes();
  ASSERT_EQ(changes.puts.size(), 1U);
  EXPECT_EQ(changes.puts[0].size_bytes, 70U);
  EXPECT_EQ(entries.victim(), "a");
}

TEST(Entries, EachHitIsWrittenOnceWhetherTheRowIsThereOrNot) {
  Entries entries;
  entries.put("a", {.hits = 3}, false);
  entries.touch("a", 5);
  auto changes = entries.take_changes();
  ASSERT_EQ(changes.puts.size(), 1U);
  ASSERT_EQ(changes.hits.size(), 1U);
  EXPECT_EQ(changes.puts[0].hits + changes.hits[0].more_hits, 4U);
  entries.put_back(std::move(changes));
  entries.touch("a", 6);
  changes = entries.take_changes();
  ASSERT_EQ(changes.hits.size(), 1U);
  EXPECT_EQ(changes.hits[0].more_hits, 2U);
  EXPECT_EQ(changes.hits[0].last_accessed, 6);
  EXPECT_EQ(changes.puts[0].hits, 3U);
}

TEST(Entries, AfterTheIndexIsLostEveryRowIsWritten) {
  Entries entries;
  entries.load({{.image_id = "a"}, {.image_id = "b"}});
  entries.remove_row("gone");
  entries.put_all_again();
  const auto changes = entries.take_changes();
  EXPECT_EQ(changes.puts.size(), 2U);
  EXPECT_THAT(changes.removals, IsEmpty());
}

TEST(Entries, ARestampedFileStaysVerifiedAndAnotherDoesNot) {
  Entries entries;
  const Stamp before{.inode = 1, .size_bytes = 10, .mtime_ns = 5, .ctime_ns = 5};
  Stamp after = before;
  after.ctime_ns = 6;
  entries.put("a", {.verified = Verified{.content_key = "k", .stamp = before}}, true);
  entries.restamp({.image_id = "a", .before = after, .after = before});
  EXPECT_EQ(entries.find("a")->verified->stamp, before) << "a `before` that nobody knows";
  entries.restamp({.image_id = "a", .before = before, .after = after});
  EXPECT_EQ(entries.find("a")->verified->stamp, after);
  entries.restamp({.image_id = "b", .before = before, .after = after});
}

TEST(Entries, AFileIsLeftOpenForTheNextHitUntilNobodyAsksOrItsEntryGoes) {
  Entries entries;
  const Stamp stamp{.inode = 1, .size_bytes = 10, .mtime_ns = 5, .ctime_ns = 5};
  const auto file = std::make_shared<const base::Fd>();
  const auto is_open = [&] { return file.use_count() > 1; };
  entries.keep_open("a", stamp, file);
  EXPECT_FALSE(is_open()) << "of an image that is not there";
  entries.put("a", {.verified = Verified{.content_key = "k", .stamp = stamp}}, true);
  entries.keep_open("a", {.inode = 2}, file);
  EXPECT_FALSE(is_open()) << "of another file than the published one";
  entries.keep_open("a", stamp, file);
  EXPECT_EQ(entries.open_file("a"), file);

  EXPECT_THAT(entries.take_idle_files(), IsEmpty()) << "it was asked for";
  EXPECT_THAT(entries.take_idle_files(), ElementsAre(file));
  EXPECT_EQ(entries.open_file("a"), nullptr);
  EXPECT_FALSE(is_open());

  entries.keep_open("a", stamp, file);
  EXPECT_TRUE(is_open());
  entries.set_verified("a", std::nullopt);
  EXPECT_FALSE(is_open()) << "in doubt";
  entries.set_verified("a", Verified{.content_key = "k", .stamp = stamp});
  entries.keep_open("a", stamp, file);
  entries.evict("a", EvictionReason::size);
  EXPECT_FALSE(is_open()) << "what is evicted gives its room back";
}

TEST(Entries, AFileThatWasLeftOpenWhileTheDirectoryWasReadIsClosedInItsTurn) {
  const Stamp stamp{.inode = 1, .size_bytes = 10};
  const auto file = std::make_shared<const base::Fd>();
  Entries live;
  live.put("a", {.size_bytes = 10, .verified = Verified{.content_key = "k", .stamp = stamp}}, true);
  live.keep_open("a", stamp, file);
  Entries all;
  all.load({{.image_id = "a", .size_bytes = 10}});
  all.take_over(std::move(live));
  EXPECT_EQ(all.open_file("a"), file);
  EXPECT_THAT(all.take_idle_files(), IsEmpty());
  EXPECT_THAT(all.take_idle_files(), ElementsAre(file));
}

TEST(Entries, OnlySoManyFilesAreLeftOpen) {
  Entries entries;
  const Stamp stamp{.inode = 1};
  const auto file = std::make_shared<const base::Fd>();
  for (int i = 0; i < 1000; ++i) {
    const auto id = std::to_string(i);
    entries.put(id, {.verified = Verified{.content_key = "k", .stamp = stamp}}, true);
    entries.keep_open(id, stamp, file);
  }
  EXPECT_LE(file.use_count(), 65);
  EXPECT_GT(file.use_count(), 1);
}

TEST(Entries, ThousandsOfRandomCallsKeepTheBooks) {
  for (const auto* policy : {"lru", "s3fifo", "gdsf"}) {
    Entries entries;
    entries.use(make_eviction_policy(policy, 5000).value());
    std::mt19937 random(7);
    std::map<std::string, std::uint64_t> files;
    std::set<std::string> pins;
    std::map<std::string, unsigned> holds;
    const auto stays = [&](const std::string& id) { return pins.contains(id) || holds[id] > 0; };
    for (int step = 0; step < 20000; ++step) {
      const std::string id = std::to_string(random() % 50);
      const std::uint64_t size = random() % 300;
      switch (random() % 10) {
        case 0:
        case 1:
          entries.put(id, used_at(step, size), random() % 2 == 0);
          files[id] = size;
          break;
        case 2:
          EXPECT_EQ(entries.erase(id), files.erase(id) > 0);
          break;
        case 3:
          entries.pin(id);
          pins.insert(id);
          break;
        case 4:
          entries.unpin(id);
          pins.erase(id);
          break;
        case 5:
          if (files.contains(id)) files[id] = size;
          entries.set_size(id, size);
          break;
        case 6:
          entries.touch(id, step);
          break;
        case 7:
          entries.hold(id);
          ++holds[id];
          break;
        case 8:
          entries.let_go(id);
          if (holds[id] > 0) --holds[id];
          break;
        default: {
          const auto victim = entries.victim();
          const bool some = std::ranges::any_of(files, [&](const auto& file) { return !stays(file.first); });
          ASSERT_EQ(victim.has_value(), some);
          ASSERT_EQ(entries.unused_since(1e9).has_value(), some);
          if (!victim) break;
          ASSERT_FALSE(stays(*victim));
          EXPECT_TRUE(entries.evict(*victim, EvictionReason::size));
          files.erase(*victim);
        }
      }
    }
    std::uint64_t sum = 0;
    std::size_t pinned = 0;
    std::uint64_t staying_bytes = 0;
    for (const auto& [id, size] : files) {
      sum += size;
      pinned += pins.count(id);
      if (stays(id)) staying_bytes += size;
      EXPECT_EQ(entries.find(id)->pinned, pins.contains(id));
    }
    EXPECT_EQ(entries.bytes(), sum);
    EXPECT_EQ(entries.count(), files.size());
    EXPECT_EQ(entries.pinned_files(), pinned);
    EXPECT_EQ(entries.staying_bytes(), staying_bytes);
  }
}

}  // namespace
}  // namespace imagecache::image_cache
