// Volumes: the rows, their pages, and the quota that goes with them.

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/try.hpp"
#include "catalog/quota.hpp"
#include "catalog/rows.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {
namespace {

std::unexpected<Error> no_volume(const std::string& id) {
  return fail(Errc::not_found, "Volume " + id + " could not be found.");
}

Result<void> check_size(std::uint64_t size_gb) {
  if (size_gb <= static_cast<std::uint64_t>(largest_size_gb)) return {};
  return fail(Errc::invalid_argument,
              fmt::format("a volume of {} GiB cannot be kept, the largest is {} GiB", size_gb, largest_size_gb));
}

/// One page's statement: the index that fits the filter best, entered at the marker and read backwards. Without a
/// marker it is entered behind the last row, so that the statement is a search in every case.
std::string page_sql(const VolumeFilter& filter) {
  std::string index = "volumes_by_time";
  std::string where;
  int place = 0;
  const auto equals = [&](const char* column) { where += fmt::format("{} = ?{} AND ", column, ++place); };
  if (filter.project_id) equals("project_id");
  if (filter.backend) equals("backend");
  if (filter.status) equals("status");
  if (filter.display_name) equals("display_name");
  // SQLite takes an index over a part of the rows only where the statement says that part.
  if (filter.display_name && !filter.display_name->empty()) {
    index = "volumes_by_name";
    where += "display_name <> '' AND ";
  } else if (filter.status && *filter.status != "available") {
    index = "volumes_by_status";
    where += "status <> 'available' AND ";
  } else if (filter.project_id) {
    index = "volumes_by_project";
  } else if (filter.backend) {
    index = "volumes_by_backend";
  }
  return fmt::format(
      "SELECT {} FROM volumes INDEXED BY {} WHERE {}(created_at, id) < (?{}, ?{}) "
      "ORDER BY created_at DESC, id DESC LIMIT ?{}",
      volume_columns, index, where, place + 1, place + 2, place + 3);
}

/// Is the row there, and as the update wants it?
Result<void> check_state(Connection& connection, const std::string& id, const Catalog::VolumeUpdate& update) {
  auto row = connection.query("SELECT status, attachment FROM volumes WHERE id = ?1");
  if (!row.with(id).step()) return no_volume(id);
  const auto& from = update.from;
  if (update.from_attachment) {
    const auto attachment = row.text(1);
    if ((attachment.empty() ? "" : from_json(attachment)["id"]) != *update.from_attachment)
      return fail(Errc::conflict, fmt::format("Volume {} has been attached or detached meanwhile, look again.", id));
  }
  const auto status = row.text(0);
  if (from.empty() || std::ranges::find(from, status) != from.end()) return {};
  std::string wanted;
  for (const auto& state : from) wanted += (wanted.empty() ? "" : ", ") + state;
  return fail(Errc::conflict, fmt::format("Volume {} is in status {}, but must be in one of: {}.", id, status, wanted));
}

}  // namespace

Result<void> SqliteCatalog::create_volume(const Volume& volume) {
  IMAGECACHE_CHECK(check_size(volume.size_gb));
  Volume row = volume;
  if (row.created_at == base::WallTime{}) row.created_at = clock_.now();
  static const std::string insert = fmt::format("INSERT INTO volumes ({}) VALUES ({})", volume_columns, places(25));
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto fence = connection.query("SELECT 1 FROM fences WHERE volume_id = ?1");
      if (fence.with(row.id).step())
        return fail(Errc::cancelled, "Volume " + row.id + ": its creation was called off, take another id.");
    }
    {
      auto known = connection.query("SELECT 1 FROM volumes WHERE id = ?1");
      if (known.with(row.id).step())
        return fail(Errc::already_exists, "Volume " + row.id + " is known already, ask for it or take another id.");
    }
    if (row.counts_quota) {
      const ProjectQuota quota(connection, defaults_, row.project_id);
      IMAGECACHE_CHECK(quota.check_volume_size(row.size_gb));
      IMAGECACHE_CHECK(quota.check_growth(row.volume_type, 1, row.size_gb));
    }
    auto query = connection.query(insert);
    bind_volume(query, row);
    query.run();
    return {};
  });
}

Result<std::optional<Volume>> SqliteCatalog::find_volume(const std::string& id) {
  static const std::string select = fmt::format("SELECT {} FROM volumes WHERE id = ?1", volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<Volume>> {
    auto row = connection.query(select);
    if (!row.with(id).step()) return std::nullopt;
    return read_volume(row);
  });
}

Result<std::vector<Volume>> SqliteCatalog::list_volumes(const VolumeFilter& filter) {
  const auto sql = page_sql(filter);
  return readers_.run([&](Connection& connection) -> Result<std::vector<Volume>> {
    auto before_time = std::numeric_limits<std::int64_t>::max();
    if (!filter.marker.empty()) {
      auto marker = connection.query("SELECT created_at, project_id FROM volumes WHERE id = ?1");
      if (!marker.with(filter.marker).step() || (filter.project_id && marker.text(1) != *filter.project_id))
        return no_volume(filter.marker);
      before_time = marker.integer(0);
    }
    auto rows = connection.query(sql);
    for (const auto& value : {filter.project_id, filter.backend, filter.status, filter.display_name})
      if (value) rows.add(*value);
    rows.with(before_time, filter.marker,
              std::min<std::uint64_t>(filter.limit, std::numeric_limits<std::int64_t>::max()));
    std::vector<Volume> page;
    while (rows.step()) page.push_back(read_volume(rows));
    return page;
  });
}

Result<void> SqliteCatalog::update_volume(const std::string& id, const VolumeUpdate& update) {
  // Only the columns that are given are named, so that an index over the others is not touched.
  std::string sets = "updated_at = ?2";
  std::vector<std::string> texts;
  int place = 2;
  const auto set = [&](const char* column, const std::optional<std::string>& value) {
    if (!value) return;
    sets += fmt::format(", {} = ?{}", column, ++place);
    texts.push_back(*value);
  };
  set("name", update.name);
  set("status", update.status);
  set("status_reason", update.status_reason);
  set("source_volume_id", update.source_volume_id);
  set("content_key", update.content_key);
  set("display_name", update.display_name);
  set("display_description", update.display_description);
  if (update.metadata) set("metadata", to_json(*update.metadata));
  if (update.image_metadata) set("image_metadata", to_json(*update.image_metadata));
  if (update.attach || update.detach) set("attachment", attachment_to_json(update.attach));
  if (update.bootable) sets += fmt::format(", bootable = {}", *update.bootable ? 1 : 0);
  const auto sql = fmt::format("UPDATE volumes SET {} WHERE id = ?1", sets);

  return writer_.run(
      [&](Connection& connection) -> Result<void> {
        IMAGECACHE_CHECK(check_state(connection, id, update));
        auto query = connection.query(sql);
        query.with(id, clock_.now());
        for (const auto& text : texts) query.add(text);
        query.run();
        return {};
      },
      update.durable);
}

Result<void> SqliteCatalog::resize_volume(const std::string& id, std::uint64_t new_size_gb) {
  IMAGECACHE_CHECK(check_size(new_size_gb));
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto row = connection.query("SELECT size_gb, counts_quota, project_id, volume_type FROM volumes WHERE id = ?1");
      if (!row.with(id).step()) return no_volume(id);
      const auto old_size_gb = row.natural(0);
      if (row.boolean(1) && new_size_gb > old_size_gb) {
        const ProjectQuota quota(connection, defaults_, row.text(2));
        IMAGECACHE_CHECK(quota.check_volume_size(new_size_gb));
        IMAGECACHE_CHECK(quota.check_growth(row.text(3), 0, new_size_gb - old_size_gb));
      }
    }
    connection.query("UPDATE volumes SET size_gb = ?2, updated_at = ?3 WHERE id = ?1")
        .with(id, new_size_gb, clock_.now())
        .run();
    return {};
  });
}

Result<void> SqliteCatalog::retype_volume(const std::string& id, const std::string& new_type) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto row =
          connection.query("SELECT size_gb, counts_quota, project_id, volume_type, status FROM volumes WHERE id = ?1");
      if (!row.with(id).step()) return no_volume(id);
      const auto status = row.text(4);
      if ((status != "available" && status != "in-use") || row.text(3) == new_type) {
        return fail(
            Errc::conflict,
            "Retype needs volume to be in available or in-use state, not be part of an active migration or a "
            "consistency group, requested type has to be different that the one from the volume, and for in-use "
            "volumes front-end qos specs cannot change.");
      }
      if (row.boolean(1)) {
        const ProjectQuota quota(connection, defaults_, row.text(2));
        IMAGECACHE_CHECK(quota.check_retype(new_type, row.natural(0)));
      }
    }
    connection.query("UPDATE volumes SET volume_type = ?2, updated_at = ?3 WHERE id = ?1")
        .with(id, new_type, clock_.now())
        .run();
    return {};
  });
}

Result<void> SqliteCatalog::remove_volume(const std::string& id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("DELETE FROM volumes WHERE id = ?1").with(id).run();  // its image-volume goes by the foreign key
    return {};
  });
}

Result<void> SqliteCatalog::add_fence(const std::string& volume_id, base::WallTime at) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection
        .query(
            "INSERT INTO fences (volume_id, fenced_at) VALUES (?1, ?2) "
            "ON CONFLICT (volume_id) DO UPDATE SET fenced_at = max(fenced_at, excluded.fenced_at)")
        .with(volume_id, at)
        .run();
    return {};
  });
}

Result<void> SqliteCatalog::drop_fences_before(base::WallTime time) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("DELETE FROM fences WHERE fenced_at < ?1").with(time).run();
    return {};
  });
}

Result<std::vector<Volume>> SqliteCatalog::unfinished_volumes() {
  static const std::string select = fmt::format(
      "SELECT {} FROM volumes INDEXED BY volumes_by_status WHERE status <> 'available' "
      "AND status IN ('creating', 'downloading', 'extending', 'deleting', 'uploading')",
      volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::vector<Volume>> {
    auto rows = connection.query(select);
    std::vector<Volume> volumes;
    while (rows.step()) volumes.push_back(read_volume(rows));
    return volumes;
  });
}

}  // namespace imagecache::catalog
