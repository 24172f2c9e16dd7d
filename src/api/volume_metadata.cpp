// /volumes/{volume_id}/metadata: the owner's own keys.
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_lookup.hpp"
#include "api/volume_request.hpp"

namespace imagecache::api {
namespace {

using Map = std::map<std::string, std::string>;

Json object_of(const Map& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = value;
  return object;
}

enum class Change { merge, replace, remove };

/// Changes the row's metadata and returns what it is then.
Result<Map> change_blocking(ApiContext& api, const base::RequestContext& who, const std::string& id, Change change,
                            const Map& given) {
  const std::lock_guard lock(api.row_maps);
  auto found = find_volume_blocking(api, who, id);
  if (!found) return std::unexpected(std::move(found).error());
  Map metadata = change == Change::replace ? Map() : std::move(found->volume.metadata);
  for (const auto& [key, value] : given) {
    if (change == Change::remove) {
      if (metadata.erase(key) == 0) {
        return fail(Errc::not_found, "Volume " + id + " has no metadata with key " + key + ".");
      }
    } else {
      metadata[key] = value;
    }
  }
  catalog::Catalog::VolumeUpdate update;
  update.metadata = metadata;
  if (auto done = api.volumes.catalog().update_volume(id, update); !done) return std::unexpected(done.error());
  return metadata;
}

base::Task<Result<Map>> change_metadata(Call& call, Change change, Map given) {
  co_return co_await base::offload(call.api.pool,
                                   [&api = call.api, who = call.who, id = call.parameter("volume_id"), change,
                                    given = std::move(given)] { return change_blocking(api, who, id, change, given); });
}

base::Task<Reply> show_all(Call& call) {
  auto found = co_await find_volume(call);
  if (!found) co_return fault(found.error());
  co_return json_reply(200, Json{{"metadata", object_of(found->volume.metadata)}});
}

base::Task<Reply> write_all(Call& call, Change change) {
  auto given = wrapped_object(call.body, "metadata");
  if (!given) co_return fault(given.error());
  auto map = string_map(*given, "metadata");
  if (!map) co_return fault(map.error());
  const Map& asked = *map;
  auto metadata = co_await change_metadata(call, change, asked);
  if (!metadata) co_return fault(metadata.error());
  co_return json_reply(200, Json{{"metadata", object_of(*metadata)}});
}

base::Task<Reply> merge_all(Call& call) {
  return write_all(call, Change::merge);
}

base::Task<Reply> replace_all(Call& call) {
  return write_all(call, Change::replace);
}

base::Task<Reply> show_one(Call& call) {
  auto found = co_await find_volume(call);
  if (!found) co_return fault(found.error());
  const std::string& key = call.parameter("key");
  const auto value = found->volume.metadata.find(key);
  if (value == found->volume.metadata.end()) {
    co_return fault(404, "Volume " + found->volume.id + " has no metadata with key " + key + ".");
  }
  co_return json_reply(200, Json{{"meta", object_of({*value})}});
}

base::Task<Reply> write_one(Call& call) {
  auto given = wrapped_object(call.body, "meta");
  if (!given) co_return fault(given.error());
  auto map = string_map(*given, "meta");
  if (!map) co_return fault(map.error());
  if (map->size() != 1) co_return fault(400, "Request body contains too many items.");
  if (!map->contains(call.parameter("key"))) co_return fault(400, "Request body and URI mismatch.");
  const Map& asked = *map;
  auto metadata = co_await change_metadata(call, Change::merge, asked);
  if (!metadata) co_return fault(metadata.error());
  co_return json_reply(200, Json{{"meta", object_of(asked)}});
}

base::Task<Reply> remove_one(Call& call) {
  Map key;
  key[call.parameter("key")];
  auto metadata = co_await change_metadata(call, Change::remove, std::move(key));
  if (!metadata) co_return fault(metadata.error());
  co_return empty_reply(200);
}

}  // namespace

void add_volume_metadata_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/volumes/{volume_id}/metadata", show_all, "volume:get_volume_metadata");
  add_v3_route(router, api, "POST", "/volumes/{volume_id}/metadata", merge_all, "volume:create_volume_metadata");
  add_v3_route(router, api, "PUT", "/volumes/{volume_id}/metadata", replace_all, "volume:update_volume_metadata");
  add_v3_route(router, api, "GET", "/volumes/{volume_id}/metadata/{key}", show_one, "volume:get_volume_metadata");
  add_v3_route(router, api, "PUT", "/volumes/{volume_id}/metadata/{key}", write_one, "volume:update_volume_metadata");
  add_v3_route(router, api, "DELETE", "/volumes/{volume_id}/metadata/{key}", remove_one,
               "volume:delete_volume_metadata");
}

}  // namespace imagecache::api
