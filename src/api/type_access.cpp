// /types/{type_id}/os-volume-type-access and the actions that change it: which projects may use a type that is not
// public.
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_types.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

Result<catalog::VolumeType> find_blocking(ApiContext& api, const std::string& id) {
  IMAGECACHE_TRY(auto type, find_type(api.volumes, id));
  if (!type) return fail(Errc::not_found, "Volume type " + id + " could not be found.");
  return std::move(*type);
}

base::Task<Reply> list(Call& call) {
  auto projects = co_await base::offload(
      call.api.pool, [&api = call.api, id = call.parameter("type_id")]() -> Result<std::vector<std::string>> {
        IMAGECACHE_TRY(const auto type, find_blocking(api, id));
        if (type.is_public) return fail(Errc::not_found, "Access list not available for public volume types.");
        return api.volumes.catalog().projects_of_type(type.id);
      });
  if (!projects) co_return fault(projects.error());
  Json array = Json::array();
  for (const std::string& project : *projects)
    array.push_back(Json{{"volume_type_id", call.parameter("type_id")}, {"project_id", project}});
  co_return json_reply(200, Json{{"volume_type_access", std::move(array)}});
}

base::Task<Reply> act(Call& call) {
  const auto body = parse_object(call.body);
  if (!body) co_return fault(body.error());
  if (body->size() != 1) co_return fault(400, "Malformed message body: exactly one action is needed");
  const std::string key = body->begin().key();
  const bool add = key == "addProjectAccess";
  if (!add && key != "removeProjectAccess") co_return fault(400, "There is no such action: " + key.substr(0, 255));
  const std::string rule = "volume_extension:volume_type_access:" + key;
  if (auto refused = refused_by_policy(call, rule)) co_return std::move(*refused);
  auto project = string_member(body->begin().value(), "project", 255);
  if (!project) co_return fault(project.error());
  if (!*project || (*project)->empty()) co_return fault(400, "'project' is a required property");
  auto done = co_await base::offload(
      call.api.pool, [&api = call.api, id = call.parameter("type_id"), project_id = **project, add]() -> Result<void> {
        IMAGECACHE_TRY(const auto type, find_blocking(api, id));
        if (add && type.is_public) {
          return fail(Errc::conflict,
                      "Invalid volume type: Type access modification is not applicable to public volume type.");
        }
        return add ? api.volumes.catalog().add_type_access(type.id, project_id)
                   : api.volumes.catalog().remove_type_access(type.id, project_id);
      });
  co_return done ? empty_reply(202) : fault(done.error());
}

}  // namespace

void add_type_access_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/types/{type_id}/os-volume-type-access", list,
               "volume_extension:volume_type_access:get_all_for_type");
  add_v3_route(router, api, "POST", "/types/{type_id}/action", act, {});
}

}  // namespace imagecache::api
