// What the file does: restarts, crashes, full disks, damage, versions, other processes, and the cost of each statement.

#include <sys/stat.h>

#include <barrier>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <latch>
#include <set>
#include <thread>

#include "catalog/group_writer.hpp"
#include "catalog/schema.hpp"
#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
class Storage : public CatalogTest {
 protected:
  Result<std::unique_ptr<Catalog>> open_at(const std::string& path, SqliteOptions options = {}) {
    return open_sqlite_catalog(path, defaults_, clock_, options);
  }
};

TEST_F(Storage, EverythingIsThereAfterReopening) {
  add_image_volume(1, "k");
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  ASSERT_OK(catalog_->set_quota("p", {{"volumes_gold", 4}}));
  reopen();
  EXPECT_TRUE(catalog_->find_volume(id(1)).value());
  EXPECT_TRUE(catalog_->find_image_volume("fast", "k", "").value());
  EXPECT_TRUE(catalog_->find_volume_type("gold").value());
  EXPECT_EQ(quota("volumes_gold").limit, 4);
  EXPECT_EQ(quota("volumes").in_use, 1U);
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().size_gb, 2U);
}

TEST_F(Storage, AFileOfTheFirstVersionIsBroughtUpToDateAndKeepsItsRows) {
  add_image_volume(1, "k");
  catalog_.reset();
  {
    SQLite::Database old(path_, SQLite::OPEN_READWRITE);
    old.exec(R"sql(
      ALTER TABLE volumes DROP COLUMN source_volid; ALTER TABLE volumes DROP COLUMN attachment;
      DROP TABLE messages; DROP TABLE quota_classes; DROP TABLE volume_type_access; DROP TABLE service_states;
      ALTER TABLE volume_types DROP COLUMN encryption;
      DROP TABLE image_volume_uses; DROP TABLE refusals; DROP INDEX image_volumes_to_evict;
      ALTER TABLE image_volumes RENAME TO new_ones;
      CREATE TABLE image_volumes (volume_id TEXT NOT NULL PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
        backend TEXT NOT NULL, content_key TEXT NOT NULL, image_id TEXT NOT NULL, image_updated_at TEXT NOT NULL,
        requesting_project TEXT NOT NULL, state TEXT NOT NULL, size_gb INTEGER NOT NULL,
        virtual_size_bytes INTEGER NOT NULL, clones INTEGER NOT NULL, pinned INTEGER NOT NULL,
        created_at INTEGER NOT NULL, last_used INTEGER NOT NULL, build_ms INTEGER NOT NULL,
        UNIQUE (backend, content_key)) STRICT;
      INSERT INTO image_volumes SELECT volume_id, backend, content_key, image_id, image_updated_at, requesting_project,
        state, size_gb, virtual_size_bytes, clones, pinned, created_at, last_used, build_ms FROM new_ones;
      DROP TABLE new_ones;
      PRAGMA user_version=1)sql");
  }
  reopen();
  const auto found = catalog_->find_volume(id(1)).value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->source_volid, "");
  EXPECT_FALSE(found->attachment);
  EXPECT_FALSE(catalog_->find_image_volume_by_id(id(1)).value()->used_bytes);
  EXPECT_EQ(catalog_->find_image_volume_by_id(id(1)).value()->pool, "");
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().count, 1U);
  EXPECT_EQ(catalog_->list_image_volume_uses().value().size(), 1U) << "for whom it was built";
  EXPECT_OK(catalog_->add_message({.id = "m1", .project_id = "p"}));
  EXPECT_OK(catalog_->set_quota_class("default", {{"volumes", 5}}));
  EXPECT_EQ(SQLite::Database(path_).execAndGet("PRAGMA user_version").getInt(), schema_version);
}

TEST_F(Storage, WhatWasAnsweredSurvivesAKill) {
  // The files as a killed process leaves them, at every step: nothing was closed, the log was not carried over.
  for (unsigned n = 0; n < 20; ++n) {
    add(volume(n));
    const auto crashed = directory_ / ("crashed-" + std::to_string(n));
    fs::create_directory(crashed);
    for (const char* file : {"catalog.db", "catalog.db-wal"}) fs::copy_file(directory_ / file, crashed / file);
    auto after = open_at((crashed / "catalog.db").string());
    ASSERT_TRUE(after) << after.error().message;
    EXPECT_EQ((*after)->list_volumes({}).value().size(), n + 1);
    EXPECT_EQ((*after)->quota("p").value().at("volumes").in_use, n + 1);
  }
}

TEST_F(Storage, AKillInTheMiddleOfAWriteLeavesWhatWasBefore) {
  add(volume(1));
  const auto log = directory_ / "catalog.db-wal";
  const auto before = fs::file_size(log);
  add(volume(2));
  ASSERT_GT(fs::file_size(log), before + 1);
  const auto torn = directory_ / "torn";
  fs::create_directory(torn);
  fs::copy_file(path_, torn / "catalog.db");
  fs::copy_file(log, torn / "catalog.db-wal");
  fs::resize_file(torn / "catalog.db-wal", fs::file_size(log) - 1);  // the last page of the commit is not whole
  auto after = open_at((torn / "catalog.db").string());
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_TRUE((*after)->find_volume(id(1)).value());
  EXPECT_FALSE((*after)->find_volume(id(2)).value());
  EXPECT_EQ((*after)->quota("p").value().at("volumes").in_use, 1U);
}

/// GoogleTest runs suites of this name first: a process looks only once at where it is to die.
using StorageDeathTest = Storage;
TEST_F(StorageDeathTest, KilledBeforeTheCommitNothingIsThereAndAfterItAllIs) {
  catalog_.reset();
  const auto create_and_die_at = [&](unsigned n, const char* point) {
    ::setenv("IMAGECACHE_CRASH_AT", point, 1);
    auto catalog = open_at(path_).value();
    static_cast<void>(catalog->create_volume(volume(n)));
  };
  EXPECT_EXIT(create_and_die_at(1, "catalog.before_commit"), ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(create_and_die_at(2, "catalog.after_commit"), ::testing::KilledBySignal(SIGKILL), "");
  reopen();
  EXPECT_EQ(listed({}), std::vector{id(2)});
  EXPECT_EQ(quota("volumes").in_use, 1U);
}

TEST_F(Storage, EveryCommitIsSyncedToTheDisk) {
  // What a copy of the files cannot show: 2 is FULL, the log is synced before a commit is answered.
  Connection writer(path_, Connection::Role::writer, {});
  EXPECT_EQ(writer.integer("PRAGMA synchronous"), 2);
  EXPECT_EQ(writer.text("PRAGMA journal_mode"), "wal");
}

TEST_F(Storage, AFullDiskIsSaidAndLeavesWhatWasBefore) {
  reopen({.max_size_bytes = 200'000});
  auto made = volume(0);
  made.display_description = std::string(3000, 'x');
  unsigned n = 0;
  Result<void> last;
  for (; n < 1000 && last; ++n) {
    made.id = id(n);
    last = catalog_->create_volume(made);
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, Errc::no_space) << last.error().message;
  EXPECT_THAT(last.error().message, HasSubstr(path_));
  EXPECT_EQ(listed({.limit = 2000}).size(), n - 1);
  EXPECT_EQ(quota("volumes").in_use, n - 1);
  // Removing makes room, and the catalog goes on.
  for (unsigned removed = 0; removed < 5; ++removed) ASSERT_OK(catalog_->remove_volume(id(removed)));
  EXPECT_OK(catalog_->create_volume(made));
}

TEST_F(Storage, OneThatFindsTheDiskFullTakesNoOneElseDown) {
  // Changes share a transaction; the one that does not fit fails alone.
  reopen({.max_size_bytes = 400'000});
  constexpr unsigned threads = 8;
  std::barrier together(threads);
  std::atomic<unsigned> large_failed = 0;
  std::atomic<unsigned> small_failed = 0;
  {
    std::vector<std::jthread> callers;
    callers.reserve(threads);
    for (unsigned thread = 0; thread < threads; ++thread) {
      callers.emplace_back([&, thread] {
        for (unsigned round = 0; round < 10; ++round) {
          together.arrive_and_wait();
          auto made = volume(thread * 100 + round);
          if (thread == 0) made.display_description = std::string(1'000'000, 'x');
          if (!catalog_->create_volume(made)) ++(thread == 0 ? large_failed : small_failed);
        }
      });
    }
  }
  EXPECT_EQ(large_failed, 10U);
  EXPECT_EQ(small_failed, 0U);
  EXPECT_EQ(quota("volumes").in_use, 70U);
}

TEST_F(Storage, AnotherProcessThatHoldsTheFileIsBusy) {
  reopen({.busy_timeout = 20ms});
  SQLite::Database other(path_, SQLite::OPEN_READWRITE);
  other.exec("BEGIN IMMEDIATE");
  EXPECT_EQ(code_of(catalog_->create_volume(volume(1))), Errc::busy);
  EXPECT_OK(catalog_->find_volume(id(1)));  // readers do not mind
  other.exec("COMMIT");
  EXPECT_OK(catalog_->create_volume(volume(1)));
}

TEST_F(Storage, AVersionFromTheFutureIsRefusedAndNotTouched) {
  catalog_.reset();
  SQLite::Database(path_, SQLite::OPEN_READWRITE).exec("PRAGMA user_version=7");
  const auto refused = open_at(path_);
  EXPECT_EQ(code_of(refused), Errc::unsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("schema 7"));
  EXPECT_EQ(SQLite::Database(path_).execAndGet("PRAGMA user_version").getInt(), 7);
}

TEST_F(Storage, AnotherProgramsDatabaseIsRefusedAndNotTouched) {
  const auto path = (directory_ / "cache.db").string();
  SQLite::Database(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE)
      .exec("CREATE TABLE cached_images (image_id TEXT)");
  EXPECT_EQ(code_of(open_at(path)), Errc::corrupt);
  SQLite::Database after(path);
  EXPECT_EQ(after.execAndGet("SELECT count(*) FROM sqlite_schema").getInt(), 1);
  EXPECT_EQ(after.execAndGet("PRAGMA journal_mode").getString(), "delete");
}

TEST_F(Storage, AFileThatIsNoDatabaseIsRefusedAndNotTouched) {
  const auto path = (directory_ / "text").string();
  std::ofstream(path) << std::string(10'000, 'x');
  const auto refused = open_at(path);
  EXPECT_EQ(code_of(refused), Errc::corrupt);
  EXPECT_THAT(refused.error().message, HasSubstr(path));
  EXPECT_EQ(fs::file_size(path), 10'000U);
}

TEST_F(Storage, AFileThatWasCutOffIsRefused) {
  for (unsigned n = 0; n < 50; ++n) add(volume(n));
  catalog_.reset();
  fs::resize_file(path_, fs::file_size(path_) / 2);
  EXPECT_EQ(code_of(open_at(path_)), Errc::corrupt);
}

TEST_F(Storage, MakesItsDirectoryAndKeepsTheFileFromOthers) {
  const auto path = directory_ / "a" / "b" / "catalog.db";
  ASSERT_OK(open_at(path.string()));
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07, 0U);
}

TEST_F(Storage, APathThatCannotBeMadeIsAnErrorThatNamesIt) {
  const auto refused = open_at(path_ + "/catalog.db");  // a file where a directory is needed
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(path_));
}

TEST_F(Storage, CallersAtTheSameTimeShareACommit) {
  // The first change is held inside its transaction until all others wait: they must then share one.
  SqliteOptions options;
  auto writer = std::make_unique<Connection>(path_, Connection::Role::writer, options);
  auto log_keeper = std::make_unique<Connection>(path_, Connection::Role::writer, options);
  GroupWriter group(std::move(writer), std::move(log_keeper));
  constexpr unsigned followers = 8;
  std::latch first_is_in(1);
  std::vector<std::jthread> callers;
  const auto insert = [](unsigned n) {
    return [n](Connection& connection) -> Result<void> {
      connection.query("INSERT INTO fences VALUES (?1, 0)").with(std::to_string(n)).run();
      if (n % 4 == 3) return fail(Errc::conflict, "after it was written");
      return {};
    };
  };
  callers.emplace_back([&] {
    EXPECT_OK(group.run([&](Connection& connection) -> Result<void> {
      first_is_in.count_down();
      while (group.waiting() < followers) std::this_thread::yield();
      return insert(1000)(connection);
    }));
  });
  first_is_in.wait();
  std::atomic<unsigned> refused = 0;
  for (unsigned n = 0; n < followers; ++n) callers.emplace_back([&, n] { refused += group.run(insert(n)) ? 0 : 1; });
  callers.clear();
  EXPECT_EQ(group.counts().changes, followers + 1);
  EXPECT_EQ(group.counts().transactions, 2U);
  EXPECT_EQ(refused, 2U);  // and each of them alone: what it had written is gone
  SQLite::Database other(path_);
  EXPECT_EQ(other.execAndGet("SELECT count(*) FROM fences").getInt(), static_cast<int>(followers + 1 - 2));
}

TEST_F(Storage, WhatIsToBeDurableSoonIsSeenAtOnceAndSyncedWithTheNext) {
  SqliteOptions options;
  GroupWriter group(std::make_unique<Connection>(path_, Connection::Role::writer, options),
                    std::make_unique<Connection>(path_, Connection::Role::writer, options));
  SQLite::Database other(path_);
  std::int64_t level = 0;
  const auto insert = [&](const char* id) {
    return [&level, id = std::string(id)](Connection& connection) -> Result<void> {
      level = connection.integer("PRAGMA synchronous");
      connection.query("INSERT INTO fences VALUES (?1, 0)").with(id).run();
      return {};
    };
  };
  EXPECT_OK(group.run(insert("a"), Durable::soon));
  EXPECT_EQ(level, 1) << "NORMAL: not synced";
  EXPECT_EQ(group.counts().unsynced, 1U);
  EXPECT_EQ(other.execAndGet("SELECT count(*) FROM fences").getInt(), 1);
  EXPECT_OK(group.run(insert("b"), Durable::now));
  EXPECT_EQ(level, 2);
  EXPECT_EQ(group.counts().unsynced, 1U);
  EXPECT_EQ(group.counts().transactions, 2U);

  // In company of one that is not: the first is held until both wait, and they share a transaction.
  std::latch first_is_in(1);
  std::vector<std::jthread> callers;
  callers.emplace_back([&] {
    EXPECT_OK(group.run(
        [&](Connection& connection) -> Result<void> {
          first_is_in.count_down();
          while (group.waiting() < 2) std::this_thread::yield();
          return insert("c")(connection);
        },
        Durable::soon));
  });
  first_is_in.wait();
  callers.emplace_back([&] { EXPECT_OK(group.run(insert("d"), Durable::soon)); });
  callers.emplace_back([&] { EXPECT_OK(group.run(insert("e"), Durable::now)); });
  callers.clear();
  EXPECT_EQ(group.counts().transactions, 4U);
  EXPECT_EQ(group.counts().unsynced, 2U);
  EXPECT_EQ(level, 2);
}

TEST_F(Storage, AnExceptionInAChangeIsAFailureOfThatChangeAlone) {
  SqliteOptions options;
  GroupWriter group(std::make_unique<Connection>(path_, Connection::Role::writer, options),
                    std::make_unique<Connection>(path_, Connection::Role::writer, options));
  const auto failed = group.run([](Connection&) -> Result<void> { throw std::runtime_error("a bug"); });
  EXPECT_EQ(code_of(failed), Errc::internal);
  EXPECT_THAT(failed.error().message, HasSubstr("a bug"));
  EXPECT_EQ(code_of(group.run([](Connection& connection) -> Result<void> {
              connection.execute("no SQL");
              return {};
            })),
            Errc::internal);
  EXPECT_OK(group.run([](Connection&) -> Result<void> { return {}; }));
}

TEST_F(Storage, TheLogIsCarriedOverAndStaysSmall) {
  auto made = volume(0);
  made.display_description = std::string(1'000'000, 'x');
  for (unsigned n = 0; n < 200; ++n) {
    made.id = id(n);
    ASSERT_OK(catalog_->create_volume(made));
    ASSERT_OK(catalog_->remove_volume(made.id));
  }
  // 200 MB and more were written to it.
  EXPECT_LT(fs::file_size(directory_ / "catalog.db-wal"), std::uintmax_t{100} << 20);
}

TEST_F(Storage, NoStatementScansATableThatGrows) {
  {
    SQLite::Database fill(path_, SQLite::OPEN_READWRITE);
    fill.exec(R"sql(PRAGMA foreign_keys=ON; BEGIN;
      WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
      INSERT INTO volumes SELECT NULL, printf('00000000-0000-4000-8000-%012d', i), 'v', 'p' || (i % 10), 'u', 'd' || i, '',
        'b' || (i % 3), 'h', 'gold', iif(i % 100, 'available', 'error'), '', 1, '', '', '', '', 0, 1, '{}', '{}', '', i, 0, '', '' FROM n;
      INSERT INTO image_volumes SELECT id, backend, 'k' || id, '', '', '', 'ready', 1, 1, 0, 0, 0, created_at, 0, -1, '' FROM volumes;
      COMMIT)sql");
  }
  for (unsigned asked = 0; asked < 32; ++asked) {
    VolumeFilter filter{.limit = 1000};
    if (asked & 1) filter.project_id = "p1";
    if (asked & 2) filter.backend = "b1";
    if (asked & 4) filter.status = asked & 16 ? "available" : "error";
    if (asked & 8) filter.display_name = asked & 16 ? "" : "d7";
    if (asked & 16) filter.marker = id(10'001);
    ASSERT_OK(catalog_->list_volumes(filter));
  }
  ASSERT_OK(catalog_->find_volume(id(5)));
  ASSERT_OK(catalog_->unfinished_volumes());
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  add_image_volume(50'000, "new");
  ASSERT_OK(catalog_->update_volume(id(50'000), {.from = {"creating"}, .status = "available"}));
  ASSERT_OK(catalog_->resize_volume(id(50'000), 4));
  ASSERT_OK(catalog_->find_image_volume("b1", "k", ""));
  ASSERT_OK(catalog_->find_image_volume_by_id(id(4)));
  ASSERT_OK(catalog_->list_image_volumes("b1"));
  ASSERT_OK(catalog_->update_image_volume(id(4), {.state = "ready", .pinned = true, .size_gb = 3}));
  ASSERT_OK(catalog_->record_uses({{id(4), 1, clock_.now()}}));
  ASSERT_OK(catalog_->record_seen(id(4), "i", clock_.now()));
  ASSERT_OK(catalog_->record_refusal({.backend = "b1", .image_id = "i", .kind = "quota"}));
  ASSERT_OK(catalog_->list_refusals());
  ASSERT_OK(catalog_->image_volume_totals("b1"));
  ASSERT_OK(catalog_->least_recently_used("b1"));
  ASSERT_OK(catalog_->add_fence(id(1), clock_.now()));
  ASSERT_OK(catalog_->drop_fences_before(clock_.now()));
  ASSERT_OK(catalog_->remove_volume(id(50'000)));
  ASSERT_OK(catalog_->set_quota("p1", {{"volumes", -1}}));
  ASSERT_OK(catalog_->reset_quota("p1"));
  EXPECT_EQ(code_of(catalog_->remove_volume_type("t1")), Errc::conflict);
  ASSERT_OK(catalog_->set_quota_class("default", {{"volumes", 5}}));
  ASSERT_OK(catalog_->quota_defaults());
  ASSERT_OK(catalog_->add_type_access("t1", "p1"));
  ASSERT_OK(catalog_->projects_of_type("t1"));
  ASSERT_OK(catalog_->types_of_project("p1"));
  ASSERT_OK(catalog_->remove_type_access("t1", "p1"));
  ASSERT_OK(catalog_->update_volume_type({.id = "t1", .name = "silver"}));
  ASSERT_OK(catalog_->create_volume_type({.id = "t2", .name = "iron"}));
  ASSERT_OK(catalog_->retype_volume(id(5), "iron"));
  ASSERT_OK(catalog_->add_message({.id = "m1", .project_id = "p1", .created_at = clock_.now()}));
  ASSERT_OK(catalog_->find_message("m1"));
  ASSERT_OK(catalog_->list_messages("p1"));
  ASSERT_OK(catalog_->list_messages(std::nullopt));
  ASSERT_OK(catalog_->remove_message("m1"));
  ASSERT_OK(catalog_->set_service_state("h@b", {}));
  ASSERT_OK(catalog_->service_states());

  std::set<std::string> checked;
  SQLite::Database database(path_);
  for (const auto& sql : catalog_->statements()) {
    if (!sql.starts_with("SELECT") && !sql.starts_with("UPDATE") && !sql.starts_with("DELETE")) continue;
    SQLite::Statement plan(database, "EXPLAIN QUERY PLAN " + sql);
    while (plan.executeStep()) {
      const auto step = plan.getColumn(3).getString();
      // Types and services are a handful, and all of them are wanted.
      if (step.starts_with("SCAN volume_types") || step.starts_with("SCAN service_states")) continue;
      EXPECT_THAT(step, ::testing::Not(::testing::StartsWith("SCAN"))) << sql;
      EXPECT_THAT(step, ::testing::Not(HasSubstr("TEMP B-TREE"))) << sql;
    }
    checked.insert(sql);
  }
  EXPECT_GT(checked.size(), 25U);
}

}  // namespace
}  // namespace imagecache::catalog
