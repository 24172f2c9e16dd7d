// os-show_image_metadata, os-set_image_metadata, os-unset_image_metadata: what a volume has of its image's properties.
#include <utility>

#include "api/volume_actions.hpp"
#include "api/volume_lookup.hpp"

namespace imagecache::api {
namespace {

using Map = std::map<std::string, std::string>;

/// Changes the image metadata under the lock and returns what it is then. `remove` empty: `given` is merged.
base::Task<Result<Map>> change_image_metadata(Call& call, Map given, std::string remove) {
  co_return co_await base::offload(call.api.pool,
                                   [&api = call.api, who = call.who, id = call.parameter("volume_id"),
                                    given = std::move(given), remove = std::move(remove)]() -> Result<Map> {
                                     const std::lock_guard lock(api.row_maps);
                                     auto found = find_volume_blocking(api, who, id);
                                     if (!found) return std::unexpected(std::move(found).error());
                                     Map map = std::move(found->volume.image_metadata);
                                     for (const auto& [key, value] : given) map[key] = value;
                                     if (!remove.empty() && map.erase(remove) == 0)
                                       return fail(Errc::not_found, "Metadata does not exist.");
                                     VolumeRowUpdate update;
                                     update.image_metadata = map;
                                     if (auto done = api.volumes.catalog().update_volume(id, update); !done)
                                       return std::unexpected(done.error());
                                     return map;
                                   });
}

}  // namespace

base::Task<Reply> show_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments);
  co_return json_reply(200, Json{{"metadata", object_of(volume.image_metadata)}});
}

base::Task<Reply> set_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto given = map_member(arguments, "metadata");
  if (!given) co_return fault(given.error());
  if (!*given) co_return fault(400, "'metadata' is a required property");
  auto map = co_await change_image_metadata(call, std::move(**given), {});
  co_return map ? json_reply(200, Json{{"metadata", object_of(*map)}}) : fault(map.error());
}

base::Task<Reply> unset_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto key = string_member(arguments, "key", 255);
  if (!key) co_return fault(key.error());
  if (!*key || (*key)->empty()) co_return fault(400, "'key' is a required property");
  auto map = co_await change_image_metadata(call, {}, **key);
  co_return map ? empty_reply(200) : fault(map.error());
}

}  // namespace imagecache::api
