#include "catalog/connection.hpp"

#include <sqlite3.h>

#include <cerrno>

namespace imagecache::catalog {

Connection::Connection(const std::string& path, Role role, const SqliteOptions& options)
    : path_(path),
      database_(path, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX | (role == Role::writer ? SQLite::OPEN_CREATE : 0),
                static_cast<int>(options.busy_timeout.count())) {
  // Pages of deleted rows hold no secret that would be worth writing them once more (Debian's SQLite does by default).
  execute("PRAGMA secure_delete=OFF; PRAGMA foreign_keys=ON; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY");
  if (role == Role::reader) {
    execute("PRAGMA query_only=ON");
    return;
  }
  // FULL syncs the log at every commit. NORMAL would be quicker and lose the last commits in a power failure, among
  // them intents whose volumes are then on the backend without a row; GroupWriter takes it for what may be lost.
  execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0");
  if (options.max_size_bytes != 0) {
    const auto pages = options.max_size_bytes / static_cast<std::uint64_t>(integer("PRAGMA page_size"));
    execute(("PRAGMA max_page_count=" + std::to_string(pages)).c_str());
  }
}

Query Connection::query(const std::string& sql) {
  auto found = statements_.find(sql);
  if (found == statements_.end()) found = statements_.try_emplace(sql, database_, sql).first;
  return Query(found->second);
}

bool Connection::in_transaction() const {
  return sqlite3_get_autocommit(handle()) == 0;
}

Error Connection::explain(const SQLite::Exception& error) const {
  return catalog::explain(path_, error, sqlite3_system_errno(handle()));
}

std::vector<std::string> Connection::statements() const {
  std::vector<std::string> all;
  all.reserve(statements_.size());
  for (const auto& [sql, statement] : statements_) all.push_back(sql);
  return all;
}

Error explain(const std::string& path, const SQLite::Exception& error, int system_errno) {
  const std::string what = path + ": ";
  const std::string why = std::string(" (") + error.what() + ")";
  switch (error.getErrorCode()) {
    case SQLITE_FULL:
      return {Errc::no_space, what + "the catalog cannot grow, free some disk space" + why};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Errc::busy, what + "another process keeps the catalog locked, try again or end that process" + why};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return {Errc::corrupt,
              what +
                  "the catalog is damaged or is no catalog; put back a copy of it, or move it (and its -wal and -shm "
                  "files) away to begin with an empty one" +
                  why};
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return {Errc::forbidden,
              what + "the catalog cannot be opened for writing, check the path, its owner and mode" + why};
    default:
      // A write that fails for quota, or a sync that finds the disk full, is an I/O error to SQLite.
      if (system_errno == ENOSPC || system_errno == EDQUOT)
        return {Errc::no_space, what + "the catalog cannot grow, free some disk space" + why};
      return {Errc::internal, what + "the catalog failed" + why};
  }
}

}  // namespace imagecache::catalog
