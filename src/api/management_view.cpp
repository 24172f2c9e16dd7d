#include "api/management_view.hpp"

#include <utility>

#include "api/volume_view.hpp"
#include "api/words.hpp"

namespace imagecache::api {
namespace {

Json image_cache_view(const ApiContext& api) {
  const events::Counters& counters = api.counters;
  Json view{{"enabled", api.images != nullptr}};
  if (api.images == nullptr) return view;
  view["max_size_bytes"] = api.options.image_cache_max_size_bytes;
  view["size_bytes"] = api.images->size_bytes();
  view["reserved_bytes"] = counters.image_cache_reserved_bytes.load();
  view["files"] = counters.image_cache_files.load();
  view["held_files"] = counters.image_cache_held_files.load();
  view["held_bytes"] = counters.image_cache_held_bytes.load();
  const auto loading = api.images->load_progress();
  view["loading"] = loading ? Json{{"files_seen", loading->files_seen}, {"images_read", loading->images_read}} : Json();
  view["fills_in_flight"] = counters.fills_in_flight.load();
  view["hits"] = counters.image_hits.load();
  view["collapsed"] = counters.image_collapsed.load();
  view["misses"] = counters.image_misses.load();
  view["passes"] = counters.image_passes.load();
  view["ranges"] = counters.image_ranges.load();
  view["errors"] = counters.image_errors.load();
  const std::uint64_t spared = counters.image_hits + counters.image_collapsed;
  const std::uint64_t spared_bytes = counters.image_hit_bytes + counters.image_collapsed_bytes;
  view["hit_ratio"] = ratio(spared, counters.image_misses + counters.image_passes);
  view["byte_hit_ratio"] = ratio(spared_bytes, counters.image_miss_bytes + counters.image_pass_bytes);
  view["evictions"] = counters.image_evictions.load();
  view["digest_mismatches"] = counters.fill_digest_mismatches.load();
  return view;
}

Json volume_cache_view(const ApiContext& api) {
  const events::Counters& counters = api.counters;
  Json view{{"hits", counters.volume_hits.load()},
            {"collapsed", counters.volume_collapsed.load()},
            {"misses", counters.volume_misses.load()},
            {"uncached", counters.volume_uncached.load()}};
  view["hit_ratio"] =
      ratio(counters.volume_hits + counters.volume_collapsed, counters.volume_misses + counters.volume_uncached);
  view["created"] = counters.volumes_created.load();
  view["failed"] = counters.volumes_failed.load();
  view["deleted"] = counters.volumes_deleted.load();
  view["builds_failed"] = counters.volume_builds_failed.load();
  view["evictions"] = counters.image_volume_evictions.load();
  view["quota_refusals"] = counters.image_volume_quota_refusals.load();
  view["backends"] = api.volumes.backends().size();
  view["strays"] = api.volumes.strays().size();
  return view;
}

}  // namespace

Json ratio(std::uint64_t part, std::uint64_t rest) {
  if (part + rest == 0) return nullptr;
  return static_cast<double>(part) / static_cast<double>(part + rest);
}

Json image_volume_view(const catalog::ImageVolume& image_volume, std::string_view import_state) {
  return Json{{"id", image_volume.volume_id},
              {"backend", image_volume.backend},
              {"pool", or_null(image_volume.pool)},
              {"state", image_volume.state},
              {"image_id", image_volume.image_id},
              {"content_key", image_volume.content_key},
              {"image_updated_at", or_null(image_volume.image_updated_at)},
              {"size_gb", image_volume.size_gb},
              {"virtual_size_bytes", image_volume.virtual_size_bytes},
              {"clones", image_volume.clones},
              {"pinned", image_volume.pinned},
              {"import", or_null(std::string(import_state))},
              {"created_at", time_or_null(image_volume.created_at)},
              {"last_used", time_or_null(image_volume.last_used)},
              {"build_ms", image_volume.build_ms},
              {"used_bytes", image_volume.used_bytes ? Json(*image_volume.used_bytes) : Json(nullptr)},
              {"requesting_project", or_null(image_volume.requesting_project)}};
}

Json status_view(const ApiContext& api) {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - api.started);
  const events::Counters& counters = api.counters;
  Json view{{"version", api.options.version}, {"host", api.options.host}, {"uptime_s", uptime.count()}};
  view["draining"] = api.draining.load();
  view["image_cache"] = image_cache_view(api);
  view["volume_cache"] = volume_cache_view(api);
  view["http"] = Json{{"requests", counters.http_requests.load()}, {"connections", counters.http_connections.load()}};
  return view;
}

base::Task<Json> backends_view(ApiContext& api) {
  const auto strays = api.volumes.strays();
  Json array = Json::array();
  for (const auto& backend : api.volumes.backends()) {
    const auto& options = backend->options();
    const auto capabilities = backend->capabilities();
    Json view{{"name", options.name},
              {"volume_backend_name", options.volume_backend_name},
              {"driver", options.driver_name},
              {"host", options.host_and_pool()},
              {"clone", std::string(word(capabilities.clone))},
              {"max_concurrency", capabilities.max_concurrency},
              {"clones_per_source", capabilities.clones_per_source}};
    std::string error;
    const auto stats = co_await backend->get_volume_stats();
    view["total_bytes"] = stats ? Json(stats->total_bytes) : Json(nullptr);
    view["free_bytes"] = stats ? Json(stats->free_bytes) : Json(nullptr);
    if (!stats) error = stats.error().message;
    const auto totals = co_await base::offload(api.pool, [&catalog = api.volumes.catalog(), name = options.name] {
      return catalog.image_volume_totals(name);
    });
    view["image_volume_cache_enabled"] = options.image_volume_cache_enabled;
    view["image_volumes"] = totals ? Json(totals->count) : Json(nullptr);
    view["image_volumes_gb"] = totals ? Json(totals->size_gb) : Json(nullptr);
    view["image_volume_cache_max_count"] = options.image_volume_cache_max_count;
    view["image_volume_cache_max_size_gb"] = options.image_volume_cache_max_size_gb;
    if (!totals && error.empty()) error = totals.error().message;
    Json names = Json::array();
    for (const auto& stray : strays) {
      if (stray.backend == options.name) names.push_back(stray.name);
    }
    view["strays"] = std::move(names);
    view["error"] = or_null(error);
    array.push_back(std::move(view));
  }
  co_return array;
}

Json fills_view(const ApiContext& api) {
  Json array = Json::array();
  if (api.images == nullptr) return array;
  for (const auto& fill : api.images->fills()) {
    array.push_back(Json{{"image_id", fill.image_id},
                         {"done_bytes", fill.done_bytes},
                         {"total_bytes", fill.total_bytes ? Json(*fill.total_bytes) : Json(nullptr)}});
  }
  return array;
}

}  // namespace imagecache::api
