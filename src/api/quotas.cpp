// os-quota-sets, os-quota-class-sets and limits.
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/quota_view.hpp"
#include "api/volume_request.hpp"
#include "api/volume_types.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

using Quota = std::vector<NamedUsage>;

Result<Quota> quota_blocking(ApiContext& api, const std::string& project) {
  IMAGECACHE_TRY(const auto rows, api.volumes.catalog().quota(project));
  IMAGECACHE_TRY(const auto types, visible_types(api.volumes));
  return complete_quota(rows, types);
}

Result<Quota> defaults_blocking(ApiContext& api) {
  IMAGECACHE_TRY(const auto limits, api.volumes.catalog().quota_defaults());
  IMAGECACHE_TRY(const auto types, visible_types(api.volumes));
  std::map<std::string, catalog::QuotaUsage> rows;
  for (const auto& [name, limit] : limits) rows[name].limit = limit;
  return complete_quota(rows, types);
}

base::Task<Result<Quota>> quota_of(Call& call, std::string project) {
  co_return co_await base::offload(
      call.api.pool, [&api = call.api, project = std::move(project)] { return quota_blocking(api, project); });
}

base::Task<Reply> show(Call& call) {
  const std::string& project = call.parameter("target_project");
  if (auto refused = refused_by_policy(call, "volume_extension:quotas:show", project)) co_return std::move(*refused);
  auto quota = co_await quota_of(call, project);
  if (!quota) co_return fault(quota.error());
  const auto usage = call.query.find("usage");
  const bool with_usage = usage != call.query.end() && parse_bool(usage->second).value_or(false);
  co_return json_reply(200, Json{{"quota_set", quota_view(*quota, with_usage, project)}});
}

base::Task<Reply> show_defaults(Call& call) {
  auto quota = co_await base::offload(call.api.pool, [&api = call.api] { return defaults_blocking(api); });
  if (!quota) co_return fault(quota.error());
  co_return json_reply(200, Json{{"quota_set", quota_view(*quota, false, call.parameter("target_project"))}});
}

base::Task<Reply> update(Call& call) {
  auto body = wrapped_object(call.body, "quota_set");
  if (!body) co_return fault(body.error());
  auto quota = co_await base::offload(
      call.api.pool,
      [&api = call.api, project = call.parameter("target_project"), given = std::move(*body)]() -> Result<Quota> {
        IMAGECACHE_TRY(const auto now, quota_blocking(api, project));
        IMAGECACHE_TRY(const auto limits, parse_limits(given, now));
        IMAGECACHE_CHECK(api.volumes.catalog().set_quota(project, limits));
        return quota_blocking(api, project);
      });
  if (!quota) co_return fault(quota.error());
  co_return json_reply(200, Json{{"quota_set", quota_view(*quota, false, {})}});
}

base::Task<Reply> reset(Call& call) {
  auto done = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), project = call.parameter("target_project")] {
        return catalog.reset_quota(project);
      });
  if (!done) co_return fault(done.error());
  co_return empty_reply(200);
}

Result<Quota> class_blocking(ApiContext& api, const std::string& name) {
  IMAGECACHE_TRY(const auto limits, api.volumes.catalog().quota_class(name));
  IMAGECACHE_TRY(const auto types, visible_types(api.volumes));
  std::map<std::string, catalog::QuotaUsage> rows;
  for (const auto& [resource, limit] : limits) rows[resource].limit = limit;
  return complete_quota(rows, types);
}

/// Only the class "default" counts for anybody: it is over the quota_* options for all projects without limits of their
/// own.
base::Task<Reply> show_class(Call& call) {
  auto quota = co_await base::offload(
      call.api.pool, [&api = call.api, name = call.parameter("class")] { return class_blocking(api, name); });
  if (!quota) co_return fault(quota.error());
  co_return json_reply(200, Json{{"quota_class_set", quota_view(*quota, false, call.parameter("class"))}});
}

base::Task<Reply> update_class(Call& call) {
  auto body = wrapped_object(call.body, "quota_class_set");
  if (!body) co_return fault(body.error());
  auto limits = parse_class_limits(*body);
  if (!limits) co_return fault(limits.error());
  auto quota = co_await base::offload(
      call.api.pool, [&api = call.api, name = call.parameter("class"), given = *limits]() -> Result<Quota> {
        IMAGECACHE_CHECK(api.volumes.catalog().set_quota_class(name, given));
        return class_blocking(api, name);
      });
  if (!quota) co_return fault(quota.error());
  Json view = quota_view(*quota, false, {});
  for (const auto& [resource, limit] : *limits) view[resource] = limit;  // of types that are not there too
  co_return json_reply(200, Json{{"quota_class_set", std::move(view)}});
}

base::Task<Reply> limits(Call& call) {
  std::string project = call.who.project_id;
  const auto asked = call.query.find("project_id");
  if (asked != call.query.end() && call.who.is_admin && call.version >= Microversion{3, 39}) project = asked->second;
  auto quota = co_await quota_of(call, std::move(project));
  if (!quota) co_return fault(quota.error());
  co_return json_reply(200, limits_view(*quota));
}

}  // namespace

void add_quota_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/os-quota-sets/{target_project}/defaults", show_defaults,
               "volume_extension:quotas:show");
  add_v3_route(router, api, "GET", "/os-quota-sets/{target_project}", show, {});
  add_v3_route(router, api, "PUT", "/os-quota-sets/{target_project}", update, "volume_extension:quotas:update");
  add_v3_route(router, api, "DELETE", "/os-quota-sets/{target_project}", reset, "volume_extension:quotas:delete");
  add_v3_route(router, api, "GET", "/os-quota-class-sets/{class}", show_class, "volume_extension:quota_classes:get");
  add_v3_route(router, api, "PUT", "/os-quota-class-sets/{class}", update_class,
               "volume_extension:quota_classes:update");
  add_v3_route(router, api, "GET", "/limits", limits, "limits_extension:used_limits");
}

}  // namespace imagecache::api
