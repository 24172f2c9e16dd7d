#include "image_cache/index.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <latch>
#include <thread>

#include "base/fd.hpp"
#include "image_cache/lock_file.hpp"
#include "support/private_mount.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::image_cache {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr auto one = "b8a4849c-1537-4574-badd-90de38482b5a";
constexpr auto two = "c5b6a4d0-0000-4000-8000-000000000002";

void write_file(const fs::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string attribute(const fs::path& path, const char* name) {
  std::string value(100, '\0');
  const auto length = ::getxattr(path.c_str(), name, value.data(), value.size());
  return length < 0 ? "(none)" : value.substr(0, static_cast<std::size_t>(length));
}

Stamp stamp(const fs::path& path) {
  struct stat info{};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return stamp_of(info);
}

std::vector<IndexRow> sorted_rows(Index& index) {
  Reading reading;
  auto rows = index.rows(reading);
  EXPECT_TRUE(rows) << rows.error().message;
  if (!rows) return {};
  std::ranges::sort(*rows, {}, &IndexRow::image_id);
  return *rows;
}

/// Another program at the same database.
class Sqlite {
 public:
  explicit Sqlite(const fs::path& path) { EXPECT_EQ(::sqlite3_open(path.c_str(), &handle_), SQLITE_OK); }
  ~Sqlite() { ::sqlite3_close(handle_); }
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;

  void run(const std::string& sql) {
    EXPECT_EQ(::sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << ::sqlite3_errmsg(handle_);
  }
  std::string text(const std::string& sql) {
    std::string all;
    ::sqlite3_exec(
        handle_, sql.c_str(),
        [](void* to, int columns, char** values, char**) {
          for (int i = 0; i < columns; ++i) *static_cast<std::string*>(to) += values[i] ? values[i] : "NULL";
          return 0;
        },
        &all, nullptr);
    return all;
  }

 private:
  sqlite3* handle_ = nullptr;
};

class SqliteIndexTest : public testing::Test {
 protected:
  Result<std::unique_ptr<Index>> open() { return open_sqlite_index(database, {}); }
  std::unique_ptr<Index> opened() {
    auto index = open();
    EXPECT_TRUE(index) << index.error().message;
    return std::move(*index);
  }
  /// The one broken database that was kept.
  fs::path kept() {
    std::vector<fs::path> all;
    for (const auto& file : fs::directory_iterator(directory / ".cinder-image-cache")) {
      if (file.path().native().ends_with("Z")) all.push_back(file.path());
    }
    EXPECT_EQ(all.size(), 1U);
    return all.empty() ? fs::path() : all.front();
  }

  test::TempDir directory;
  const fs::path database = directory / "cache.db";
};

TEST_F(SqliteIndexTest, TheDatabaseIsWhatGlanceWouldHaveMade) {
  opened();
  Sqlite other(database);
  EXPECT_EQ(other.text("PRAGMA journal_mode"), "delete");
  EXPECT_EQ(other.text("SELECT group_concat(name || ' ' || type || ' ' || pk || ' ' || ifnull(dflt_value, '-')) FROM "
                       "pragma_table_info('cached_images')"),
            "image_id TEXT 1 -,last_accessed REAL 0 0.0,last_modified REAL 0 0.0,size INTEGER 0 0,hits INTEGER 0 0,"
            "checksum TEXT 0 -");
}

TEST_F(SqliteIndexTest, RowsAreReadAndWrittenAsGlanceDoes) {
  opened();
  Sqlite glance(database);
  glance.run("INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ('" +
             std::string(one) + "', 1.5, 1.25, 7, 4096)");
  const auto index = opened();
  const auto rows = sorted_rows(*index);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].image_id, one);
  EXPECT_EQ(rows[0].last_accessed, 1.5);
  EXPECT_EQ(rows[0].last_modified, 1.25);
  EXPECT_EQ(rows[0].size_bytes, 4096U);
  EXPECT_EQ(rows[0].hits, 7U);

  const auto applied = index->apply(
      {{.image_id = two, .last_accessed = 2.5, .last_modified = 2, .size_bytes = 10},
       {.image_id = one, .size_bytes = 5}},
      {"absent"}, {{.image_id = two, .more_hits = 3, .last_accessed = 9}, {.image_id = "absent", .more_hits = 1}});
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_TRUE(applied->empty()) << "no file was touched";
  EXPECT_EQ(glance.text("SELECT image_id, last_accessed, size, hits FROM cached_images ORDER BY 1"),
            std::string(one) + "0.057" + two + "9.0103");
  ASSERT_TRUE(index->apply({}, {one}, {}));
  EXPECT_EQ(glance.text("SELECT count(*) FROM cached_images"), "1");
}

TEST_F(SqliteIndexTest, ValuesThatMakeNoSenseBecomeHarmless) {
  opened();
  Sqlite(database).run(
      "INSERT INTO cached_images VALUES ('a', 9e999, 'x', -5, -1, 'z'), ('b', NULL, NULL, NULL, NULL, 1)");
  const auto rows = sorted_rows(*opened());
  ASSERT_EQ(rows.size(), 2U);
  for (const auto& row : rows) {
    EXPECT_EQ(row.last_accessed, 0);
    EXPECT_EQ(row.last_modified, 0);
    EXPECT_EQ(row.size_bytes, 0U);
    EXPECT_EQ(row.hits, 0U);
  }
}

TEST_F(SqliteIndexTest, ALaterGlancesColumnsAreLeftAlone) {
  opened();
  Sqlite(database).run("ALTER TABLE cached_images ADD COLUMN node TEXT DEFAULT 'n'");
  const auto index = opened();
  ASSERT_TRUE(index->apply({{.image_id = one}}, {}, {}));
  EXPECT_EQ(Sqlite(database).text("SELECT node FROM cached_images"), "n");
  EXPECT_FALSE(fs::exists(directory / ".cinder-image-cache"));
}

TEST_F(SqliteIndexTest, TheLockFileOfTheMakingIsGlancesAndIsMadeOnlyForIt) {
  const test::TempDir locks;
  ASSERT_TRUE(open_sqlite_index(database, locks.path()));
  EXPECT_TRUE(fs::exists(locks / "image_cache_db_init"));
  fs::remove(locks / "image_cache_db_init");
  ASSERT_TRUE(open_sqlite_index(database, locks.path()));
  EXPECT_FALSE(fs::exists(locks / "image_cache_db_init")) << "there was nothing to be made";
}

TEST_F(SqliteIndexTest, TheMakingWaitsForGlancesLock) {
  auto lock = hold_lock_file(directory / "image_cache_db_init", std::chrono::seconds(1));
  ASSERT_TRUE(lock);
  std::latch opening(1);
  std::atomic<bool> made = false;
  std::jthread other([&] {
    opening.count_down();
    const auto index = open();
    EXPECT_TRUE(index);
    made = true;
  });
  opening.wait();
  Sqlite early(database);
  EXPECT_EQ(early.text("SELECT count(*) FROM sqlite_master"), "0");
  EXPECT_FALSE(made);
  lock->reset();
  other.join();
  EXPECT_TRUE(made);
}

TEST_F(SqliteIndexTest, ALockThatIsNeverGivenBackEndsInAnError) {
  const auto path = directory / "lock";
  const auto lock = hold_lock_file(path, std::chrono::seconds(1));
  ASSERT_TRUE(lock);
  const auto second = hold_lock_file(path, std::chrono::milliseconds(1));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_THAT(second.error().message, HasSubstr(path.native()));
}

TEST_F(SqliteIndexTest, AFileThatIsNoDatabaseIsKeptAsideAndAnotherMade) {
  const std::string garbage(5000, 'x');
  write_file(database, garbage);
  const auto index = opened();
  EXPECT_TRUE(sorted_rows(*index).empty());
  ASSERT_TRUE(index->apply({{.image_id = one}}, {}, {}));
  EXPECT_EQ(read_file(kept()), garbage);
  EXPECT_EQ(Sqlite(database).text("SELECT image_id FROM cached_images"), one);
}

TEST_F(SqliteIndexTest, AnEmptyFileBecomesTheDatabase) {
  write_file(database, "");
  EXPECT_TRUE(sorted_rows(*opened()).empty());
  EXPECT_FALSE(fs::exists(directory / ".cinder-image-cache"));
}

TEST_F(SqliteIndexTest, ATruncatedDatabaseIsMadeAnew) {
  {
    const auto index = opened();
    std::vector<IndexRow> many;
    for (int i = 0; i < 2000; ++i) many.push_back({.image_id = std::to_string(i) + "-" + one});
    ASSERT_TRUE(index->apply(many, {}, {}));
  }
  fs::resize_file(database, fs::file_size(database) / 2);
  const auto index = opened();
  EXPECT_TRUE(sorted_rows(*index).empty());
  ASSERT_TRUE(index->apply({{.image_id = one}}, {}, {}));
  EXPECT_EQ(sorted_rows(*index).size(), 1U);
  EXPECT_TRUE(fs::exists(kept()));
}

TEST_F(SqliteIndexTest, AnotherProgramsDatabaseIsKeptAside) {
  Sqlite(database).run("CREATE TABLE cached_images (id INTEGER PRIMARY KEY, image_id TEXT)");
  EXPECT_TRUE(sorted_rows(*opened()).empty());
  EXPECT_EQ(Sqlite(kept()).text("SELECT group_concat(name) FROM pragma_table_info('cached_images')"), "id,image_id");
}

TEST_F(SqliteIndexTest, AViewOrATriggerInItsPlaceIsNotRun) {
  Sqlite(database).run(
      "CREATE VIEW cached_images AS WITH RECURSIVE forever(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM forever) "
      "SELECT n AS image_id, 0 AS last_accessed, 0 AS last_modified, 0 AS size, 0 AS hits FROM forever");
  EXPECT_TRUE(sorted_rows(*opened()).empty());
  Sqlite(database).run("CREATE TRIGGER more AFTER INSERT ON cached_images BEGIN DELETE FROM cached_images; END");
  const auto index = opened();
  ASSERT_TRUE(index->apply({{.image_id = one}}, {}, {}));
  EXPECT_EQ(sorted_rows(*index).size(), 1U);
}

TEST_F(SqliteIndexTest, ADatabaseThatIsRemovedUnderUsIsMadeAndAskedForAgain) {
  const auto index = opened();
  ASSERT_TRUE(index->apply({{.image_id = one}}, {}, {}));
  fs::remove(database);
  const auto applied = index->apply({{.image_id = two}}, {}, {});
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::corrupt);
  ASSERT_TRUE(index->apply({{.image_id = one}, {.image_id = two}}, {}, {}));
  EXPECT_EQ(Sqlite(database).text("SELECT count(*) FROM cached_images"), "2");
}

TEST_F(SqliteIndexTest, AnotherDatabaseInItsPlaceIsGoneOnWith) {
  const auto index = opened();
  const test::TempDir backup;
  fs::copy_file(database, backup / "cache.db");
  Sqlite(backup / "cache.db").run("INSERT INTO cached_images (image_id, hits) VALUES ('" + std::string(one) + "', 5)");
  fs::rename(database, directory / "former");
  fs::copy_file(backup / "cache.db", database);
  EXPECT_FALSE(index->apply({{.image_id = two}}, {}, {}));
  ASSERT_TRUE(index->apply({{.image_id = one}, {.image_id = two}}, {}, {}));
  EXPECT_EQ(sorted_rows(*index)[0].hits, 5U);
  EXPECT_FALSE(fs::exists(directory / ".cinder-image-cache"));
}

TEST_F(SqliteIndexTest, ADatabaseThatBreaksUnderUsIsMadeAndAskedForAgain) {
  const auto index = opened();
  std::vector<IndexRow> many;
  for (int i = 0; i < 500; ++i) many.push_back({.image_id = std::to_string(i)});
  ASSERT_TRUE(index->apply(many, {}, {}));
  {
    const auto file = base::open_file(database, O_WRONLY);
    const std::string garbage(fs::file_size(database), 'x');
    ASSERT_TRUE(base::write_all_at(file->get(), std::as_bytes(std::span(garbage)), 0, "test"));
  }
  const auto applied = index->apply({{.image_id = two}}, {}, {});
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::corrupt) << applied.error().message;
  ASSERT_TRUE(index->apply({{.image_id = two}}, {}, {}));
  EXPECT_EQ(sorted_rows(*index).size(), 1U);
}

TEST_F(SqliteIndexTest, ALockedDatabaseIsAnErrorThatSaysWhoseAndLosesNothing) {
  const auto index = opened();
  Sqlite glance(database);
  glance.run("BEGIN EXCLUSIVE");
  const auto applied = index->apply({{.image_id = one}}, {}, {});
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::busy);
  EXPECT_EQ(applied.error().message,
            database.native() +
                ": another process, glance-api or one of its tools, holds it locked; fuser names the process");
  glance.run("COMMIT");
  EXPECT_TRUE(index->apply({{.image_id = one}}, {}, {}));
}

TEST_F(SqliteIndexTest, ADirectoryInItsPlaceIsAnErrorWithTheMend) {
  fs::create_directory(database);
  const auto index = open();
  ASSERT_FALSE(index);
  EXPECT_THAT(index.error().message, HasSubstr(database.native()));
}

TEST_F(SqliteIndexTest, ANewFileIsReadyForTheOtherDriverToo) {
  const auto index = opened();
  const auto file = base::open_file(directory / one, O_RDWR | O_CREAT);
  ASSERT_TRUE(index->prepare(file->get()));
  EXPECT_EQ(attribute(directory / one, "user.hits"), "0");
}

class XattrIndexTest : public testing::Test {
 protected:
  fs::path file(const char* id) const { return directory / id; }
  /// As Glance's driver commits one.
  void commit(const char* id, const char* hits, time_t accessed, time_t modified) const {
    write_file(file(id), "12345");
    if (hits) {
      ASSERT_EQ(::setxattr(file(id).c_str(), "user.hits", hits, std::string_view(hits).size(), 0), 0);
    }
    const std::array<timespec, 2> times{timespec{accessed, 0}, timespec{modified, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, file(id).c_str(), times.data(), 0), 0);
  }

  test::TempDir directory;
  const std::unique_ptr<Index> index = open_xattr_index(directory.path()).value();
};

TEST_F(XattrIndexTest, OpeningLeavesNothingThatGlanceCouldTakeForAnImage) {
  for (const auto& entry : fs::recursive_directory_iterator(directory.path())) {
    EXPECT_FALSE(entry.is_regular_file()) << entry.path();
  }
}

TEST_F(XattrIndexTest, WhatGlanceCommittedIsRead) {
  commit(one, "12", 2000, 1000);
  commit(two, nullptr, 2001, 1001);
  write_file(file("checkme"), "left by glance");
  write_file(file("cache.db"), "of the other driver");
  fs::create_directory(directory / "d5b6a4d0-0000-4000-8000-000000000002");
  fs::create_symlink(file(one), directory / "e5b6a4d0-0000-4000-8000-000000000002");
  const auto rows = sorted_rows(*index);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].image_id, one);
  EXPECT_EQ(rows[0].hits, 12U);
  EXPECT_EQ(rows[0].last_accessed, 2000);
  EXPECT_EQ(rows[0].last_modified, 1000);
  EXPECT_EQ(rows[0].size_bytes, 5U);
  EXPECT_EQ(rows[1].hits, 0U) << "a missing attribute counts as none";
}

TEST_F(XattrIndexTest, HitsAreWrittenOnTheFileAndTheNewStampIsTold) {
  commit(one, "12", 2000, 1000);
  const Stamp before = stamp(file(one));
  const auto applied = index->apply({}, {}, {{.image_id = one, .more_hits = 3, .last_accessed = 3000.5}});
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_EQ(attribute(file(one), "user.hits"), "15");
  ASSERT_EQ(applied->size(), 1U);
  EXPECT_EQ((*applied)[0].image_id, one);
  EXPECT_EQ((*applied)[0].before, before);
  EXPECT_EQ((*applied)[0].after, stamp(file(one)));
  EXPECT_EQ(before.mtime_ns, stamp(file(one)).mtime_ns);
  const auto rows = sorted_rows(*index);
  EXPECT_EQ(rows[0].last_accessed, 3000);
  EXPECT_EQ(rows[0].last_modified, 1000);
}

TEST_F(XattrIndexTest, TheTimeOfUseNeverGoesBack) {
  commit(one, "1", 5000, 1000);
  ASSERT_TRUE(index->apply({}, {}, {{.image_id = one, .more_hits = 1, .last_accessed = 3000}}));
  EXPECT_EQ(sorted_rows(*index)[0].last_accessed, 5000);
}

TEST_F(XattrIndexTest, APublishedFileNeedsNoMoreThanItWasPreparedWith) {
  const auto fd = base::open_file(file(one), O_RDWR | O_CREAT);
  ASSERT_TRUE(index->prepare(fd->get()));
  EXPECT_EQ(attribute(file(one), "user.hits"), "0");
  struct stat info{};
  ASSERT_EQ(::fstat(fd->get(), &info), 0);
  const auto applied =
      index->apply({{.image_id = one, .last_accessed = static_cast<double>(info.st_atim.tv_sec)}}, {"absent"}, {});
  ASSERT_TRUE(applied);
  EXPECT_TRUE(applied->empty()) << "a new stamp costs a verification";
}

TEST_F(XattrIndexTest, AnAdoptedFileBeginsToCount) {
  commit(one, nullptr, 2000, 1000);
  const auto applied = index->apply({{.image_id = one, .last_accessed = 2000, .hits = 4}}, {},
                                    {{.image_id = one, .more_hits = 1, .last_accessed = 2000}});
  ASSERT_TRUE(applied);
  EXPECT_EQ(attribute(file(one), "user.hits"), "5");
  ASSERT_EQ(applied->size(), 2U);
  EXPECT_EQ((*applied)[0].after, (*applied)[1].before) << "each new stamp follows from the former";
}

TEST_F(XattrIndexTest, WhatIsGoneOrNoFileCostsTheOthersNothing) {
  commit(two, "1", 2000, 1000);
  fs::create_directory(file(one));
  const auto applied = index->apply({}, {},
                                    {{.image_id = "../x", .more_hits = 1},
                                     {.image_id = "absent", .more_hits = 1},
                                     {.image_id = one, .more_hits = 1},
                                     {.image_id = two, .more_hits = 1}});
  ASSERT_TRUE(applied);
  EXPECT_EQ(applied->size(), 1U);
  EXPECT_EQ(attribute(file(two), "user.hits"), "2");
}

TEST_F(XattrIndexTest, AHitsAttributeThatIsNoNumberCountsAsNone) {
  commit(one, "many", 2000, 1000);
  EXPECT_EQ(sorted_rows(*index)[0].hits, 0U);
  ASSERT_TRUE(index->apply({}, {}, {{.image_id = one, .more_hits = 2}}));
  EXPECT_EQ(attribute(file(one), "user.hits"), "2");
}

TEST_F(XattrIndexTest, AnInvalidFileSaysWhy) {
  write_file(file("bad"), "x");
  index->mark_invalid(file("bad"), "its content is not the image's");
  EXPECT_EQ(attribute(file("bad"), "user.error"), "its content is not the image's");
  index->mark_invalid(file("absent"), "nobody sees this");
}

TEST(XattrIndex, AFileSystemWithoutAttributesIsRefusedWithTheMend) {
  const test::PrivateMount plain("ramfs");
  const auto index = open_xattr_index(plain.path());
  ASSERT_FALSE(index);
  EXPECT_EQ(index.error().code, Errc::unsupported);
  EXPECT_EQ(index.error().message,
            plain.path().native() +
                ": image_cache_driver = xattr needs user attributes, which this file system does not have; "
                "set image_cache_driver = sqlite, or put image_cache_dir on XFS, ext4 or btrfs");
}

TEST(XattrIndex, AMountWithoutAccessTimesIsRefusedWithTheMend) {
  const test::TempDir real;  // with attributes
  const test::PrivateMount target("ramfs");
  ASSERT_EQ(::mount(real.path().c_str(), target.path().c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, target.path().c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_NOATIME, nullptr), 0);
  const auto index = open_xattr_index(target.path());
  ::umount2(target.path().c_str(), MNT_DETACH);
  ASSERT_FALSE(index);
  EXPECT_EQ(index.error().code, Errc::unsupported);
  EXPECT_THAT(index.error().message, HasSubstr("mounted noatime; mount it with relatime, or set"));
}

TEST(XattrIndex, ADirectoryThatCannotBeWrittenIsAnError) {
  const auto index = open_xattr_index("/proc");
  ASSERT_FALSE(index);
  EXPECT_THAT(index.error().message, HasSubstr("/proc"));
}

}  // namespace
}  // namespace imagecache::image_cache
