// What the management API and the status page say, as JSON: one reading for both.
#pragma once

#include <vector>

#include "api/call.hpp"
#include "api/json.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::api {

/// `import_state` as VolumeCache says it.
Json image_volume_view(const catalog::ImageVolume& image_volume, std::string_view import_state = {});

/// {"version", "host", "uptime_s", "draining", "image_cache": {…}, "volume_cache": {…}, "http": {…}}. Cheap: counters.
Json status_view(const ApiContext& api);

/// One object per backend, with its space, its image-volumes and its strays. Asks drivers and catalog: a backend that
/// cannot be asked says so in "error" and is listed all the same.
base::Task<Json> backends_view(ApiContext& api);

/// Blocks. {"image_volumes": [each with "living_clones", "saved_s" and its "uses" by image and project], "refusals":
/// […], "total": {…}}.
Result<Json> image_volume_report(volume_cache::VolumeCache& volumes);

/// Fills of image files that run now.
Json fills_view(const ApiContext& api);

/// part/(part + rest), or null where nothing was asked yet.
Json ratio(std::uint64_t part, std::uint64_t rest);

}  // namespace imagecache::api
