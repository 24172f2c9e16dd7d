#include "api/volume_lookup.hpp"

#include <utility>

#include "api/volume_types.hpp"
#include "base/try.hpp"

namespace imagecache::api {

Result<FoundVolume> find_volume_blocking(ApiContext& api, const base::RequestContext& who, const std::string& id) {
  IMAGECACHE_TRY(auto volume, api.volumes.catalog().find_volume(id));
  // What was made for a Cinder (it counts in that one's quota, not in ours) is that Cinder's to show, hand over and
  // remove: the project of our row may not be the owner any more.
  const bool is_cinders = volume && !volume->counts_quota;
  if (!volume || (!who.is_admin && (volume->project_id != who.project_id || is_cinders))) {
    return fail(Errc::not_found, "Volume " + id + " could not be found.");
  }
  FoundVolume found{std::move(*volume), {}};
  if (!found.volume.volume_type.empty()) {
    IMAGECACHE_TRY(const auto type, find_type(api.volumes, found.volume.volume_type));
    if (type) found.type_id = type->id;
  }
  return found;
}

base::Task<Result<FoundVolume>> find_volume(Call& call) {
  co_return co_await base::offload(call.api.pool, [&api = call.api, who = call.who, id = call.parameter("volume_id")] {
    return find_volume_blocking(api, who, id);
  });
}

VolumeViewOptions view_options(const Call& call, VolumeDetail detail, std::string type_id) {
  return {.version = call.version,
          .detail = detail,
          .is_admin = call.who.is_admin,
          .base_url = call.base_url(),
          .project_in_url = call.project_in_url ? call.parameter("project_id") : std::string(),
          .volume_type_id = std::move(type_id)};
}

Reply volume_reply(const Call& call, unsigned status, const FoundVolume& found, VolumeDetail detail) {
  return json_reply(status, Json{{"volume", volume_view(found.volume, view_options(call, detail, found.type_id))}});
}

}  // namespace imagecache::api
