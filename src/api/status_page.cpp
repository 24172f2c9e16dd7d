// GET / on status_bind: the same facts as the management API, for people. No script, no asset, read-only.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/html.hpp"
#include "api/management_view.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

constexpr std::size_t rows_shown = 50;
// Beyond this many files the list is not copied for a page: /metrics and the command line remain.
constexpr std::uint64_t max_files_listed = 20'000;

constexpr std::string_view head =
    "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
    "<meta http-equiv=refresh content=5><title>cinder-image-cache</title><style>"
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:72rem;"
    "padding:0 1rem}h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .4rem}p{margin:.2rem 0}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #8884;white-space:nowrap}"
    "th{font-weight:600}.none{opacity:.6}</style></head><body>\n";

std::string shown_bytes(const Json& value) {
  return value.is_number_unsigned() ? base::format_bytes(value.get<std::uint64_t>()) : "unknown";
}

std::string shown_ratio(const Json& value) {
  return value.is_number() ? fmt::format("{:.1f} %", value.get<double>() * 100) : "no requests yet";
}

std::string shown_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "";
  return dump(value);
}

std::string of_limit(const Json& used, const Json& limit, std::string_view unit) {
  const std::string most = limit == 0 ? "no limit" : shown_text(limit) + std::string(unit);
  return shown_text(used) + std::string(unit) + " / " + most;
}

std::string ratios(const Json& status) {
  const Json& images = status["image_cache"];
  const Json& volumes = status["volume_cache"];
  std::vector<std::vector<std::string>> rows;
  if (images["enabled"].get<bool>()) {
    rows.push_back({"Image files", shown_ratio(images["hit_ratio"]), shown_text(images["hits"]),
                    shown_text(images["collapsed"]), shown_text(images["misses"]), shown_text(images["passes"])});
  }
  rows.push_back({"Volumes from images", shown_ratio(volumes["hit_ratio"]), shown_text(volumes["hits"]),
                  shown_text(volumes["collapsed"]), shown_text(volumes["misses"]), shown_text(volumes["uncached"])});
  return "<h2>Hit ratio since start</h2>" +
         table({"Cache", "Ratio", "Hits", "Collapsed", "Misses", "Passed or uncached"}, rows);
}

std::string backends_table(const Json& backends) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& backend : backends) {
    const bool cached = backend["image_volume_cache_enabled"].get<bool>();
    rows.push_back(
        {shown_text(backend["name"]), shown_text(backend["driver"]), shown_text(backend["clone"]),
         shown_bytes(backend["free_bytes"]) + " / " + shown_bytes(backend["total_bytes"]),
         cached ? of_limit(backend["image_volumes"], backend["image_volume_cache_max_count"], "") : "off",
         cached ? of_limit(backend["image_volumes_gb"], backend["image_volume_cache_max_size_gb"], " GiB") : "off",
         std::to_string(backend["strays"].size()), shown_text(backend["error"])});
  }
  return "<h2>Backends</h2>" +
         table({"Name", "Driver", "Clone", "Free", "Image-volumes", "Their size", "Strays", "Error"}, rows);
}

std::string image_volumes_table(const std::vector<catalog::ImageVolume>& all) {
  std::vector<catalog::ImageVolume> shown(std::min(all.size(), rows_shown));
  std::ranges::partial_sort_copy(all, shown, [](const auto& a, const auto& b) { return a.last_used > b.last_used; });
  std::vector<std::vector<std::string>> rows;
  rows.reserve(shown.size());
  for (const auto& row : shown) {
    rows.push_back({row.image_id, row.backend, row.state, std::to_string(row.size_gb) + " GiB",
                    std::to_string(row.clones), base::to_iso8601(row.last_used).substr(0, 19),
                    fmt::format("{:.1f} s", static_cast<double>(row.build_ms) / 1000), row.pinned ? "pinned" : ""});
  }
  return fmt::format("<h2>Image-volumes ({} of {})</h2>", shown.size(), all.size()) +
         table({"Image", "Backend", "State", "Size", "Clones", "Last used", "Build", ""}, rows);
}

std::string fills_table(const Json& fills) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& fill : fills) {
    rows.push_back({shown_text(fill["image_id"]), shown_bytes(fill["done_bytes"]), shown_bytes(fill["total_bytes"])});
  }
  return "<h2>Being downloaded</h2>" + table({"Image", "Done", "Of"}, rows);
}

std::string image_cache_table(const ApiContext& api, const Json& status) {
  if (api.images == nullptr) return "<h2>Image cache</h2><p class=none>off</p>\n";
  const Json& cache = status["image_cache"];
  std::string html = fmt::format("<h2>Image cache: {} of {}, {} files</h2>", shown_bytes(cache["size_bytes"]),
                                 shown_bytes(cache["max_size_bytes"]), shown_text(cache["files"]));
  if (const Json& loading = cache["loading"]; !loading.is_null()) {
    return html + fmt::format("<p>still reading what is there: {} files seen, {} images read</p>\n",
                              shown_text(loading["files_seen"]), shown_text(loading["images_read"]));
  }
  if (api.counters.image_cache_files > max_files_listed) return html + "<p class=none>too many to list here</p>\n";
  const auto all = api.images->list();
  std::vector<image_cache::CachedImage> shown(std::min(all.size(), rows_shown));
  std::ranges::partial_sort_copy(all, shown,
                                 [](const auto& a, const auto& b) { return a.last_accessed > b.last_accessed; });
  std::vector<std::vector<std::string>> rows;
  rows.reserve(shown.size());
  for (const auto& image : shown) {
    rows.push_back({image.image_id, base::format_bytes(image.size_bytes), std::to_string(image.hits),
                    base::to_iso8601(base::from_epoch_seconds(image.last_accessed)).substr(0, 19)});
  }
  return html + table({"Image", "Size", "Hits", "Last used"}, rows);
}

base::Task<Reply> page(Call& call) {
  ApiContext& api = call.api;
  const Json status = status_view(api);
  const Json backends = co_await backends_view(api);
  auto image_volumes = co_await base::offload(
      api.pool, [&catalog = api.volumes.catalog()] { return catalog.list_image_volumes(std::nullopt); });
  Reply reply;
  reply.content_type = "text/html; charset=utf-8";
  reply.headers.emplace_back("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
  reply.headers.emplace_back("X-Content-Type-Options", "nosniff");
  reply.headers.emplace_back("Cache-Control", "no-store");
  reply.body = std::string(head);
  reply.body +=
      fmt::format("<h1>cinder-image-cache {}</h1><p>{} &middot; up {} s &middot; {}</p>", escape(api.options.version),
                  escape(api.options.host), shown_text(status["uptime_s"]), api.draining.load() ? "stopping" : "OK");
  reply.body += ratios(status);
  reply.body += backends_table(backends);
  reply.body += image_volumes ? image_volumes_table(*image_volumes)
                              : "<h2>Image-volumes</h2><p>" + escape(image_volumes.error().message) + "</p>";
  reply.body += fills_table(fills_view(api));
  reply.body += image_cache_table(api, status);
  reply.body += "</body></html>\n";
  co_return reply;
}

base::Task<Reply> page_for_admins(Call& call) {
  if (!call.who.is_admin) co_return management_error({Errc::forbidden, "the status page is for admins"});
  co_return co_await page(call);
}

}  // namespace

void add_status_page_routes(http::Router& router, ApiContext& api) {
  add_plain_route(router, api, "GET", "/", page_for_admins, management_error);
}

}  // namespace imagecache::api
