// Glance's cache.db. Written so that a glance-api on the same directory finds just what it would have written itself.

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/chrono.h>
#include <sqlite3.h>
#include <sys/xattr.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <optional>
#include <utility>

#include "base/log.hpp"
#include "base/try.hpp"
#include "image_cache/index.hpp"
#include "image_cache/lock_file.hpp"

namespace imagecache::image_cache {
namespace {

namespace fs = std::filesystem;

constexpr int busy_timeout_ms = 2000;         // what Glance itself waits
constexpr int start_busy_timeout_ms = 10000;  // a start has more patience than a flush, which comes again
constexpr std::chrono::milliseconds lock_timeout{10000};

// Glance's own statement (sqlite driver), so that whoever comes first makes the same table.
constexpr auto schema = R"(
  CREATE TABLE IF NOT EXISTS cached_images (
    image_id TEXT PRIMARY KEY,
    last_accessed REAL DEFAULT 0.0,
    last_modified REAL DEFAULT 0.0,
    size INTEGER DEFAULT 0,
    hits INTEGER DEFAULT 0,
    checksum TEXT))";

/// The file is no database, or not this one: nothing in it can be used, and nothing is lost with it.
bool is_broken(const SQLite::Exception& problem) {
  const int code = problem.getErrorCode() & 0xff;
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_FORMAT;
}

/// Somebody has put another file, or none, in the place of the one that is open.
bool was_moved(const SQLite::Exception& problem) {
  return problem.getExtendedErrorCode() == SQLITE_READONLY_DBMOVED;
}

std::unexpected<Error> failed(const fs::path& path, const SQLite::Exception& problem) {
  const int code = problem.getErrorCode() & 0xff;
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return fail(Errc::busy, path.native() +
                                ": another process, glance-api or one of its tools, holds it locked; "
                                "fuser names the process");
  }
  const Errc kind = code == SQLITE_FULL                              ? Errc::no_space
                    : is_broken(problem)                             ? Errc::corrupt
                    : code == SQLITE_READONLY || code == SQLITE_PERM ? Errc::forbidden
                                                                     : Errc::internal;
  const std::string mend = code == SQLITE_CANTOPEN || kind == Errc::forbidden
                               ? "; the daemon's user needs to read and write it and its directory"
                               : "";
  return fail(kind, path.native() + ": " + problem.what() + mend);
}

double plain_time(double seconds) {
  return std::isfinite(seconds) ? seconds : 0;
}

std::uint64_t not_negative(std::int64_t number) {
  return number < 0 ? 0 : static_cast<std::uint64_t>(number);
}

std::int64_t to_column(std::uint64_t number) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(number, INT64_MAX));
}

/// Whether the table is one that Glance could have made; columns of a later Glance may be there too.
bool has_our_columns(SQLite::Database& database) {
  SQLite::Statement columns(database,
                            "SELECT name, pk, hidden FROM pragma_table_xinfo('cached_images') "
                            "WHERE (SELECT type FROM sqlite_master WHERE name = 'cached_images') = 'table'");
  int ours = 0;
  bool id_is_key = false;
  while (columns.executeStep()) {
    const std::string name = columns.getColumn(0).getString();
    const bool key = columns.getColumn(1).getInt() != 0;
    if (columns.getColumn(2).getInt() != 0) return false;  // a generated column computes what it likes
    if (name == "image_id") id_is_key = key;
    if (key && name != "image_id") return false;
    ours +=
        name == "image_id" || name == "last_accessed" || name == "last_modified" || name == "size" || name == "hits";
  }
  if (ours != 5 || !id_is_key) return false;
  // A table without rowids is an error here, and none of Glance's: rows are read in their order.
  const SQLite::Statement rowids(database, "SELECT rowid FROM cached_images");
  return true;
}

bool table_is_there(SQLite::Database& database) {
  return SQLite::Statement(database, "SELECT 1 FROM sqlite_master WHERE name = 'cached_images'").executeStep();
}

/// The file may have been made by anybody: nothing in its schema is run but what stores and finds rows.
void distrust(SQLite::Database& database) {
  sqlite3* handle = database.getHandle();
  ::sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  ::sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  ::sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  ::sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

class SqliteIndex final : public Index {
 public:
  SqliteIndex(fs::path file, fs::path lock_directory)
      : path_(std::move(file)), lock_directory_(std::move(lock_directory)) {}

  /// Opens the database, makes it where there is none, and another in the place of a broken one. `intact` tells
  /// whether what was there could be kept.
  Result<void> open(bool& intact) {
    IMAGECACHE_TRY(intact, open_what_is_there());
    if (intact) return {};
    IMAGECACHE_CHECK(move_aside());
    IMAGECACHE_TRY(const bool anew, open_what_is_there());
    if (!anew) return fail(Errc::internal, path_.native() + ": it is broken again as soon as it is made");
    return {};
  }

  bool rows_are_files() const override { return false; }

  Result<std::vector<IndexRow>> rows(Reading& reading) override {
    const std::lock_guard lock(mutex_);
    IMAGECACHE_CHECK(ensure_open());
    try {
      return read_rows(reading);
    } catch (const SQLite::Exception& problem) {
      if (!is_broken(problem)) return failed(path_, problem);
      // What could be read of a broken file is not worth more than the files themselves, from which all is found again.
      IMAGECACHE_CHECK(start_anew(problem.what()));
      return std::vector<IndexRow>();
    }
  }

  Result<bool> changed_by_others() override {
    const std::lock_guard lock(mutex_);
    IMAGECACHE_CHECK(ensure_open());
    try {
      // Moves with the commits of other connections alone.
      const std::int64_t version = database_->execAndGet("PRAGMA data_version").getInt64();
      return std::exchange(data_version_, version) != version;
    } catch (const SQLite::Exception& problem) {
      return failed(path_, problem);
    }
  }

  Result<void> prepare(int fd) override {
    // Glance's xattr driver counts here; so the counts may go over when an operator changes the driver.
    static_cast<void>(::fsetxattr(fd, "user.hits", "0", 1, 0));
    return {};
  }

  void mark_invalid(const fs::path& /*file*/, std::string_view /*reason*/) override {}

  Result<std::vector<Restamped>> apply(const std::vector<IndexRow>& puts, const std::vector<std::string>& removals,
                                       const std::vector<IndexHits>& hits) override {
    if (puts.empty() && removals.empty() && hits.empty()) return {};
    const std::lock_guard lock(mutex_);
    IMAGECACHE_CHECK(ensure_open());
    try {
      write(puts, removals, hits);
      return {};
    } catch (const SQLite::Exception& problem) {
      if (!is_broken(problem) && !was_moved(problem)) return failed(path_, problem);
      if (was_moved(problem)) {
        base::log::warning("image_cache", nullptr, "{}: it was removed or replaced", path_.native());
        database_.reset();
        IMAGECACHE_CHECK(ensure_open());
      } else {
        IMAGECACHE_CHECK(start_anew(problem.what()));
      }
      return fail(Errc::corrupt, path_.native() + ": its rows were lost and are to be written again");
    }
  }

 private:
  /// false: what is there is broken.
  Result<bool> open_what_is_there() {
    try {
      // mutex_ is held by whoever uses it: SQLite need not lock for each column of a million rows.
      database_ = std::make_unique<SQLite::Database>(
          path_.native(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_NOMUTEX, start_busy_timeout_ms);
      distrust(*database_);
      if (!table_is_there(*database_)) {
        // Glance makes it under this lock; the lock file is not made where there is nothing to lock.
        IMAGECACHE_TRY(const base::Fd lock, hold_lock_file(lock_directory_ / "image_cache_db_init", lock_timeout));
        database_->exec(schema);
      }
      if (!has_our_columns(*database_)) {
        base::log::warning("image_cache", nullptr, "{}: its table cached_images is not Glance's", path_.native());
        return false;
      }
      // Glance's "delete all" would remove a -wal file under us.
      database_->exec("PRAGMA journal_mode = DELETE");
      database_->exec("PRAGMA synchronous = NORMAL");
      database_->exec("PRAGMA cell_size_check = ON");
      database_->setBusyTimeout(busy_timeout_ms);
      return true;
    } catch (const SQLite::Exception& problem) {
      const auto error = failed(path_, problem);
      const bool broken = is_broken(problem) || (database_ && no_such_thing(problem));
      database_.reset();
      if (!broken) return error;
      base::log::warning("image_cache", nullptr, "{}: {}", path_.native(), problem.what());
      return false;
    }
  }

  /// An SQL error from statements that are right means a schema that is not.
  static bool no_such_thing(const SQLite::Exception& problem) {
    return (problem.getErrorCode() & 0xff) == SQLITE_ERROR;
  }

  Result<void> ensure_open() {
    if (database_) return {};
    bool intact = true;
    return open(intact);
  }

  Result<void> start_anew(const std::string& reason) {
    base::log::warning("image_cache", nullptr, "{}: {}", path_.native(), reason);
    IMAGECACHE_CHECK(move_aside());
    bool intact = true;
    return open(intact);
  }

  /// Keeps the broken file for people to look at. A folder, since Glance counts and deletes stray files.
  Result<void> move_aside() {
    database_.reset();
    const fs::path kept = path_.parent_path() / ".cinder-image-cache";
    IMAGECACHE_CHECK(base::make_directories(kept));
    const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    const fs::path target = kept / fmt::format("{}.broken-{:%Y%m%dT%H%M%S}Z", path_.filename().native(), now);
    for (const char* suffix : {"", "-journal", "-wal", "-shm"}) {
      const fs::path from = path_.native() + suffix;
      const fs::path to = target.native() + suffix;
      if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) return base::fail_errno(from.native(), errno);
    }
    base::log::warning("image_cache", nullptr, "{}: moved to {}; its rows are made again from the files",
                       path_.native(), target.native());
    return {};
  }

  /// In the order in which they lie in the file, and in pieces: between two of them a glance-api may write, which waits
  /// two seconds for it and then cuts its client off.
  Result<std::vector<IndexRow>> read_rows(Reading& reading) {
    std::vector<IndexRow> all;
    const std::uint64_t last = not_negative(database_->execAndGet("SELECT max(rowid) FROM cached_images").getInt64());
    all.reserve(std::min<std::uint64_t>(last, 1 << 20));
    for (std::optional<std::int64_t> from = INT64_MIN; from;) {
      if (reading.stop.stop_requested()) return fail(Errc::cancelled, path_.native() + ": not read to its end");
      from = read_some_rows(*from, all);
      reading.rows.store(all.size(), std::memory_order_relaxed);
    }
    return all;
  }

  /// Some rows from the rowid `from` on; the rowid to go on from, if there may be more. By SQLite's own calls: of a
  /// million rows what SQLiteCpp makes of each column is as much as SQLite's reading it.
  std::optional<std::int64_t> read_some_rows(std::int64_t from, std::vector<IndexRow>& all) {
    constexpr int at_once = 20'000;
    sqlite3* handle = database_->getHandle();
    sqlite3_stmt* made = nullptr;
    constexpr auto sql =
        "SELECT rowid, image_id, last_accessed, last_modified, size, hits FROM cached_images WHERE rowid >= ?1 "
        "ORDER BY rowid LIMIT ?2";
    if (::sqlite3_prepare_v2(handle, sql, -1, &made, nullptr) != SQLITE_OK) throw SQLite::Exception(handle);
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> select(made, &::sqlite3_finalize);
    ::sqlite3_bind_int64(made, 1, from);
    ::sqlite3_bind_int(made, 2, at_once);
    bool more = false;
    int stepped = ::sqlite3_step(made);
    for (; stepped == SQLITE_ROW; stepped = ::sqlite3_step(made)) {
      const std::int64_t rowid = ::sqlite3_column_int64(made, 0);
      if (rowid < from) throw SQLite::Exception("its rows are out of order", SQLITE_CORRUPT);
      more = rowid < INT64_MAX;
      from = more ? rowid + 1 : rowid;
      const void* id = ::sqlite3_column_blob(made, 1);
      const auto length = static_cast<std::size_t>(::sqlite3_column_bytes(made, 1));
      all.push_back({.image_id = id == nullptr ? std::string() : std::string(static_cast<const char*>(id), length),
                     .last_accessed = plain_time(::sqlite3_column_double(made, 2)),
                     .last_modified = plain_time(::sqlite3_column_double(made, 3)),
                     .size_bytes = not_negative(::sqlite3_column_int64(made, 4)),
                     .hits = not_negative(::sqlite3_column_int64(made, 5))});
    }
    if (stepped != SQLITE_DONE) throw SQLite::Exception(handle, stepped);
    return more ? std::optional(from) : std::nullopt;
  }

  void write(const std::vector<IndexRow>& puts, const std::vector<std::string>& removals,
             const std::vector<IndexHits>& hits) {
    SQLite::Transaction transaction(*database_, SQLite::TransactionBehavior::IMMEDIATE);
    SQLite::Statement remove(*database_, "DELETE FROM cached_images WHERE image_id = ?");
    for (const auto& id : removals) {
      remove.bind(1, id);
      remove.exec();
      remove.reset();
    }
    SQLite::Statement put(*database_,
                          "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits) "
                          "VALUES (?, ?, ?, ?, ?) ON CONFLICT (image_id) DO UPDATE SET "
                          "last_accessed = excluded.last_accessed, last_modified = excluded.last_modified, "
                          "size = excluded.size");
    for (const auto& row : puts) {
      put.bind(1, row.image_id);
      put.bind(2, row.last_accessed);
      put.bind(3, row.last_modified);
      put.bind(4, to_column(row.size_bytes));
      put.bind(5, to_column(row.hits));
      put.exec();
      put.reset();
    }
    SQLite::Statement count(*database_,
                            "UPDATE cached_images SET hits = hits + ?, last_accessed = max(last_accessed, ?) "
                            "WHERE image_id = ?");
    for (const auto& hit : hits) {
      count.bind(1, to_column(hit.more_hits));
      count.bind(2, hit.last_accessed);
      count.bind(3, hit.image_id);
      count.exec();
      count.reset();
    }
    transaction.commit();
  }

  const fs::path path_;
  const fs::path lock_directory_;
  std::mutex mutex_;
  std::int64_t data_version_ = 0;
  std::unique_ptr<SQLite::Database> database_;  // none between a failure and the next try
};

}  // namespace

Result<std::unique_ptr<Index>> open_sqlite_index(const fs::path& database, const fs::path& lock_path) {
  auto index = std::make_unique<SqliteIndex>(database, lock_path.empty() ? database.parent_path() : lock_path);
  bool intact = true;
  IMAGECACHE_CHECK(index->open(intact));
  return index;
}

}  // namespace imagecache::image_cache
