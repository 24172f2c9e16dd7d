// Image-volumes: which volume holds which content, who was used when, who goes next.

#include <fmt/format.h>

#include "catalog/rows.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {
namespace {

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
      fmt::format("INSERT INTO image_volumes ({}) VALUES ({})", image_volume_columns, places(14));
  return writer_.run([&](Connection& connection) -> Result<void> {
    {
      auto volume = connection.query("SELECT 1 FROM volumes WHERE id = ?1");
      if (!volume.with(row.volume_id).step())
        return fail(Errc::not_found, "Volume " + row.volume_id + " could not be found.");
      auto same = connection.query(
          "SELECT volume_id FROM image_volumes WHERE (backend = ?2 AND content_key = ?3) OR volume_id = ?1");
      if (same.with(row.volume_id, row.backend, row.content_key).step()) {
        return fail(Errc::already_exists, fmt::format("{}: the content {} is kept already, as volume {}", row.backend,
                                                      row.content_key, same.text(0)));
      }
    }
    auto query = connection.query(insert);
    bind_image_volume(query, row);
    query.run();
    return {};
  });
}

Result<std::optional<ImageVolume>> SqliteCatalog::find_image_volume(const std::string& backend,
                                                                    const std::string& content_key) {
  static const std::string select =
      fmt::format("SELECT {} FROM image_volumes WHERE backend = ?1 AND content_key = ?2", image_volume_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<ImageVolume>> {
    auto rows = connection.query(select);
    return first(rows.with(backend, content_key));
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
      connection
          .query("UPDATE image_volumes SET last_used = max(last_used, ?2), clones = clones + ?3 WHERE volume_id = ?1")
          .with(use.volume_id, use.at, use.clones)
          .run();
    }
    return {};
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
