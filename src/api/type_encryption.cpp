// /types/{type_id}/encryption: what a volume type says of encryption. It is kept so that a type may say it, and so that
// no volume of such a type is ever made here: VolumeCache refuses them, for there is no key manager.
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_request.hpp"
#include "api/volume_types.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

using Map = std::map<std::string, std::string>;
using catalog::VolumeType;

Result<VolumeType> find_blocking(ApiContext& api, const std::string& id) {
  IMAGECACHE_TRY(auto type, find_type(api.volumes, id));
  if (!type) return fail(Errc::not_found, "Volume type " + id + " could not be found.");
  return std::move(*type);
}

/// For anyone who may use it, whom the policy allows; for others it is not there.
Result<VolumeType> find_usable(ApiContext& api, const base::RequestContext& who, const std::string& id) {
  IMAGECACHE_TRY(auto type, find_blocking(api, id));
  IMAGECACHE_TRY(const bool usable, may_use(api.volumes, who, type));
  if (!usable) return fail(Errc::not_found, "Volume type " + id + " could not be found.");
  return type;
}

/// Cinder's members and their types; whatever else a client sends is not kept.
Result<Map> parse_specs(std::string_view body, bool is_new) {
  IMAGECACHE_TRY(const JsonIn specs, wrapped_object(body, "encryption"));
  Map found;
  for (const char* key : {"provider", "cipher", "control_location"}) {
    IMAGECACHE_TRY(const auto value, string_member(specs, key, 255));
    if (value) found[key] = *value;
  }
  IMAGECACHE_TRY(const auto key_size, size_member(specs, "key_size"));
  if (key_size) found["key_size"] = std::to_string(*key_size);
  for (const std::string key : {"provider", "control_location"}) {
    if (is_new && !found.contains(key)) return fail(Errc::invalid_argument, "'" + key + "' is a required property");
  }
  if (const auto where = found.find("control_location");
      where != found.end() && where->second != "front-end" && where->second != "back-end") {
    return fail(Errc::invalid_argument, "Invalid input for field/attribute control_location. '" + where->second +
                                            "' is not one of ['front-end', 'back-end']");
  }
  return found;
}

Json specs_view(const Map& specs) {
  Json view = Json::object();
  for (const auto& [key, value] : specs) {
    const auto number = key == "key_size" ? base::parse_unsigned(value) : std::nullopt;
    view[key] = number ? Json(*number) : Json(value);
  }
  return view;
}

Json type_specs_view(const VolumeType& type) {
  if (type.encryption.empty()) return Json::object();
  Json view{{"volume_type_id", type.id}, {"deleted", false}};
  for (const char* key : {"provider", "cipher", "key_size"}) view[key] = nullptr;
  view.update(specs_view(type.encryption));
  return view;
}

Result<void> write_blocking(ApiContext& api, const std::string& id, const Map& specs, const std::string& what) {
  auto done = api.volumes.catalog().set_type_encryption(id, specs);
  if (!done && done.error().code == Errc::conflict)
    return fail(Errc::invalid_argument, "Cannot " + what + " encryption specs. Volume type in use.");
  return done;
}

base::Task<Reply> show_all(Call& call) {
  auto type = co_await base::offload(call.api.pool, [&api = call.api, who = call.who, id = call.parameter("type_id")] {
    return find_usable(api, who, id);
  });
  if (!type) co_return fault(type.error());
  co_return json_reply(200, type_specs_view(*type));
}

base::Task<Reply> show(Call& call) {
  auto type = co_await base::offload(call.api.pool, [&api = call.api, who = call.who, id = call.parameter("type_id")] {
    return find_usable(api, who, id);
  });
  if (!type) co_return fault(type.error());
  const Json specs = type_specs_view(*type);
  const std::string& key = call.parameter("key");
  if (!specs.contains(key)) co_return fault(404, "Volume type encryption for type " + type->id + " does not exist.");
  Json one = Json::object();
  one[key] = specs[key];
  co_return json_reply(200, one);
}

base::Task<Reply> create(Call& call) {
  auto specs = parse_specs(call.body, true);
  if (!specs) co_return fault(specs.error());
  Map kept = *specs;
  kept["encryption_id"] = base::new_uuid();
  // With what Cinder's database adds, as in its own answer.
  Json view = specs_view(kept);
  view["volume_type_id"] = call.parameter("type_id");
  auto done = co_await base::offload(
      call.api.pool, [&api = call.api, id = call.parameter("type_id"), kept = std::move(kept)]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        IMAGECACHE_TRY(const VolumeType type, find_blocking(api, id));
        if (!type.encryption.empty())
          return fail(Errc::invalid_argument, "Volume type encryption for type " + type.id + " already exists.");
        return write_blocking(api, type.id, kept, "create");
      });
  if (!done) co_return fault(done.error());
  co_return json_reply(200, Json{{"encryption", std::move(view)}});
}

base::Task<Reply> update(Call& call) {
  auto specs = parse_specs(call.body, false);
  if (!specs) co_return fault(specs.error());
  auto done = co_await base::offload(
      call.api.pool, [&api = call.api, id = call.parameter("type_id"), given = *specs]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        IMAGECACHE_TRY(const VolumeType type, find_blocking(api, id));
        if (type.encryption.empty())
          return fail(Errc::not_found, "Volume type encryption for type " + type.id + " does not exist.");
        Map kept = type.encryption;
        for (const auto& [key, value] : given) kept[key] = value;
        return write_blocking(api, type.id, kept, "update");
      });
  if (!done) co_return fault(done.error());
  co_return json_reply(200, Json{{"encryption", specs_view(*specs)}});
}

base::Task<Reply> remove(Call& call) {
  auto done =
      co_await base::offload(call.api.pool, [&api = call.api, id = call.parameter("type_id")]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        IMAGECACHE_TRY(const VolumeType type, find_blocking(api, id));
        if (type.encryption.empty())
          return fail(Errc::not_found, "Volume type encryption for type " + type.id + " does not exist.");
        return write_blocking(api, type.id, {}, "delete");
      });
  if (!done) co_return fault(done.error());
  co_return empty_reply(202);
}

}  // namespace

void add_type_encryption_routes(http::Router& router, ApiContext& api) {
  const auto add = [&](std::string_view method, const char* pattern, CallHandler handler, const char* rule) {
    add_v3_route(router, api, method, pattern, handler, rule);
  };
  const char* all = "/types/{type_id}/encryption";
  const char* one = "/types/{type_id}/encryption/{key}";
  add("GET", all, show_all, "volume_extension:volume_type_encryption:get");
  add("POST", all, create, "volume_extension:volume_type_encryption:create");
  add("GET", one, show, "volume_extension:volume_type_encryption:get");
  add("PUT", one, update, "volume_extension:volume_type_encryption:update");
  add("DELETE", one, remove, "volume_extension:volume_type_encryption:delete");
}

}  // namespace imagecache::api
