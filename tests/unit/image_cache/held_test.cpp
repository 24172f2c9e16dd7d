// Image files that are held: what is promised to who reads them, and what they take of the cache's room.
#include <sys/resource.h>
#include <sys/stat.h>

#include "rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;

struct Held : ::testing::Test {
  explicit Held(Options options = {.max_size_bytes = 10 * mib}) : rig(with(std::move(options), steps)) {}
  static Options with(Options options, Steps& steps) {
    options.on_step = steps.hook();
    return options;
  }

  std::string add(std::uint64_t size_bytes = 2 * mib) {
    return rig.origin.add({.content = Content::generated(size_bytes, ++images)});
  }
  Result<std::string> hold(const std::string& id, const std::string& owner = "owner") {
    auto reader = rig.open(id);
    if (!reader) return std::unexpected(reader.error());
    EXPECT_TRUE(rig.read(*reader));
    rig.settle();
    return rig.io->run(rig.cache->hold(owner, id, reader->fd()));
  }
  Result<void> let_go(const std::string& name) { return rig.io->run(rig.cache->let_go(name)); }
  std::uint64_t counted() const {
    return rig.counters.image_cache_bytes.load() + rig.counters.image_cache_reserved_bytes.load();
  }
  /// What is really there, of files that may be held and cached at once.
  std::uint64_t on_disk() const {
    std::map<ino_t, std::uint64_t> files;
    for (const auto& place : {rig.file(""), rig.file(".cinder-image-cache/held")}) {
      if (!std::filesystem::exists(place)) continue;
      for (const auto& entry : std::filesystem::directory_iterator(place)) {
        struct stat info{};
        if (entry.is_regular_file() && !entry.path().filename().native().starts_with("cache.db") &&
            ::stat(entry.path().c_str(), &info) == 0)
          files[info.st_ino] = static_cast<std::uint64_t>(info.st_size);
      }
    }
    std::uint64_t all = 0;
    for (const auto& [inode, size] : files) all += size;
    return all;
  }

  Steps steps;
  Rig rig;
  std::uint64_t images = 100;
};

TEST_F(Held, AFileThatIsCachedTooCountsOnceAndIsAHitAsBefore) {
  const auto id = add();
  const auto name = hold(id);
  ASSERT_TRUE(name) << name.error().message;
  EXPECT_EQ(rig.counters.image_cache_held_files, 1U);
  EXPECT_EQ(rig.counters.image_cache_held_bytes, 2 * mib);
  EXPECT_EQ(counted(), 2 * mib);
  EXPECT_EQ(on_disk(), 2 * mib);
  const auto again = hold(id, "another");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(rig.counters.image_cache_held_files, 1U) << "for another backend: the same file";
  EXPECT_EQ(counted(), 2 * mib);
  ASSERT_TRUE(let_go(*name));
  EXPECT_EQ(rig.counters.image_cache_held_files, 1U);
  ASSERT_TRUE(let_go(*again));
  EXPECT_EQ(rig.counters.image_cache_held_files, 0U);
  EXPECT_EQ(rig.counters.image_cache_held_bytes, 0U);
  EXPECT_EQ(counted(), 2 * mib);
  const auto opened = rig.open(id);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->outcome(), Outcome::hit);
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

TEST_F(Held, ALinkMoreOrLessIsNoReasonToDigestTheFileAgain) {
  const auto id = add();
  const auto name = hold(id);
  ASSERT_TRUE(name);
  ASSERT_TRUE(let_go(*name));
  bool was_verified = false;
  steps.at("verify.digested", id, [&] { was_verified = true; });
  ASSERT_TRUE(rig.get(id));
  EXPECT_FALSE(was_verified);
}

TEST_F(Held, WhatIsRemovedFromTheCacheIsKeptAndCountsAsReservedUntilItIsLetGo) {
  const auto id = add();
  const auto name = hold(id);
  ASSERT_TRUE(name);
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  ASSERT_TRUE(rig.io->run(rig.cache->prune()));
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_TRUE(rig.cache->open_held(*name));
  EXPECT_EQ(rig.counters.image_cache_bytes, 0U);
  EXPECT_EQ(rig.counters.image_cache_reserved_bytes, 2 * mib);
  // Fetched anew it is another file, and both are there.
  ASSERT_TRUE(rig.get_and_settle(id));
  EXPECT_EQ(counted(), 4 * mib);
  EXPECT_EQ(on_disk(), 4 * mib);
  ASSERT_TRUE(let_go(*name));
  EXPECT_EQ(rig.cache->open_held(*name).error().code, Errc::not_found);
  EXPECT_EQ(counted(), 2 * mib);
  EXPECT_EQ(on_disk(), 2 * mib);
}

struct HeldInLittleRoom : Held {
  HeldInLittleRoom() : Held({.max_size_bytes = 7 * mib}) {}
};

TEST_F(HeldInLittleRoom, AFileThatWasFetchedAgainIsEvictedAsAnyOther) {
  const auto id = add();
  const auto name = hold(id);
  ASSERT_TRUE(name);
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  ASSERT_TRUE(rig.get_and_settle(id));
  EXPECT_EQ(on_disk(), 4 * mib) << "the held file and another";
  for (int i = 0; i < 2; ++i) {
    rig.clock.advance(std::chrono::seconds(1));
    const auto other = add();
    ASSERT_TRUE(rig.get_and_settle(other));
    EXPECT_TRUE(rig.cache->is_cached(other));
    EXPECT_LE(on_disk(), 7 * mib);
  }
  EXPECT_FALSE(rig.cache->is_cached(id)) << "the one that was used longest ago";
  EXPECT_TRUE(rig.cache->open_held(*name));
  ASSERT_TRUE(let_go(*name));
}

TEST_F(HeldInLittleRoom, OthersMakeRoomForItsEvictionWouldFreeNothing) {
  const auto oldest = add();
  const auto name = hold(oldest);
  ASSERT_TRUE(name);
  const auto second = add(), third = add(), fourth = add();
  for (const auto& id : {second, third, fourth}) {
    rig.clock.advance(std::chrono::seconds(1));
    ASSERT_TRUE(rig.get_and_settle(id));
    EXPECT_LE(on_disk(), 7 * mib);
  }
  EXPECT_TRUE(rig.cache->is_cached(oldest));
  EXPECT_FALSE(rig.cache->is_cached(second));
  EXPECT_TRUE(rig.cache->is_cached(third));
  // From now on it is as any other.
  ASSERT_TRUE(let_go(*name));
  for (int i = 0; i < 3; ++i) {
    rig.clock.advance(std::chrono::seconds(1));
    ASSERT_TRUE(rig.get_and_settle(add()));
  }
  EXPECT_FALSE(rig.cache->is_cached(oldest));
}

TEST_F(HeldInLittleRoom, TheLimitHoldsForWhatIsHeldAlone) {
  const auto gone = add();
  ASSERT_TRUE(hold(gone));
  ASSERT_TRUE(rig.io->run(rig.cache->remove(gone)));
  for (int i = 0; i < 4; ++i) {
    rig.clock.advance(std::chrono::seconds(1));
    ASSERT_TRUE(rig.get_and_settle(add()));
    EXPECT_LE(on_disk(), 7 * mib);
  }
  EXPECT_EQ(rig.counters.image_cache_bytes, 4 * mib);
  EXPECT_EQ(rig.open(add(6 * mib)).error().code, Errc::no_space) << "beside what is held it cannot fit";
  EXPECT_EQ(rig.counters.image_cache_bytes, 4 * mib) << "so nothing was evicted for it";
}

TEST_F(Held, NoMoreIsHeldThanItsPartOfTheLimit) {
  const auto first = add(3 * mib), second = add(3 * mib);
  const auto name = hold(first);
  ASSERT_TRUE(name);
  ASSERT_TRUE(hold(first, "another")) << "it takes nothing more";
  const auto refused = hold(second);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  EXPECT_NE(refused.error().message.find("import_held_percent = 50"), std::string::npos) << refused.error().message;
  EXPECT_EQ(rig.cache->held().size(), 2U);
  EXPECT_EQ(rig.counters.image_cache_held_bytes, 3 * mib);
  ASSERT_TRUE(rig.io->run(rig.cache->remove(second)));
  EXPECT_FALSE(rig.cache->is_cached(second)) << "what was refused is not kept";
  for (const auto& held : rig.cache->held()) ASSERT_TRUE(let_go(held.name));
  EXPECT_TRUE(hold(second)) << "there is room again";
}

TEST_F(HeldInLittleRoom, ARestartFindsThemAndTheirRoom) {
  const auto cached = add(mib), alone = add();
  ASSERT_TRUE(hold(cached, "a"));
  const auto name = hold(alone, "b");
  ASSERT_TRUE(name);
  ASSERT_TRUE(rig.io->run(rig.cache->remove(alone)));
  rig.restart();
  ASSERT_EQ(rig.cache->held().size(), 2U);
  EXPECT_EQ(rig.cache->held()[1].owner, "b");
  EXPECT_EQ(rig.cache->held()[1].image_id, alone);
  EXPECT_EQ(rig.counters.image_cache_held_bytes, 3 * mib);
  for (int i = 0; i < 4; ++i) {
    rig.clock.advance(std::chrono::seconds(1));
    ASSERT_TRUE(rig.get_and_settle(add()));
    EXPECT_LE(on_disk(), 7 * mib);
  }
  EXPECT_TRUE(rig.cache->is_cached(cached));
  EXPECT_TRUE(rig.cache->open_held(*name));
}

struct HeldWhileTheDiskIsFull : Held {
  HeldWhileTheDiskIsFull() : Held({.max_size_bytes = 100 * mib, .prune_interval = std::chrono::hours(1)}) {}
};

TEST_F(HeldWhileTheDiskIsFull, TheFloorTakesOnlyWhatGivesRoomBack) {
  const auto held = add(), other = add();
  ASSERT_TRUE(hold(held));
  ASSERT_TRUE(rig.get_and_settle(other));
  // No file system has so much free.
  rig.change([](Options& options) { options.free_space_floor_bytes = std::uint64_t{1} << 60; });
  rig.restart();
  EXPECT_FALSE(rig.cache->is_cached(other));
  EXPECT_TRUE(rig.cache->is_cached(held));
}

TEST_F(Held, ThatThereIsNoDescriptorForItIsNothingThatStays) {
  const auto name = hold(add());
  ASSERT_TRUE(name);
  const ImageCache& cache = *rig.cache;
  struct rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  const auto starved = cache.open_held(*name);
  ::setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_FALSE(starved);
  EXPECT_EQ(starved.error().code, Errc::busy) << starved.error().message;
  EXPECT_TRUE(cache.open_held(*name));
}

TEST_F(Held, AFileThatWasWrittenToIsNotServed) {
  const auto name = hold(add());
  ASSERT_TRUE(name);
  ASSERT_TRUE(rig.cache->open_held(*name));
  write_file(rig.file(".cinder-image-cache/held") / *name, "other bytes");
  EXPECT_EQ(rig.cache->open_held(*name).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace imagecache::image_cache
