// What image-volumes cost and what they spare: by image, backend and project, and what was not kept.
#include <map>
#include <utility>

#include "api/management_view.hpp"
#include "api/volume_view.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

double seconds(std::uint64_t ms) {
  return static_cast<double>(ms) / 1000;
}

Json use_view(const catalog::ImageVolumeUse& use) {
  return Json{{"image_id", use.image_id},
              {"project_id", or_null(use.project_id)},
              {"clones", use.clones},
              {"saved_s", seconds(use.saved_ms)},
              {"last_used", time_or_null(use.last_used)}};
}

Json refusal_view(const catalog::Refusal& refusal) {
  return Json{{"backend", refusal.backend},
              {"image_id", refusal.image_id},
              {"kind", refusal.kind},
              {"reason", refusal.reason},
              {"project_id", or_null(refusal.project_id)},
              {"size_gb", refusal.size_gb},
              {"count", refusal.count},
              {"first_at", time_or_null(refusal.first_at)},
              {"last_at", time_or_null(refusal.last_at)}};
}

}  // namespace

Result<Json> image_volume_report(volume_cache::VolumeCache& volumes) {
  catalog::Catalog& catalog = volumes.catalog();
  IMAGECACHE_TRY(const auto rows, catalog.list_image_volumes(std::nullopt));
  IMAGECACHE_TRY(const auto uses, catalog.list_image_volume_uses());
  IMAGECACHE_TRY(const auto refusals, catalog.list_refusals());
  std::map<std::string, std::pair<std::uint64_t, Json>> by_volume;  // saved, and the views
  for (const auto& use : uses) {
    auto& [saved_ms, views] = by_volume.try_emplace(use.volume_id, 0, Json::array()).first->second;
    saved_ms += use.saved_ms;
    views.push_back(use_view(use));
  }
  Json listed = Json::array();
  std::uint64_t clones = 0, size_gb = 0, used_bytes = 0, of_unknown_use = 0, all_saved_ms = 0;
  for (const auto& row : rows) {
    const auto& [saved_ms, views] = by_volume.try_emplace(row.volume_id, 0, Json::array()).first->second;
    Json view = image_volume_view(row, volumes.import_state(row.volume_id));
    view["living_clones"] = volumes.living_clones(row.volume_id);
    view["saved_s"] = seconds(saved_ms);
    view["uses"] = views;
    listed.push_back(std::move(view));
    clones += row.clones;
    size_gb += row.size_gb;
    used_bytes += row.used_bytes.value_or(0);
    of_unknown_use += row.used_bytes ? 0U : 1U;
    all_saved_ms += saved_ms;
  }
  Json refused = Json::array();
  for (const auto& refusal : refusals) refused.push_back(refusal_view(refusal));
  return Json{
      {"image_volumes", std::move(listed)},
      {"refusals", std::move(refused)},
      {"total", Json{{"image_volumes", rows.size()},
                     {"clones", clones},
                     {"size_gb", size_gb},
                     // Of those that are known; what none can say is not nothing.
                     {"used_bytes", of_unknown_use < rows.size() || rows.empty() ? Json(used_bytes) : Json(nullptr)},
                     {"used_bytes_unknown", of_unknown_use},
                     {"saved_s", seconds(all_saved_ms)}}}};
}

}  // namespace imagecache::api
