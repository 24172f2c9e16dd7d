// Who may use a volume type that is not public.
#include "base/try.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {
namespace {

Result<std::vector<std::string>> texts(ReaderPool& readers, const std::string& sql, const std::string& value) {
  return readers.run([&](Connection& connection) -> Result<std::vector<std::string>> {
    auto rows = connection.query(sql);
    rows.with(value);
    std::vector<std::string> found;
    while (rows.step()) found.push_back(rows.text(0));
    return found;
  });
}

}  // namespace

Result<std::vector<std::string>> SqliteCatalog::projects_of_type(const std::string& type_id) {
  return texts(readers_, "SELECT project_id FROM volume_type_access WHERE type_id = ?1 ORDER BY project_id", type_id);
}

Result<std::vector<std::string>> SqliteCatalog::types_of_project(const std::string& project_id) {
  return texts(readers_, "SELECT type_id FROM volume_type_access WHERE project_id = ?1", project_id);
}

Result<void> SqliteCatalog::add_type_access(const std::string& type_id, const std::string& project_id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto type = connection.query("SELECT 1 FROM volume_types WHERE id = ?1");
      if (!type.with(type_id).step()) return fail(Errc::not_found, "Volume type " + type_id + " could not be found.");
    }
    const int added = connection.query("INSERT OR IGNORE INTO volume_type_access (type_id, project_id) VALUES (?1, ?2)")
                          .with(type_id, project_id)
                          .run();
    if (added == 0) {
      return fail(Errc::already_exists,
                  "Volume type access for " + type_id + " / " + project_id + " combination already exists.");
    }
    return {};
  });
}

Result<void> SqliteCatalog::remove_type_access(const std::string& type_id, const std::string& project_id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    const int removed = connection.query("DELETE FROM volume_type_access WHERE type_id = ?1 AND project_id = ?2")
                            .with(type_id, project_id)
                            .run();
    if (removed == 0) {
      return fail(Errc::not_found,
                  "Volume type access not found for " + type_id + " / " + project_id + " combination.");
    }
    return {};
  });
}

}  // namespace imagecache::catalog
