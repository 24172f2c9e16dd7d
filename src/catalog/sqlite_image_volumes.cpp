// Image-volumes: which volume holds which content, who was used when, who goes next.

#include <fmt/format.h>

#include "catalog/rows.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {
namespace {

void add_use(Connection& connection, const Catalog::Use& use) {
  connection
      .query(
          "INSERT INTO image_volume_uses (volume_id, image_id, project_id, clones, saved_ms, last_used, seen_at) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0) ON CONFLICT (volume_id, image_id, project_id) DO UPDATE SET "
          "clones = clones + excluded.clones, saved_ms = saved_ms + excluded.saved_ms, "
          "last_used = max(last_used, excluded.last_used)")
      .with(use.volume_id, use.image_id, use.project_id, use.clones, use.saved_ms, use.at)
      .run();
}

std::optional<ImageVolume> first(Query& rows) {
  if (!rows.step()) return std::nullopt;
  return read_image_volume(rows);
}

}  // namespace

Result<void> SqliteCatalog::create_image_volume(const ImageVolume& image_volume) {
  ImageVolume row = image_volume;
  if (row.created_at == base::WallTime{}) row.created_at = clock_.now();
  if (row.last_used == base::WallTime{}) row.last_used = row.created_at;
  static const std::string insert =
      fmt::format("INSERT INTO image_volumes ({}) VALUES ({})", image_volume_columns, places(16));
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto volume = connection.query("SELECT 1 FROM volumes WHERE id = ?1");
      if (!volume.with(row.volume_id).step())
        return fail(Errc::not_found, "Volume " + row.volume_id + " could not be found.");
      auto same = connection.query(
          "SELECT volume_id FROM image_volumes WHERE (backend = ?2 AND content_key = ?3 AND "
          "pool = ?4) OR volume_id = ?1");
      if (same.with(row.volume_id, row.backend, row.content_key, row.pool).step()) {
        return fail(Errc::already_exists, fmt::format("{}: the content {} is kept already, as volume {}", row.backend,
                                                      row.content_key, same.text(0)));
      }
    }
    auto query = connection.query(insert);
    bind_image_volume(query, row);
    query.run();
    add_use(connection, {.volume_id = row.volume_id,
                         .at = row.last_used,
                         .image_id = row.image_id,
                         .project_id = row.requesting_project});
    return {};
  });
}

Result<std::optional<ImageVolume>> SqliteCatalog::find_image_volume(const std::string& backend,
                                                                    const std::string& content_key,
                                                                    const std::string& pool) {
  static const std::string select = fmt::format(
      "SELECT {} FROM image_volumes WHERE backend = ?1 AND content_key = ?2 AND pool = ?3", image_volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<ImageVolume>> {
    auto rows = connection.query(select);
    return first(rows.with(backend, content_key, pool));
  });
}

Result<std::optional<ImageVolume>> SqliteCatalog::find_image_volume_by_id(const std::string& volume_id) {
  static const std::string select =
      fmt::format("SELECT {} FROM image_volumes WHERE volume_id = ?1", image_volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<ImageVolume>> {
    auto rows = connection.query(select);
    return first(rows.with(volume_id));
  });
}

Result<std::vector<ImageVolume>> SqliteCatalog::list_image_volumes(const std::optional<std::string>& backend) {
  static const std::string all = fmt::format("SELECT {} FROM image_volumes", image_volume_columns);
  static const std::string of_backend = all + " WHERE backend = ?1";
  return readers_.run([&](Connection& connection) -> Result<std::vector<ImageVolume>> {
    auto rows = connection.query(backend ? of_backend : all);
    if (backend) rows.with(*backend);
    std::vector<ImageVolume> list;
    while (rows.step()) list.push_back(read_image_volume(rows));
    return list;
  });
}

Result<void> SqliteCatalog::update_image_volume(const std::string& volume_id, const ImageVolumeUpdate& update) {
  std::string sets;
  std::vector<std::uint64_t> numbers;
  int place = 1;
  const auto set = [&](const char* column, const std::optional<std::uint64_t>& value) {
    if (!value) return;
    sets += fmt::format("{}{} = ?{}", sets.empty() ? "" : ", ", column, ++place);
    numbers.push_back(*value);
  };
  set("size_gb", update.size_gb);
  set("virtual_size_bytes", update.virtual_size_bytes);
  set("build_ms", update.build_ms);
  set("used_bytes", update.used_bytes);
  set("pinned", update.pinned);
  if (update.state) sets += fmt::format("{}state = ?{}", sets.empty() ? "" : ", ", ++place);
  if (sets.empty()) sets = "state = state";  // still says whether the row is there
  const auto sql = fmt::format("UPDATE image_volumes SET {} WHERE volume_id = ?1", sets);
  return writer_.run([&](Connection& connection) -> Result<void> {
    auto query = connection.query(sql);
    query.with(volume_id);
    for (const auto number : numbers) query.add(number);
    if (update.state) query.add(*update.state);
    if (query.run() == 0) return fail(Errc::not_found, "Image-volume " + volume_id + " could not be found.");
    return {};
  });
}

Result<void> SqliteCatalog::record_uses(const std::vector<Use>& uses) {
  if (uses.empty()) return {};
  return writer_.run([&](Connection& connection) -> Result<void> {
    for (const auto& use : uses) {
      auto row = connection.query(
          "UPDATE image_volumes SET last_used = max(last_used, ?2), clones = clones + ?3 WHERE volume_id = ?1");
      if (row.with(use.volume_id, use.at, use.clones).run() != 0) add_use(connection, use);
    }
    return {};
  });
}

Result<std::vector<ImageVolumeUse>> SqliteCatalog::list_image_volume_uses() {
  return readers_.run([&](Connection& connection) -> Result<std::vector<ImageVolumeUse>> {
    auto rows = connection.query(
        "SELECT volume_id, image_id, project_id, clones, saved_ms, last_used, seen_at FROM image_volume_uses");
    std::vector<ImageVolumeUse> uses;
    while (rows.step()) {
      uses.push_back({.volume_id = rows.text(0),
                      .image_id = rows.text(1),
                      .project_id = rows.text(2),
                      .clones = rows.natural(3),
                      .saved_ms = rows.natural(4),
                      .last_used = rows.time(5),
                      .seen_at = rows.time(6)});
    }
    return uses;
  });
}

Result<void> SqliteCatalog::record_seen(const std::string& volume_id, const std::string& image_id, base::WallTime at) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("UPDATE image_volume_uses SET seen_at = ?3 WHERE volume_id = ?1 AND image_id = ?2")
        .with(volume_id, image_id, at)
        .run();
    return {};
  });
}

Result<void> SqliteCatalog::record_refusal(const Refusal& refusal) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    const base::WallTime at = refusal.last_at == base::WallTime{} ? clock_.now() : refusal.last_at;
    connection
        .query(
            "INSERT INTO refusals (backend, image_id, kind, reason, project_id, size_gb, count, first_at, last_at) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7) ON CONFLICT (backend, image_id, kind) DO UPDATE SET "
            "reason = excluded.reason, project_id = excluded.project_id, size_gb = excluded.size_gb, "
            "count = count + 1, last_at = excluded.last_at")
        .with(refusal.backend, refusal.image_id, refusal.kind, refusal.reason, refusal.project_id, refusal.size_gb, at)
        .run();
    auto oldest_kept =
        connection.query("SELECT last_at FROM refusals WHERE last_at >= 0 ORDER BY last_at DESC LIMIT 1 OFFSET ?1");
    oldest_kept.add(refusals_kept - 1);
    if (!oldest_kept.step()) return {};
    connection.query("DELETE FROM refusals WHERE last_at < ?1").with(oldest_kept.time(0)).run();
    return {};
  });
}

Result<std::vector<Refusal>> SqliteCatalog::list_refusals() {
  return readers_.run([&](Connection& connection) -> Result<std::vector<Refusal>> {
    auto rows = connection.query(
        "SELECT backend, image_id, kind, reason, project_id, size_gb, count, first_at, last_at FROM refusals "
        "INDEXED BY refusals_by_time WHERE last_at >= 0 ORDER BY last_at DESC");
    std::vector<Refusal> refusals;
    while (rows.step()) {
      refusals.push_back({.backend = rows.text(0),
                          .image_id = rows.text(1),
                          .kind = rows.text(2),
                          .reason = rows.text(3),
                          .project_id = rows.text(4),
                          .size_gb = rows.natural(5),
                          .count = rows.natural(6),
                          .first_at = rows.time(7),
                          .last_at = rows.time(8)});
    }
    return refusals;
  });
}

Result<Catalog::ImageVolumeTotals> SqliteCatalog::image_volume_totals(const std::string& backend) {
  return readers_.run([&](Connection& connection) -> Result<ImageVolumeTotals> {
    auto row = connection.query("SELECT count, size_gb FROM image_volume_totals WHERE backend = ?1");
    if (!row.with(backend).step()) return ImageVolumeTotals{};
    return ImageVolumeTotals{row.natural(0), row.natural(1)};
  });
}

Result<std::optional<ImageVolume>> SqliteCatalog::least_recently_used(const std::string& backend) {
  static const std::string select = fmt::format(
      "SELECT {} FROM image_volumes INDEXED BY image_volumes_to_evict "
      "WHERE backend = ?1 AND state = 'ready' AND pinned = 0 ORDER BY last_used LIMIT 1",
      image_volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<ImageVolume>> {
    auto rows = connection.query(select);
    return first(rows.with(backend));
  });
}

}  // namespace imagecache::catalog
