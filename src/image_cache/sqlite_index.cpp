#include "image_cache/glance_index.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>

#include <mutex>

namespace imagecache::image_cache {
namespace {

constexpr int busy_timeout_ms = 2000;  // what Glance itself waits

// Glance's own statement (sqlite driver), so that whoever comes first makes the same table.
constexpr auto schema = R"(
  CREATE TABLE IF NOT EXISTS cached_images (
    image_id TEXT PRIMARY KEY,
    last_accessed REAL DEFAULT 0.0,
    last_modified REAL DEFAULT 0.0,
    size INTEGER DEFAULT 0,
    hits INTEGER DEFAULT 0,
    checksum TEXT))";

std::unexpected<Error> failed(const std::string& path, const SQLite::Exception& problem) {
  const int code = problem.getErrorCode() & 0xff;
  const Errc kind = code == SQLITE_BUSY || code == SQLITE_LOCKED ? Errc::busy
                    : code == SQLITE_FULL                        ? Errc::no_space
                                                                 : Errc::internal;
  return fail(kind, path + ": " + problem.what());
}

}  // namespace

struct GlanceIndex::Impl {
  explicit Impl(const std::string& file)
      : path(file), database(file, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, busy_timeout_ms) {
    database.exec("PRAGMA synchronous = NORMAL");
    database.exec(schema);
  }
  const std::string path;
  std::mutex mutex;
  SQLite::Database database;
};

GlanceIndex::GlanceIndex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GlanceIndex::~GlanceIndex() = default;

Result<std::unique_ptr<GlanceIndex>> GlanceIndex::open(const std::filesystem::path& path) {
  try {
    return std::unique_ptr<GlanceIndex>(new GlanceIndex(std::make_unique<Impl>(path.native())));
  } catch (const SQLite::Exception& problem) {
    return failed(path.native(), problem);
  }
}

Result<std::vector<IndexRow>> GlanceIndex::rows() {
  const std::lock_guard lock(impl_->mutex);
  try {
    std::vector<IndexRow> all;
    SQLite::Statement select(impl_->database,
                             "SELECT image_id, last_accessed, last_modified, size, hits FROM cached_images");
    while (select.executeStep()) {
      all.push_back({.image_id = select.getColumn(0).getString(),
                     .last_accessed = select.getColumn(1).getDouble(),
                     .last_modified = select.getColumn(2).getDouble(),
                     .size_bytes = static_cast<std::uint64_t>(select.getColumn(3).getInt64()),
                     .hits = static_cast<std::uint64_t>(select.getColumn(4).getInt64())});
    }
    return all;
  } catch (const SQLite::Exception& problem) {
    return failed(impl_->path, problem);
  }
}

Result<void> GlanceIndex::apply(const std::vector<IndexRow>& puts, const std::vector<std::string>& removals,
                                const std::vector<IndexHits>& hits) {
  if (puts.empty() && removals.empty() && hits.empty()) return {};
  const std::lock_guard lock(impl_->mutex);
  try {
    SQLite::Transaction transaction(impl_->database, SQLite::TransactionBehavior::IMMEDIATE);
    SQLite::Statement remove(impl_->database, "DELETE FROM cached_images WHERE image_id = ?");
    for (const auto& id : removals) {
      remove.bind(1, id);
      remove.exec();
      remove.reset();
    }
    SQLite::Statement put(impl_->database,
                          "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits) "
                          "VALUES (?, ?, ?, ?, ?) ON CONFLICT (image_id) DO UPDATE SET "
                          "last_accessed = excluded.last_accessed, last_modified = excluded.last_modified, "
                          "size = excluded.size");
    for (const auto& row : puts) {
      put.bind(1, row.image_id);
      put.bind(2, row.last_accessed);
      put.bind(3, row.last_modified);
      put.bind(4, static_cast<std::int64_t>(row.size_bytes));
      put.bind(5, static_cast<std::int64_t>(row.hits));
      put.exec();
      put.reset();
    }
    SQLite::Statement count(impl_->database,
                            "UPDATE cached_images SET hits = hits + ?, last_accessed = max(last_accessed, ?) "
                            "WHERE image_id = ?");
    for (const auto& hit : hits) {
      count.bind(1, static_cast<std::int64_t>(hit.more_hits));
      count.bind(2, hit.last_accessed);
      count.bind(3, hit.image_id);
      count.exec();
      count.reset();
    }
    transaction.commit();
    return {};
  } catch (const SQLite::Exception& problem) {
    return failed(impl_->path, problem);
  }
}

}  // namespace imagecache::image_cache
