#include "image_cache/ledger.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>

#include <mutex>

namespace imagecache::image_cache {
namespace {

constexpr int busy_timeout_ms = 5000;

constexpr auto schema = R"(
  CREATE TABLE IF NOT EXISTS verified (
    image_id TEXT PRIMARY KEY, content_key TEXT NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS partial (
    image_id TEXT PRIMARY KEY, content_key TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pinned (image_id TEXT PRIMARY KEY) WITHOUT ROWID;)";

Verified verified_of(const SQLite::Statement& select, int first) {
  return {.content_key = select.getColumn(first).getString(),
          .stamp = {.inode = static_cast<std::uint64_t>(select.getColumn(first + 1).getInt64()),
                    .size_bytes = static_cast<std::uint64_t>(select.getColumn(first + 2).getInt64()),
                    .mtime_ns = select.getColumn(first + 3).getInt64(),
                    .ctime_ns = select.getColumn(first + 4).getInt64()}};
}

/// The four columns of a stamp, in the table's order, from the parameter `first` on.
void bind_stamp(SQLite::Statement& statement, int first, const Stamp& stamp) {
  statement.bind(first, static_cast<std::int64_t>(stamp.inode));
  statement.bind(first + 1, static_cast<std::int64_t>(stamp.size_bytes));
  statement.bind(first + 2, stamp.mtime_ns);
  statement.bind(first + 3, stamp.ctime_ns);
}

}  // namespace

Stamp stamp_of(const struct stat& info) {
  constexpr std::int64_t second = 1'000'000'000;
  return {.inode = info.st_ino,
          .size_bytes = static_cast<std::uint64_t>(info.st_size),
          .mtime_ns = info.st_mtim.tv_sec * second + info.st_mtim.tv_nsec,
          .ctime_ns = info.st_ctim.tv_sec * second + info.st_ctim.tv_nsec};
}

struct Ledger::Impl {
  explicit Impl(const std::string& file)
      : path(file), database(file, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, busy_timeout_ms) {
    database.exec("PRAGMA journal_mode = WAL");
    // A lost row costs one verification, so a commit need not wait for the disk.
    database.exec("PRAGMA synchronous = NORMAL");
    database.exec(schema);
  }

  /// Runs `work` with the database; its exceptions become Results.
  template <class Work>
  auto with(Work work) -> decltype(work(std::declval<SQLite::Database&>())) {
    const std::lock_guard lock(mutex);
    try {
      return work(database);
    } catch (const SQLite::Exception& problem) {
      const int code = problem.getErrorCode() & 0xff;
      const Errc kind = code == SQLITE_BUSY ? Errc::busy : code == SQLITE_FULL ? Errc::no_space : Errc::internal;
      return fail(kind, path + ": " + problem.what());
    }
  }

  Result<void> run(const char* sql, const std::string& image_id, const std::string* second = nullptr) {
    return with([&](SQLite::Database& db) -> Result<void> {
      SQLite::Statement statement(db, sql);
      statement.bind(1, image_id);
      if (second) statement.bind(2, *second);
      statement.exec();
      return {};
    });
  }

  const std::string path;
  std::mutex mutex;
  SQLite::Database database;
};

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ledger::~Ledger() = default;

Result<std::unique_ptr<Ledger>> Ledger::open(const std::filesystem::path& path) {
  try {
    return std::unique_ptr<Ledger>(new Ledger(std::make_unique<Impl>(path.native())));
  } catch (const SQLite::Exception& problem) {
    return fail(Errc::internal, path.native() + ": " + problem.what());
  }
}

Result<std::optional<Verified>> Ledger::find_verified(const std::string& image_id) {
  return impl_->with([&](SQLite::Database& db) -> Result<std::optional<Verified>> {
    SQLite::Statement select(db,
                             "SELECT content_key, inode, size, mtime_ns, ctime_ns FROM verified WHERE image_id = ?");
    select.bind(1, image_id);
    if (!select.executeStep()) return std::nullopt;
    return verified_of(select, 0);
  });
}

Result<std::map<std::string, std::string>> Ledger::partials() {
  return impl_->with([](SQLite::Database& db) -> Result<std::map<std::string, std::string>> {
    std::map<std::string, std::string> all;
    SQLite::Statement select(db, "SELECT image_id, content_key FROM partial");
    while (select.executeStep()) all[select.getColumn(0).getString()] = select.getColumn(1).getString();
    return all;
  });
}

Result<void> Ledger::begin_partial(const std::string& image_id, const std::string& content_key) {
  return impl_->run("INSERT OR REPLACE INTO partial (image_id, content_key) VALUES (?, ?)", image_id, &content_key);
}

Result<void> Ledger::drop_partial(const std::string& image_id) {
  return impl_->run("DELETE FROM partial WHERE image_id = ?", image_id);
}

Result<void> Ledger::drop_verified(const std::string& image_id) {
  return impl_->run("DELETE FROM verified WHERE image_id = ?", image_id);
}

Result<void> Ledger::drop_verified(const std::vector<std::string>& image_ids) {
  if (image_ids.empty()) return {};
  return impl_->with([&](SQLite::Database& db) -> Result<void> {
    SQLite::Transaction transaction(db);
    SQLite::Statement drop(db, "DELETE FROM verified WHERE image_id = ?");
    for (const auto& id : image_ids) {
      drop.bind(1, id);
      drop.exec();
      drop.reset();
    }
    transaction.commit();
    return {};
  });
}

Result<void> Ledger::restamp(const std::vector<Restamped>& moved) {
  if (moved.empty()) return {};
  return impl_->with([&](SQLite::Database& db) -> Result<void> {
    SQLite::Transaction transaction(db);
    SQLite::Statement update(db,
                             "UPDATE verified SET mtime_ns = ?, ctime_ns = ? WHERE image_id = ? AND inode = ? AND "
                             "size = ? AND mtime_ns = ? AND ctime_ns = ?");
    for (const auto& one : moved) {
      update.bind(1, one.after.mtime_ns);
      update.bind(2, one.after.ctime_ns);
      update.bind(3, one.image_id);
      bind_stamp(update, 4, one.before);
      update.exec();
      update.reset();
    }
    transaction.commit();
    return {};
  });
}

Result<std::vector<std::string>> Ledger::pins() {
  return impl_->with([](SQLite::Database& db) -> Result<std::vector<std::string>> {
    std::vector<std::string> all;
    SQLite::Statement select(db, "SELECT image_id FROM pinned ORDER BY image_id");
    while (select.executeStep()) all.push_back(select.getColumn(0).getString());
    return all;
  });
}

Result<void> Ledger::pin(const std::string& image_id) {
  return impl_->run("INSERT OR IGNORE INTO pinned (image_id) VALUES (?)", image_id);
}

Result<void> Ledger::unpin(const std::string& image_id) {
  return impl_->run("DELETE FROM pinned WHERE image_id = ?", image_id);
}

Result<void> Ledger::put_verified(const std::string& image_id, const Verified& verified) {
  return impl_->with([&](SQLite::Database& db) -> Result<void> {
    SQLite::Transaction transaction(db);
    SQLite::Statement put(db, "INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?, ?, ?)");
    put.bind(1, image_id);
    put.bind(2, verified.content_key);
    bind_stamp(put, 3, verified.stamp);
    put.exec();
    SQLite::Statement drop(db, "DELETE FROM partial WHERE image_id = ?");
    drop.bind(1, image_id);
    drop.exec();
    transaction.commit();
    return {};
  });
}

}  // namespace imagecache::image_cache
