// While a start still reads the directory and the index: who asks is answered as ever, or is told to wait, and nothing
// that is done meanwhile is lost when the load has ended.
#include <SQLiteCpp/SQLiteCpp.h>
#include <sys/xattr.h>

#include <atomic>
#include <future>

#include "base/text.hpp"
#include "image_cache/index.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A cache that holds some images and is started again, with its load held at a step.
class Load : public testing::TestWithParam<std::string> {
 protected:
  Load() : Load(milliseconds(20'000)) {}
  explicit Load(milliseconds load_wait)
      : rig({.max_size_bytes = 5 * mib,
             .flush_interval = milliseconds(1),
             .index_driver = GetParam(),
             .on_step = steps.hook(),
             .load_wait = load_wait},
            Rig::Load::in_background) {
    wait_loaded();
  }
  ~Load() override { let_go(); }

  std::string cached_image(std::uint64_t seed, std::uint64_t size = mib) {
    auto id = rig.origin.add({.content = Content::generated(size, seed)});
    EXPECT_TRUE(rig.get_and_settle(id));
    return id;
  }
  /// Starts it again; returns when its load has come to `step` and waits there.
  void restart_and_hold(const std::string& step) {
    rig.stop();  // before the step is watched: a load that is under way may have it before it
    gate = std::make_shared<Gate>();
    steps.at(step, "", [held = gate] { held->pass({}); });
    rig.start();
    ASSERT_TRUE(gate->wait_arrived());
  }
  void let_go() {
    if (gate) gate->open();
  }
  void wait_loaded() {
    wait_until([&] { return rig.io->run(rig.cache->wait_loaded()).has_value(); });
  }
  void finish() {
    let_go();
    wait_loaded();
  }
  std::uint64_t bytes_on_disk() const {
    std::uint64_t sum = 0;
    for (const auto& entry : std::filesystem::directory_iterator(rig.file(""))) {
      if (!base::is_uuid(entry.path().filename().native())) continue;
      std::error_code gone;  // it may be removed at this moment
      const auto size = entry.file_size(gone);
      if (!gone) sum += size;
    }
    return sum;
  }
  /// What the index itself says of an image; nullopt without a row.
  std::optional<std::uint64_t> hits_written(const std::string& id) const {
    const std::unique_ptr<Index> index = GetParam() == "xattr" ? open_xattr_index(rig.file("")).value()
                                                               : open_sqlite_index(rig.file("cache.db"), {}).value();
    Reading reading;
    for (const auto& row : index->rows(reading).value()) {
      if (row.image_id == id) return row.hits;
    }
    return std::nullopt;
  }

  std::shared_ptr<Gate> gate;
  Steps steps;
  Rig rig;
};

class ImpatientLoad : public Load {
 protected:
  ImpatientLoad() : Load(milliseconds(1)) {}
};

TEST_P(Load, AnImageThatIsThereIsAHitFromTheFirstMoment) {
  const auto id = cached_image(1);
  for (const auto* step : {"load.begin", "load.read"}) {
    restart_and_hold(step);
    auto reader = rig.open(id);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(reader->outcome(), Outcome::hit);
    EXPECT_EQ(rig.read(*reader).value(), Content::generated(mib, 1).bytes());
    rig.cache->touch(id);
    EXPECT_EQ(rig.counters.image_cache_loading, 1U);
    finish();
    EXPECT_EQ(rig.counters.image_cache_loading, 0U);
  }
  EXPECT_EQ(rig.origin.downloads(id), 1U);
  EXPECT_EQ(rig.origin.describes(id), 3U) << "each reader was admitted";
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].hits, 2U);
  ASSERT_TRUE(rig.io->run(rig.cache->flush()));
  EXPECT_EQ(hits_written(id), 2U) << "each once, whichever side of the look at its row it fell on";
}

TEST_P(Load, AFileThatIsNotTheOneThatWasPublishedIsVerifiedBeforeItIsServed) {
  const auto right = cached_image(1);
  const auto wrong = cached_image(2);
  rig.stop();
  for (const auto& [id, seed] : {std::pair(right, 1), std::pair(wrong, 3)}) {
    std::filesystem::remove(rig.file(id));
    write_file(rig.file(id), Content::generated(mib, static_cast<std::uint64_t>(seed)).bytes());
  }
  restart_and_hold("load.read");
  EXPECT_EQ(rig.get(right).value(), Content::generated(mib, 1).bytes());
  EXPECT_EQ(rig.origin.downloads(right), 1U) << "it has the right content";
  auto fetched = std::async(std::launch::async, [&] { return rig.get_and_settle(wrong); });
  wait_until([&] { return std::filesystem::exists(rig.file("invalid/" + wrong)); });
  finish();
  EXPECT_EQ(fetched.get().value(), Content::generated(mib, 2).bytes());
  EXPECT_EQ(rig.origin.downloads(wrong), 2U);
  EXPECT_EQ(rig.cache->size_bytes(), bytes_on_disk());
}

TEST_P(Load, AMissWaitsUntilItIsKnownWhoMustGoForIt) {
  std::vector<std::string> old;
  for (std::uint64_t i = 0; i < 5; ++i) {
    old.push_back(cached_image(i));
    rig.clock.advance(seconds(10));
  }
  const auto wanted = rig.origin.add({.content = Content::generated(mib, 9)});
  restart_and_hold("load.read");
  ASSERT_TRUE(rig.get(old[0]));  // it is used, and so does not go first
  auto got = std::async(std::launch::async, [&] { return rig.get(wanted); });
  wait_until([&] { return rig.origin.describes(wanted) == 1; });
  EXPECT_EQ(rig.origin.downloads(wanted), 0U);
  EXPECT_EQ(bytes_on_disk(), 5 * mib);
  finish();
  EXPECT_EQ(got.get().value(), Content::generated(mib, 9).bytes());
  rig.settle();
  EXPECT_EQ(rig.cache->size_bytes(), 5 * mib);
  EXPECT_EQ(bytes_on_disk(), 5 * mib);
  EXPECT_TRUE(rig.cache->is_cached(old[0]));
}

TEST_P(ImpatientLoad, AMissThatCannotWaitIsNotKept) {
  const auto there = cached_image(1, 4 * mib);
  const auto wanted = rig.origin.add({.content = Content::generated(2 * mib, 2)});
  restart_and_hold("load.read");
  const auto refused = rig.open(wanted);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space) << "who is in front passes it through: " << refused.error().message;
  EXPECT_EQ(bytes_on_disk(), 4 * mib);
  EXPECT_TRUE(rig.get(there)) << "a hit need not wait";
  finish();
  EXPECT_TRUE(rig.get_and_settle(wanted));
}

TEST_P(ImpatientLoad, NobodyGetsHalfAListUnawares) {
  const auto id = cached_image(1);
  restart_and_hold("load.read");
  EXPECT_EQ(rig.io->run(rig.cache->wait_loaded()).error().code, Errc::busy);
  EXPECT_EQ(rig.io->run(rig.cache->refresh()).error().code, Errc::busy);
  EXPECT_EQ(rig.io->run(rig.cache->prune()).error().code, Errc::busy);
  EXPECT_EQ(rig.io->run(rig.cache->remove_all()).error().code, Errc::busy);
  const auto progress = rig.cache->load_progress();
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->images_read, 1U);
  EXPECT_GE(progress->files_seen, 1U);
  finish();
  EXPECT_FALSE(rig.cache->load_progress());
  ASSERT_TRUE(rig.io->run(rig.cache->refresh()));
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].image_id, id);
}

TEST_P(Load, AnImageThatIsDeletedMeanwhileStaysDeleted) {
  const auto gone = cached_image(1);
  const auto kept = cached_image(2);
  restart_and_hold("load.read");  // its file and row have been read
  const auto removed = rig.io->run(rig.cache->remove(gone));
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->files, 1U);
  EXPECT_EQ(removed->bytes, mib);
  EXPECT_FALSE(std::filesystem::exists(rig.file(gone)));
  finish();
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].image_id, kept);
  EXPECT_EQ(rig.cache->size_bytes(), mib);
  ASSERT_TRUE(rig.io->run(rig.cache->flush()));
  EXPECT_FALSE(hits_written(gone));
  EXPECT_TRUE(rig.get_and_settle(gone)) << "and may come back";
  EXPECT_EQ(rig.origin.downloads(gone), 2U);
}

TEST_P(Load, PinsMadeAndTakenBackMeanwhileHold) {
  const auto pinned = cached_image(1);
  const auto unpinned = cached_image(2);
  ASSERT_TRUE(rig.io->run(rig.cache->pin(unpinned)));
  restart_and_hold("load.read");
  ASSERT_TRUE(rig.get(pinned));
  ASSERT_TRUE(rig.io->run(rig.cache->pin(pinned)));
  ASSERT_TRUE(rig.io->run(rig.cache->unpin(unpinned)));
  finish();
  EXPECT_EQ(rig.cache->pinned(), std::vector{pinned});
  for (const auto& image : rig.cache->list()) EXPECT_EQ(image.pinned, image.image_id == pinned);
  EXPECT_EQ(rig.counters.image_cache_pinned_files, 1U);
}

TEST_P(Load, WhatIsQueuedIsFetchedWhenItIsDone) {
  const auto there = cached_image(1);
  const auto wanted = rig.origin.add({.content = Content::generated(mib, 2)});
  restart_and_hold("load.begin");
  for (const auto& id : {there, wanted}) {
    ASSERT_TRUE(rig.io->run(rig.cache->queue(id, base::internal_context())));
  }
  EXPECT_EQ(rig.cache->queued(), std::vector{wanted});
  EXPECT_EQ(rig.origin.describes(wanted), 0U);
  finish();
  wait_until([&] { return rig.cache->is_cached(wanted); });
}

TEST_P(Load, AStopDoesNotWaitForItAndLosesNoHit) {
  const auto id = cached_image(1);
  restart_and_hold("load.begin");
  ASSERT_TRUE(rig.get(id));
  const auto wanted = rig.origin.add({.content = Content::generated(mib, 2)});
  auto miss = std::async(std::launch::async, [&] { return rig.get(wanted); });
  wait_until([&] { return rig.origin.describes(wanted) == 1; });
  rig.cache->end_fills();
  EXPECT_EQ(miss.get().error().code, Errc::unavailable);
  let_go();  // the step itself cannot be broken off; what comes after it is
  rig.stop();
  EXPECT_EQ(hits_written(id), 1U);
  rig.start();
  wait_loaded();
  EXPECT_EQ(rig.cache->list().size(), 1U);
}

TEST_P(Load, WhatAnotherProgramDoesMeanwhileIsTakenUp) {
  const auto removed = cached_image(1);
  const auto kept = cached_image(2);
  const auto added = rig.origin.add({.content = Content::generated(mib, 3)});
  restart_and_hold("load.read");
  // As glance-api does it: the file, then the row.
  std::filesystem::remove(rig.file(removed));
  write_file(rig.file(added), Content::generated(mib, 3).bytes());
  if (GetParam() == "sqlite") {
    SQLite::Database database(rig.file("cache.db").native(), SQLite::OPEN_READWRITE, 10'000);
    database.exec("DELETE FROM cached_images WHERE image_id = '" + removed + "'");
    database.exec("INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ('" + added +
                  "', 5.5, 4.5, 2, " + std::to_string(mib) + ")");
  } else {
    ASSERT_EQ(::setxattr(rig.file(added).c_str(), "user.hits", "2", 1, 0), 0);
  }
  finish();
  ASSERT_TRUE(rig.io->run(rig.cache->refresh()));
  std::map<std::string, std::uint64_t> hits;
  for (const auto& image : rig.cache->list()) hits[image.image_id] = image.hits;
  EXPECT_EQ(hits, (std::map<std::string, std::uint64_t>{{kept, 0}, {added, 2}}));
  EXPECT_EQ(rig.cache->size_bytes(), bytes_on_disk());
  EXPECT_TRUE(rig.get(added));
  EXPECT_EQ(rig.origin.downloads(added), 0U);
}

TEST_P(Load, MoreThanTheLimitIsNotKeptOnceAllIsKnown) {
  std::vector<std::string> ids;
  for (std::uint64_t i = 0; i < 5; ++i) ids.push_back(cached_image(i));
  for (std::uint64_t i = 5; i < 8; ++i) {
    ids.push_back(rig.origin.add({.content = Content::generated(mib, i)}));
    write_file(rig.file(ids.back()), Content::generated(mib, i).bytes());
  }
  restart_and_hold("load.begin");
  for (const auto& id : ids) EXPECT_TRUE(rig.get(id)) << "all are there, and all are hits";
  EXPECT_EQ(bytes_on_disk(), 8 * mib);
  finish();
  EXPECT_EQ(rig.cache->size_bytes(), 5 * mib);
  wait_until([&] { return bytes_on_disk() == 5 * mib; });
}

INSTANTIATE_TEST_SUITE_P(Drivers, Load, testing::Values("sqlite", "xattr"),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Drivers, ImpatientLoad, testing::Values("sqlite", "xattr"),
                         [](const auto& info) { return info.param; });

TEST(LoadFailure, IsTriedAgainAndHitsGoOn) {
  Steps steps;
  Rig rig({.on_step = steps.hook(), .load_wait = milliseconds(1), .load_retry_pause = milliseconds(1)},
          Rig::Load::in_background);
  wait_until([&] { return rig.io->run(rig.cache->wait_loaded()).has_value(); });
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  // Another program holds it locked for longer than a reader waits.
  std::unique_ptr<SQLite::Database> other;
  auto again = std::make_shared<Gate>();
  steps.at("load.begin", "", [&] {
    other = std::make_unique<SQLite::Database>(rig.file("cache.db").native(), SQLite::OPEN_READWRITE);
    other->exec("BEGIN EXCLUSIVE");
    steps.at("load.begin", "", [&] {
      other.reset();
      again->pass({});
    });
  });
  rig.restart();
  EXPECT_TRUE(rig.get(id));
  ASSERT_TRUE(again->wait_arrived());
  EXPECT_EQ(rig.io->run(rig.cache->wait_loaded()).error().code, Errc::busy);
  EXPECT_TRUE(rig.get(id));
  again->open();
  wait_until([&] { return rig.io->run(rig.cache->wait_loaded()).has_value(); });
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].hits, 2U);
  EXPECT_EQ(rig.origin.downloads(id), 1U);
}

}  // namespace
}  // namespace imagecache::image_cache
