#include "origin/file_memory.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>

#include <vector>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/try.hpp"

namespace imagecache::origin {
namespace {

constexpr int busy_timeout_ms = 5000;
constexpr int schema_version = 1;

/// Throws SQLite::Exception.
std::unique_ptr<SQLite::Database> open_or_throw(const std::filesystem::path& path) {
  auto database =
      std::make_unique<SQLite::Database>(path.native(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, busy_timeout_ms);
  database->exec("PRAGMA journal_mode = WAL");
  database->exec("PRAGMA synchronous = NORMAL");
  if (database->execAndGet("PRAGMA user_version").getInt() != schema_version) {
    SQLite::Transaction transaction(*database);
    database->exec("DROP TABLE IF EXISTS files");
    database->exec(
        "CREATE TABLE files (name BLOB PRIMARY KEY, device INTEGER NOT NULL, inode INTEGER NOT NULL, size_bytes "
        "INTEGER "
        "NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, sha512 TEXT NOT NULL, disk_format TEXT NOT "
        "NULL, virtual_size_bytes INTEGER) WITHOUT ROWID");
    database->exec("PRAGMA user_version = " + std::to_string(schema_version));
    transaction.commit();
  }
  return database;
}

bool is_damage(int code) {
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

}  // namespace

FileMemory::FileMemory(std::unique_ptr<SQLite::Database> database) : database_(std::move(database)) {}
FileMemory::~FileMemory() = default;

Result<std::unique_ptr<FileMemory>> FileMemory::open(const std::filesystem::path& path) {
  for (bool again : {false, true}) {
    try {
      return std::unique_ptr<FileMemory>(new FileMemory(open_or_throw(path)));
    } catch (const SQLite::Exception& error) {
      if (again || !is_damage(error.getErrorCode())) {
        return fail(Errc::internal, path.native() + ": cannot be opened: " + error.what());
      }
      base::log::warning("origin", nullptr, "{}: {}; begun anew, the images' digests are worked out again",
                         path.native(), error.what());
      for (const auto* suffix : {"", "-wal", "-shm"}) IMAGECACHE_CHECK(base::remove_file(path.native() + suffix));
    }
  }
  return fail(Errc::internal, path.native() + ": cannot be opened");
}

std::optional<FileFacts> FileMemory::recall(const std::string& file_name, const FileVersion& version) {
  const std::scoped_lock lock(mutex_);
  try {
    SQLite::Statement query(*database_,
                            "SELECT device, inode, size_bytes, mtime_ns, ctime_ns, sha512, disk_format, "
                            "virtual_size_bytes FROM files WHERE name = ?");
    query.bind(1, file_name.data(), static_cast<int>(file_name.size()));
    if (!query.executeStep()) return std::nullopt;
    FileFacts facts;
    facts.version = {.device = static_cast<std::uint64_t>(query.getColumn(0).getInt64()),
                     .inode = static_cast<std::uint64_t>(query.getColumn(1).getInt64()),
                     .size_bytes = static_cast<std::uint64_t>(query.getColumn(2).getInt64()),
                     .mtime_ns = query.getColumn(3).getInt64(),
                     .ctime_ns = query.getColumn(4).getInt64()};
    if (facts.version != version) return std::nullopt;
    facts.sha512 = query.getColumn(5).getString();
    facts.disk_format = query.getColumn(6).getString();
    if (!query.isColumnNull(7)) facts.virtual_size_bytes = static_cast<std::uint64_t>(query.getColumn(7).getInt64());
    return facts;
  } catch (const SQLite::Exception& error) {
    base::log::warning("origin", nullptr, "what was known of image file {} cannot be read: {}", file_name,
                       error.what());
    return std::nullopt;
  }
}

void FileMemory::remember(const std::string& file_name, const FileFacts& facts) {
  const std::scoped_lock lock(mutex_);
  try {
    SQLite::Statement insert(*database_, "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    insert.bind(1, file_name.data(), static_cast<int>(file_name.size()));
    insert.bind(2, static_cast<std::int64_t>(facts.version.device));
    insert.bind(3, static_cast<std::int64_t>(facts.version.inode));
    insert.bind(4, static_cast<std::int64_t>(facts.version.size_bytes));
    insert.bind(5, facts.version.mtime_ns);
    insert.bind(6, facts.version.ctime_ns);
    insert.bind(7, facts.sha512);
    insert.bind(8, facts.disk_format);
    if (facts.virtual_size_bytes) insert.bind(9, static_cast<std::int64_t>(*facts.virtual_size_bytes));
    insert.exec();
  } catch (const SQLite::Exception& error) {
    base::log::warning("origin", nullptr, "the digest of image file {} is not kept over a restart: {}", file_name,
                       error.what());
  }
}

void FileMemory::keep_only(const std::set<std::string>& file_names) {
  const std::scoped_lock lock(mutex_);
  try {
    std::vector<std::string> gone;
    SQLite::Statement query(*database_, "SELECT name FROM files");
    while (query.executeStep()) {
      std::string name = query.getColumn(0).getString();
      if (!file_names.contains(name)) gone.push_back(std::move(name));
    }
    query.reset();
    if (gone.empty()) return;
    SQLite::Transaction transaction(*database_);
    SQLite::Statement erase(*database_, "DELETE FROM files WHERE name = ?");
    for (const auto& name : gone) {
      erase.reset();
      erase.bind(1, name.data(), static_cast<int>(name.size()));
      erase.exec();
    }
    transaction.commit();
  } catch (const SQLite::Exception& error) {
    base::log::warning("origin", nullptr, "what is known of image files that are gone stays: {}", error.what());
  }
}

}  // namespace imagecache::origin
