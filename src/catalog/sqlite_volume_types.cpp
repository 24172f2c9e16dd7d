// Volume types. A volume names its type, so a new name is carried to the volumes and to the quotas that name it.

#include <fmt/format.h>

#include "base/try.hpp"
#include "catalog/quota.hpp"
#include "catalog/rows.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {
namespace {

Result<std::string> name_of(Connection& connection, const std::string& id) {
  auto row = connection.query("SELECT name FROM volume_types WHERE id = ?1");
  if (!row.with(id).step()) return fail(Errc::not_found, "Volume type " + id + " could not be found.");
  return row.text(0);
}

Result<void> check_name_is_free(Connection& connection, const std::string& name, const std::string& id) {
  auto row = connection.query("SELECT 1 FROM volume_types WHERE name = ?1 AND id <> ?2");
  if (!row.with(name, id).step()) return {};
  return fail(Errc::already_exists, "Volume Type " + name + " already exists.");
}

void rename(Connection& connection, const std::string& from, const std::string& to) {
  connection
      .query(
          "UPDATE volumes SET volume_type = ?2 WHERE volume_type = ?1 AND project_id IN "
          "(SELECT project_id FROM volume_usage WHERE volume_type = ?1)")
      .with(from, to)
      .run();
  for (const std::string prefix : {"volumes_", "gigabytes_", "snapshots_"}) {
    for (const char* sql : {"UPDATE OR REPLACE quotas SET resource = ?2 WHERE resource = ?1",
                            "UPDATE OR REPLACE quota_classes SET resource = ?2 WHERE resource = ?1"}) {
      connection.query(sql).with(prefix + from, prefix + to).run();
    }
  }
}

}  // namespace

Result<void> SqliteCatalog::create_volume_type(const VolumeType& type) {
  static const std::string insert =
      fmt::format("INSERT INTO volume_types ({}) VALUES ({})", volume_type_columns, places(6));
  return writer_.run([&](Connection& connection) -> Result<void> {
    IMAGECACHE_CHECK(check_name_is_free(connection, type.name, type.id));
    if (name_of(connection, type.id)) return fail(Errc::already_exists, "Volume Type " + type.id + " already exists.");
    auto query = connection.query(insert);
    bind_volume_type(query, type);
    query.run();
    return {};
  });
}

Result<std::vector<VolumeType>> SqliteCatalog::list_volume_types() {
  static const std::string select = fmt::format("SELECT {} FROM volume_types ORDER BY name", volume_type_columns);
  return readers_.run([&](Connection& connection) -> Result<std::vector<VolumeType>> {
    auto rows = connection.query(select);
    std::vector<VolumeType> types;
    while (rows.step()) types.push_back(read_volume_type(rows));
    return types;
  });
}

Result<std::optional<VolumeType>> SqliteCatalog::find_volume_type(const std::string& id_or_name) {
  static const std::string by_id = fmt::format("SELECT {} FROM volume_types WHERE id = ?1", volume_type_columns);
  static const std::string by_name = fmt::format("SELECT {} FROM volume_types WHERE name = ?1", volume_type_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<VolumeType>> {
    for (const auto& sql : {by_id, by_name}) {
      auto row = connection.query(sql);
      if (row.with(id_or_name).step()) return read_volume_type(row);
    }
    return std::nullopt;
  });
}

Result<void> SqliteCatalog::update_volume_type(const VolumeType& type) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    IMAGECACHE_TRY(const auto old_name, name_of(connection, type.id));
    IMAGECACHE_CHECK(check_name_is_free(connection, type.name, type.id));
    connection
        .query("UPDATE volume_types SET name = ?2, description = ?3, is_public = ?4, extra_specs = ?5 WHERE id = ?1")
        .with(type.id, type.name, type.description, type.is_public, to_json(type.extra_specs))
        .run();
    if (type.name != old_name) rename(connection, old_name, type.name);
    return {};
  });
}

Result<void> SqliteCatalog::set_type_encryption(const std::string& id,
                                                const std::map<std::string, std::string>& encryption) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    IMAGECACHE_TRY(const auto name, name_of(connection, id));
    auto used = connection.query("SELECT 1 FROM volume_usage WHERE volume_type = ?1 LIMIT 1");
    if (used.with(name).step()) return fail(Errc::conflict, "Volume type in use.");
    connection.query("UPDATE volume_types SET encryption = ?2 WHERE id = ?1").with(id, to_json(encryption)).run();
    return {};
  });
}

Result<void> SqliteCatalog::remove_volume_type(const std::string& id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    IMAGECACHE_TRY(const auto name, name_of(connection, id));
    {
      auto used = connection.query("SELECT 1 FROM volume_usage WHERE volume_type = ?1 LIMIT 1");
      if (used.with(name).step()) {
        return fail(Errc::conflict, "Volume type " + name + " has volumes; delete them or keep the type.");
      }
    }
    connection.query("DELETE FROM volume_types WHERE id = ?1").with(id).run();
    for (const auto& resource : resources_of_type(name)) {
      connection.query("DELETE FROM quotas WHERE resource = ?1").with(resource).run();
      connection.query("DELETE FROM quota_classes WHERE resource = ?1").with(resource).run();
    }
    return {};
  });
}

}  // namespace imagecache::catalog
