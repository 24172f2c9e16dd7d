// Another program on the same directory, as glance-api and its tools are: what it does to the index is taken up.
#include <SQLiteCpp/SQLiteCpp.h>

#include "image_cache/image_cache.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr auto unknown_id = "11111111-2222-4333-8444-555555555555";

class FollowOthers : public testing::Test {
 protected:
  std::string cached_image() {
    auto id = rig.origin.add({.content = Content::generated(300'000, 7)});
    EXPECT_TRUE(rig.get_and_settle(id));
    return id;
  }
  void as_glance(const std::string& sql) {
    SQLite::Database database(rig.file("cache.db").native(), SQLite::OPEN_READWRITE);
    database.exec(sql);
  }
  void refresh() {
    const auto followed = rig.io->run(rig.cache->refresh());
    ASSERT_TRUE(followed) << followed.error().message;
  }
  Rig rig;
};

TEST_F(FollowOthers, WhatItRemovedIsListedNoMore) {
  const std::string id = cached_image();
  std::filesystem::remove(rig.file(id));
  as_glance("DELETE FROM cached_images");
  refresh();
  EXPECT_TRUE(rig.cache->list().empty());
  EXPECT_EQ(rig.cache->size_bytes(), 0U);
}

TEST_F(FollowOthers, ItsHitsAreAddedToOurs) {
  const std::string id = cached_image();
  ASSERT_TRUE(rig.get(id));  // a hit of ours, not written yet
  as_glance("UPDATE cached_images SET hits = hits + 3, last_accessed = last_accessed + 1000");
  refresh();
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].hits, 4U);
  ASSERT_TRUE(rig.io->run(rig.cache->flush()));
  refresh();
  EXPECT_EQ(rig.cache->list()[0].hits, 4U);
}

TEST_F(FollowOthers, AnImageThatItCachedIsListedAndVerifiedBeforeItIsServed) {
  const std::string id = cached_image();
  const std::string bytes = read_file(rig.file(id));
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  // Glance's own way: the file first, then the row.
  write_file(rig.file(id), bytes);
  as_glance("INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ('" + id +
            "', 5.5, 4.5, 2, " + std::to_string(bytes.size()) + ")");
  refresh();
  ASSERT_EQ(rig.cache->list().size(), 1U);
  EXPECT_EQ(rig.cache->list()[0].hits, 2U);
  EXPECT_EQ(rig.cache->list()[0].last_modified, 4.5);
  const auto downloads = rig.origin.downloads(id);
  EXPECT_EQ(rig.get(id).value(), bytes);
  EXPECT_EQ(rig.origin.downloads(id), downloads);
}

TEST_F(FollowOthers, ARowThatWentWithoutItsFileIsWrittenAgain) {
  const std::string id = cached_image();
  as_glance("DELETE FROM cached_images");
  refresh();
  EXPECT_EQ(rig.cache->list().size(), 1U);
  ASSERT_TRUE(rig.io->run(rig.cache->flush()));
  SQLite::Database database(rig.file("cache.db").native());
  EXPECT_EQ(database.execAndGet("SELECT count(*) FROM cached_images").getInt(), 1);
}

TEST_F(FollowOthers, ARowWithoutAFileIsItsMakersBusiness) {
  as_glance("INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ('" +
            std::string(unknown_id) + "', 5.5, 4.5, 2, 10)");
  refresh();
  EXPECT_TRUE(rig.cache->list().empty());
}

}  // namespace
}  // namespace imagecache::image_cache
