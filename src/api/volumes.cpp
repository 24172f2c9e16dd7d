// /volumes and /volumes/{volume_id}: make, show, change, delete.
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_lookup.hpp"
#include "api/volume_request.hpp"
#include "api/volume_types.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

/// The type's name for VolumeCache, which knows names only: Errc::not_found in Cinder's words for an unknown one.
Result<std::string> type_name_blocking(volume_cache::VolumeCache& volumes, const base::RequestContext& who,
                                       const std::string& name_or_id) {
  if (name_or_id.empty()) return std::string();
  IMAGECACHE_TRY(const auto type, find_type(volumes, name_or_id));
  bool usable = false;
  if (type) {
    IMAGECACHE_TRY(usable, may_use(volumes, who, *type));
  }
  if (!usable) return fail(Errc::not_found, "Volume type with name " + name_or_id + " could not be found.");
  return type->name;
}

/// What is looked up before VolumeCache is asked: the volume to copy, which must be the caller's to see and says what
/// the request leaves open, and the type's name.
Result<VolumeCreateBody> complete_blocking(ApiContext& api, const base::RequestContext& who, VolumeCreateBody body) {
  if (!body.source_volid.empty()) {
    IMAGECACHE_TRY(const auto source, find_volume_blocking(api, who, body.source_volid));
    if (body.size_gb == 0) body.size_gb = source.volume.size_gb;
    if (body.volume_type.empty()) {
      body.volume_type = source.volume.volume_type;
      // A backend's own: that volume was made before there were rows, or without a type.
      IMAGECACHE_TRY(const auto row, api.volumes.catalog().find_volume_type(body.volume_type));
      if (!row) return body;
    }
  }
  IMAGECACHE_TRY(body.volume_type, type_name_blocking(api.volumes, who, body.volume_type));
  return body;
}

base::Task<Reply> create(Call& call) {
  auto body = parse_volume_create(call.body, call.version);
  if (!body) co_return fault(body.error());
  const std::string_view rule = body->image_id.empty() ? "volume:create" : "volume:create_from_image";
  if (auto refused = refused_by_policy(call, rule)) co_return std::move(*refused);
  const Options& options = call.api.options;
  if (!body->availability_zone.empty() && body->availability_zone != options.availability_zone) {
    co_return fault(400, "Availability zone '" + body->availability_zone + "' is invalid.");
  }
  body = co_await base::offload(call.api.pool, [&api = call.api, who = call.who, given = std::move(*body)] {
    return complete_blocking(api, who, given);
  });
  if (!body) co_return fault(body.error());

  volume_cache::CreateRequest request;
  request.volume_id = base::new_uuid();
  request.volume_type = std::move(body->volume_type);
  request.size_gb = body->size_gb;
  request.image_id = body->image_id;
  request.source_volid = body->source_volid;
  request.display_name = std::move(body->name);
  request.display_description = std::move(body->description);
  request.metadata = std::move(body->metadata);
  auto volume = co_await call.api.volumes.start_create(std::move(request), call.who);
  if (!volume) {
    // The type has been found, so what is missing is the image; Cinder says 400 for that.
    if (volume.error().code == Errc::not_found && !body->image_id.empty()) {
      co_return fault(400, "Invalid image identifier or unable to access requested image.");
    }
    // An encrypted type, a signed image: Cinder too says 400 where it has no key manager.
    if (volume.error().code == Errc::unsupported) co_return fault(400, volume.error().message);
    co_return fault(volume.error());
  }
  FoundVolume found{std::move(*volume), {}};
  if (!found.volume.volume_type.empty()) {
    auto row = co_await base::offload(call.api.pool, [&volumes = call.api.volumes, name = found.volume.volume_type] {
      return find_type(volumes, name);
    });
    if (row && *row) found.type_id = (*row)->id;
  }
  co_return volume_reply(call, 202, found, VolumeDetail::brief);
}

base::Task<Reply> show(Call& call) {
  auto found = co_await find_volume(call);
  if (!found) co_return fault(found.error());
  co_return volume_reply(call, 200, *found, VolumeDetail::full);
}

Result<FoundVolume> update_blocking(ApiContext& api, const base::RequestContext& who, const std::string& id,
                                    const VolumeUpdateBody& body) {
  auto found = find_volume_blocking(api, who, id);
  if (!found) return found;
  catalog::Catalog::VolumeUpdate update;
  update.display_name = body.name;
  update.display_description = body.description;
  update.metadata = body.metadata;
  const std::lock_guard lock(api.row_maps);
  if (auto done = api.volumes.catalog().update_volume(id, update); !done) return std::unexpected(done.error());
  return find_volume_blocking(api, who, id);
}

base::Task<Reply> update(Call& call) {
  auto body = parse_volume_update(call.body, call.version);
  if (!body) co_return fault(body.error());
  auto found = co_await base::offload(
      call.api.pool, [&api = call.api, who = call.who, id = call.parameter("volume_id"), change = std::move(*body)] {
        return update_blocking(api, who, id, change);
      });
  if (!found) co_return fault(found.error());
  co_return volume_reply(call, 200, *found, VolumeDetail::brief);
}

base::Task<Reply> remove(Call& call) {
  auto found = co_await find_volume(call);
  if (!found) co_return fault(found.error());
  const std::string id = found->volume.id;
  auto image_volume = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), id] { return catalog.find_image_volume_by_id(id); });
  if (!image_volume) co_return fault(image_volume.error());
  const bool is_image_volume = image_volume->has_value();
  auto done = Result<void>();
  if (is_image_volume) {
    done = co_await call.api.volumes.evict(id);
  } else {
    done = co_await call.api.volumes.remove(id);
  }
  if (!done && done.error().code == Errc::conflict) co_return fault(400, "Invalid volume: " + done.error().message);
  if (!done) co_return fault(done.error());
  co_return empty_reply(202);
}

/// Nova asks whether a volume is encrypted before it attaches it.
base::Task<Reply> encryption(Call& call) {
  auto found = co_await find_volume(call);
  if (!found) co_return fault(found.error());
  co_return json_reply(200, Json{{"encryption_key_id", nullptr}});
}

}  // namespace

void add_volume_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "POST", "/volumes", create, {});
  add_v3_route(router, api, "GET", "/volumes/{volume_id}", show, "volume:get");
  add_v3_route(router, api, "PUT", "/volumes/{volume_id}", update, "volume:update");
  add_v3_route(router, api, "DELETE", "/volumes/{volume_id}", remove, "volume:delete");
  add_v3_route(router, api, "GET", "/volumes/{volume_id}/encryption", encryption,
               "volume_extension:volume_encryption_metadata");
}

}  // namespace imagecache::api
