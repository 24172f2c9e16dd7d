#include "catalog/sqlite_catalog.hpp"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>

#include "base/fd.hpp"
#include "base/try.hpp"
#include "catalog/schema.hpp"

namespace imagecache::catalog {

SqliteCatalog::SqliteCatalog(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> log_keeper,
                             QuotaDefaults defaults, const base::Clock& clock, const std::string& path,
                             const SqliteOptions& options)
    : defaults_(std::move(defaults)),
      clock_(clock),
      writer_(std::move(writer), std::move(log_keeper)),
      readers_(path, options) {}

Result<std::unique_ptr<SqliteCatalog>> SqliteCatalog::open(const std::string& path, QuotaDefaults defaults,
                                                           const base::Clock& clock, SqliteOptions options) {
  const auto directory = std::filesystem::absolute(path).parent_path();
  IMAGECACHE_CHECK(base::make_directories(directory));
  // Made by us, for its mode: SQLite would let everyone read it. Never opened otherwise, as closing a second descriptor
  // of a database file takes away the locks of the first.
  if (auto made = base::open_file(path, O_RDWR | O_CREAT | O_EXCL, 0640)) {
    IMAGECACHE_CHECK(base::sync_directory(directory));
  } else if (made.error().code != Errc::already_exists) {
    return std::unexpected(made.error());
  }
  try {
    auto writer = std::make_unique<Connection>(path, Connection::Role::writer, options);
    IMAGECACHE_CHECK(prepare_schema(*writer));
    auto log_keeper = std::make_unique<Connection>(path, Connection::Role::writer, options);
    return std::unique_ptr<SqliteCatalog>(
        new SqliteCatalog(std::move(writer), std::move(log_keeper), std::move(defaults), clock, path, options));
  } catch (const SQLite::Exception& error) {
    return std::unexpected(explain(path, error, 0));
  }
}

std::vector<std::string> SqliteCatalog::statements() const {
  auto all = writer_.statements();
  std::ranges::copy(readers_.statements(), std::back_inserter(all));
  return all;
}

Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::string& path, QuotaDefaults defaults,
                                                     const base::Clock& clock, SqliteOptions options) {
  IMAGECACHE_TRY(std::unique_ptr<Catalog> catalog, SqliteCatalog::open(path, std::move(defaults), clock, options));
  return catalog;
}

}  // namespace imagecache::catalog
