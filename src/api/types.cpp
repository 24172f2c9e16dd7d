// /types: volume types and their extra specs.
#include <algorithm>
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

Json object_of(const Map& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = value;
  return object;
}

Reply type_reply(const Call& call, const VolumeType& type, TypeDetail detail = TypeDetail::shown) {
  return json_reply(200, Json{{"volume_type", type_view(type, call.who.is_admin, detail)}});
}

std::unexpected<Error> no_type(const std::string& id) {
  return fail(Errc::not_found, "Volume type " + id + " could not be found.");
}

Result<VolumeType> find_blocking(ApiContext& api, const std::string& id) {
  IMAGECACHE_TRY(auto type, find_type(api.volumes, id));
  if (!type) return no_type(id);
  return std::move(*type);
}

/// For anyone who may use it; for others it is not there.
base::Task<Result<VolumeType>> find(Call& call) {
  co_return co_await base::offload(
      call.api.pool, [&api = call.api, who = call.who, id = call.parameter("type_id")]() -> Result<VolumeType> {
        IMAGECACHE_TRY(auto type, find_blocking(api, id));
        IMAGECACHE_TRY(const bool usable, may_use(api.volumes, who, type));
        if (!usable) return no_type(id);
        return type;
      });
}

/// All for an administrator, unless he asks for some; for others those that they may use.
Result<std::vector<VolumeType>> list_blocking(ApiContext& api, const base::RequestContext& who) {
  IMAGECACHE_TRY(auto types, visible_types(api.volumes));
  if (who.is_admin) return types;
  IMAGECACHE_TRY(const auto ids, api.volumes.catalog().types_of_project(who.project_id));
  std::erase_if(
      types, [&](const VolumeType& type) { return !type.is_public && std::ranges::find(ids, type.id) == ids.end(); });
  return types;
}

/// A row that may be changed: the type that a backend is by itself becomes a row only when somebody makes it one.
Result<VolumeType> find_row(ApiContext& api, const std::string& id) {
  IMAGECACHE_TRY(auto type, api.volumes.catalog().find_volume_type(id));
  if (type) return std::move(*type);
  IMAGECACHE_TRY(const auto own, find_type(api.volumes, id));
  if (!own) return no_type(id);
  return fail(Errc::conflict, "Volume type " + own->name +
                                  " is that of a backend and cannot be changed. Create a type with the extra spec "
                                  "volume_backend_name=" +
                                  own->name + " instead.");
}

base::Task<Reply> list(Call& call) {
  auto types =
      co_await base::offload(call.api.pool, [&api = call.api, who = call.who] { return list_blocking(api, who); });
  if (!types) co_return fault(types.error());
  const auto wanted = call.query.find("is_public");
  if (wanted != call.query.end()) {
    if (const auto is_public = parse_bool(wanted->second)) {
      std::erase_if(*types, [&](const VolumeType& type) { return type.is_public != *is_public; });
    }
  }
  std::uint64_t limit = call.api.options.osapi_max_limit;
  if (const auto given = call.query.find("limit"); given != call.query.end()) {
    const auto number = base::parse_unsigned(given->second);
    if (!number) co_return fault(400, "limit param must be an integer");
    limit = std::min(limit, *number);
  }
  auto first = types->begin();
  if (const auto marker = call.query.find("marker"); marker != call.query.end() && !marker->second.empty()) {
    first = std::ranges::find(*types, marker->second, &VolumeType::id);
    if (first == types->end()) co_return fault(404, "Volume type " + marker->second + " could not be found.");
    ++first;
  }
  Json array = Json::array();
  for (; first != types->end() && array.size() < limit; ++first) array.push_back(type_view(*first, call.who.is_admin));
  co_return json_reply(200, Json{{"volume_types", std::move(array)}});
}

base::Task<Reply> show(Call& call) {
  auto type = co_await find(call);
  if (!type) co_return fault(type.error());
  co_return type_reply(call, *type);
}

base::Task<Reply> show_default(Call& call) {
  auto type =
      co_await base::offload(call.api.pool, [&volumes = call.api.volumes, name = call.api.options.default_volume_type] {
        return default_type(volumes, name);
      });
  if (!type) co_return fault(type.error());
  if (!*type) co_return fault(404, "Default volume type can not be found.");
  co_return type_reply(call, **type);
}

base::Task<Reply> create(Call& call) {
  auto body = wrapped_object(call.body, "volume_type");
  if (!body) co_return fault(body.error());
  auto name = string_member(*body, "name", 255);
  if (!name) co_return fault(name.error());
  if (!*name || (*name)->empty())
    co_return fault(400, "Invalid input for field/attribute name. Type name can not be empty.");
  auto description = string_member(*body, "description", 255);
  if (!description) co_return fault(description.error());
  auto specs = map_member(*body, "extra_specs");
  if (!specs) co_return fault(specs.error());
  auto is_public = bool_member(*body, "os-volume-type-access:is_public");
  if (!is_public) co_return fault(is_public.error());
  const VolumeType type{.id = base::new_uuid(),
                        .name = **name,
                        .description = description->value_or(""),
                        .is_public = is_public->value_or(true),
                        .extra_specs = specs->value_or(Map())};
  auto done = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), type] { return catalog.create_volume_type(type); });
  if (!done && done.error().code == Errc::already_exists) {
    co_return fault(409, "Volume Type " + type.name + " already exists.");
  }
  if (!done) co_return fault(done.error());
  co_return type_reply(call, type, TypeDetail::created);
}

/// Reads the row, lets `change` change it, writes it back, with nobody between.
template <class Change>
base::Task<Result<VolumeType>> change_type(Call& call, Change change) {
  co_return co_await base::offload(
      call.api.pool,
      [&api = call.api, id = call.parameter("type_id"), change = std::move(change)]() -> Result<VolumeType> {
        const std::lock_guard lock(api.row_maps);
        IMAGECACHE_TRY(auto type, find_row(api, id));
        IMAGECACHE_CHECK(change(type));
        IMAGECACHE_CHECK(api.volumes.catalog().update_volume_type(type));
        return type;
      });
}

base::Task<Reply> update(Call& call) {
  auto body = wrapped_object(call.body, "volume_type");
  if (!body) co_return fault(body.error());
  auto name = string_member(*body, "name", 255);
  if (!name) co_return fault(name.error());
  auto description = string_member(*body, "description", 255);
  if (!description) co_return fault(description.error());
  auto is_public = bool_member(*body, "is_public");
  if (!is_public) co_return fault(is_public.error());
  if (!*name && !*description && !*is_public) {
    co_return fault(400, "Specify volume type name, description, is_public or a combination thereof.");
  }
  if (*name && (*name)->empty()) co_return fault(400, "Volume type name can not be empty.");
  const auto change = [given_name = *name, given_text = *description, given_public = *is_public](VolumeType& type) {
    if (given_name) type.name = *given_name;
    if (given_text) type.description = *given_text;
    if (given_public) type.is_public = *given_public;
    return Result<void>();
  };
  auto type = co_await change_type(call, change);
  if (!type) co_return fault(type.error());
  co_return type_reply(call, *type, TypeDetail::updated);
}

base::Task<Reply> remove(Call& call) {
  auto done =
      co_await base::offload(call.api.pool, [&api = call.api, id = call.parameter("type_id")]() -> Result<void> {
        IMAGECACHE_TRY(const auto type, find_row(api, id));
        return api.volumes.catalog().remove_volume_type(type.id);
      });
  if (!done) co_return fault(done.error());
  co_return empty_reply(202);
}

base::Task<Reply> show_specs(Call& call) {
  auto type = co_await find(call);
  if (!type) co_return fault(type.error());
  co_return json_reply(200, Json{{"extra_specs", type_view(*type, call.who.is_admin)["extra_specs"]}});
}

base::Task<Reply> add_specs(Call& call) {
  auto body = wrapped_object(call.body, "extra_specs");
  if (!body) co_return fault(body.error());
  auto specs = string_map(*body, "extra_specs");
  if (!specs) co_return fault(specs.error());
  const Map& given = *specs;
  auto type = co_await change_type(call, [&given](VolumeType& changed) {
    for (const auto& [key, value] : given) changed.extra_specs[key] = value;
    return Result<void>();
  });
  if (!type) co_return fault(type.error());
  co_return json_reply(200, Json{{"extra_specs", object_of(given)}});
}

base::Task<Reply> show_spec(Call& call) {
  auto type = co_await find(call);
  if (!type) co_return fault(type.error());
  const std::string& key = call.parameter("key");
  const Json specs = type_view(*type, call.who.is_admin)["extra_specs"];
  if (!specs.contains(key)) {
    co_return fault(404, "Volume Type " + type->id + " has no extra specs with key " + key + ".");
  }
  Json one = Json::object();
  one[key] = specs[key];
  co_return json_reply(200, one);
}

base::Task<Reply> write_spec(Call& call) {
  auto body = parse_object(call.body);
  if (!body) co_return fault(body.error());
  auto specs = string_map(*body, "extra_specs");
  if (!specs) co_return fault(specs.error());
  if (specs->size() != 1 || !specs->contains(call.parameter("key"))) {
    co_return fault(400, "Request body and URI mismatch.");
  }
  const Map& given = *specs;
  auto type = co_await change_type(call, [&given](VolumeType& changed) {
    for (const auto& [key, value] : given) changed.extra_specs[key] = value;
    return Result<void>();
  });
  if (!type) co_return fault(type.error());
  co_return json_reply(200, object_of(given));
}

base::Task<Reply> remove_spec(Call& call) {
  auto type = co_await change_type(call, [key = call.parameter("key")](VolumeType& changed) -> Result<void> {
    if (changed.extra_specs.erase(key) == 0) {
      return fail(Errc::not_found, "Volume Type " + changed.id + " has no extra specs with key " + key + ".");
    }
    return {};
  });
  if (!type) co_return fault(type.error());
  co_return empty_reply(202);
}

}  // namespace

void add_type_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/types", list, "volume_extension:type_get_all");
  add_v3_route(router, api, "POST", "/types", create, "volume_extension:type_create");
  add_v3_route(router, api, "GET", "/types/default", show_default, "volume_extension:type_get");
  add_v3_route(router, api, "GET", "/types/{type_id}", show, "volume_extension:type_get");
  add_v3_route(router, api, "PUT", "/types/{type_id}", update, "volume_extension:type_update");
  add_v3_route(router, api, "DELETE", "/types/{type_id}", remove, "volume_extension:type_delete");
  add_v3_route(router, api, "GET", "/types/{type_id}/extra_specs", show_specs,
               "volume_extension:types_extra_specs:index");
  add_v3_route(router, api, "POST", "/types/{type_id}/extra_specs", add_specs,
               "volume_extension:types_extra_specs:create");
  add_v3_route(router, api, "GET", "/types/{type_id}/extra_specs/{key}", show_spec,
               "volume_extension:types_extra_specs:show");
  add_v3_route(router, api, "PUT", "/types/{type_id}/extra_specs/{key}", write_spec,
               "volume_extension:types_extra_specs:update");
  add_v3_route(router, api, "DELETE", "/types/{type_id}/extra_specs/{key}", remove_spec,
               "volume_extension:types_extra_specs:delete");
}

}  // namespace imagecache::api
