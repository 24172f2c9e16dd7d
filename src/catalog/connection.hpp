// One SQLite connection with its prepared statements, and the way from SQLite's errors to ours. Private to the room.
//
// A connection is used by one thread at a time (its owner, GroupWriter or ReaderPool, sees to that). Everything here
// throws SQLite::Exception; those two turn it into a Result, so that no exception leaves the room.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "catalog/catalog.hpp"

namespace imagecache::catalog {

/// A statement in use: bound, stepped, and reset at the end of the scope, also after an exception. A statement that is
/// left stepped would keep its transaction open.
class Query {
 public:
  explicit Query(SQLite::Statement& statement) : statement_(statement) {}
  ~Query() { static_cast<void>(statement_.tryReset()); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  /// The parameters ?1, ?2… in order.
  template <class... Values>
  Query& with(const Values&... values) {
    (add(values), ...);
    return *this;
  }
  void add(const std::string& value) { statement_.bind(++bound_, value); }
  void add(const char* value) = delete;  // would be taken for a bool
  void add(bool value) { statement_.bind(++bound_, value ? 1 : 0); }
  void add(std::int64_t value) { statement_.bind(++bound_, value); }
  void add(std::uint64_t value) { statement_.bind(++bound_, static_cast<std::int64_t>(value)); }
  void add(base::WallTime value) { add(static_cast<std::int64_t>(value.time_since_epoch().count())); }

  /// True while there is a row.
  bool step() { return statement_.executeStep(); }
  /// A statement that gives no rows; how many it changed.
  int run() { return statement_.exec(); }

  std::string text(int column) const { return statement_.getColumn(column).getString(); }
  std::int64_t integer(int column) const { return statement_.getColumn(column).getInt64(); }
  std::uint64_t natural(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  bool boolean(int column) const { return integer(column) != 0; }
  base::WallTime time(int column) const { return base::WallTime(std::chrono::microseconds(integer(column))); }

 private:
  SQLite::Statement& statement_;
  int bound_ = 0;
};

class Connection {
 public:
  enum class Role { writer, reader };
  /// Opens `path`, which a writer makes if need be. A reader cannot change anything.
  Connection(const std::string& path, Role role, const SqliteOptions& options);

  /// The prepared statement of `sql`, kept for the next time. The same one must not be in use twice at once.
  Query query(const std::string& sql);
  void execute(const char* sql) { database_.exec(sql); }
  /// The first column of the first row.
  std::string text(const char* sql) { return database_.execAndGet(sql).getString(); }
  std::int64_t integer(const char* sql) { return database_.execAndGet(sql).getInt64(); }

  const std::string& path() const { return path_; }
  sqlite3* handle() const { return database_.getHandle(); }
  bool in_transaction() const;
  /// What `error`, thrown by this connection, means to a caller.
  Error explain(const SQLite::Exception& error) const;
  /// Every statement asked for so far: the tests look at how SQLite runs each.
  std::vector<std::string> statements() const;

 private:
  const std::string path_;
  SQLite::Database database_;
  std::unordered_map<std::string, SQLite::Statement> statements_;  // destroyed before the database they belong to
};

/// Ours from SQLite's, where there is no connection (yet).
Error explain(const std::string& path, const SQLite::Exception& error, int system_errno);

}  // namespace imagecache::catalog
