// os-services, os-availability-zone, scheduler-stats, extensions: the cloud's view of this service.
#include <array>

#include "api/api.hpp"
#include "api/call.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

/// One cinder-volume per backend, as Cinder shows it; this process is up if it answers at all.
base::Task<Reply> services(Call& call) {
  if (!call.who.is_admin) co_return fault(403, "Policy doesn't allow volume_extension:services:index to be performed.");
  const auto host = call.query.find("host");
  const auto binary = call.query.find("binary");
  Json array = Json::array();
  for (const auto& backend : call.api.volumes.backends()) {
    const auto& options = backend->options();
    if (binary != call.query.end() && binary->second != "cinder-volume") continue;
    if (host != call.query.end() && host->second != options.host && !options.host.starts_with(host->second + "@"))
      continue;
    Json service{{"binary", "cinder-volume"},
                 {"host", options.host},
                 {"zone", call.api.options.availability_zone},
                 {"status", "enabled"},
                 {"state", "up"},
                 {"updated_at", base::to_iso8601(call.api.clock.now())},
                 {"disabled_reason", nullptr},
                 {"replication_status", "disabled"},
                 {"active_backend_id", nullptr},
                 {"frozen", false}};
    if (call.version >= Microversion{3, 7}) service["cluster"] = nullptr;
    if (call.version >= Microversion{3, 49}) service["backend_state"] = "up";
    array.push_back(std::move(service));
  }
  co_return json_reply(200, Json{{"services", std::move(array)}});
}

base::Task<Reply> availability_zones(Call& call) {
  const Json zone{{"zoneName", call.api.options.availability_zone}, {"zoneState", Json{{"available", true}}}};
  co_return json_reply(200, Json{{"availabilityZoneInfo", Json::array({zone})}});
}

double to_gb(std::uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(base::gib);
}

base::Task<Reply> pools(Call& call) {
  if (!call.who.is_admin)
    co_return fault(403, "Policy doesn't allow scheduler_extension:scheduler_stats:get_pools to be performed.");
  const auto detail = call.query.find("detail");
  const bool detailed = detail != call.query.end() && parse_bool(detail->second).value_or(false);
  Json array = Json::array();
  for (const auto& backend : call.api.volumes.backends()) {
    const auto& options = backend->options();
    Json pool{{"name", options.host_and_pool()}};
    if (detailed) {
      const auto stats = co_await backend->get_volume_stats();
      Json capabilities{{"volume_backend_name", options.volume_backend_name},
                        {"pool_name", options.volume_backend_name},
                        {"vendor_name", "cinder-image-cache"},
                        {"driver_version", call.api.options.version},
                        {"storage_protocol", options.driver_name}};
      // Cinder's scheduler has a word for what a backend cannot say.
      capabilities["total_capacity_gb"] = stats ? Json(to_gb(stats->total_bytes)) : Json("unknown");
      capabilities["free_capacity_gb"] = stats ? Json(to_gb(stats->free_bytes)) : Json("unknown");
      capabilities["reserved_percentage"] = 0;
      capabilities["QoS_support"] = false;
      capabilities["multiattach"] = false;
      capabilities["timestamp"] = base::to_iso8601(call.api.clock.now());
      pool["capabilities"] = std::move(capabilities);
    }
    array.push_back(std::move(pool));
  }
  co_return json_reply(200, Json{{"pools", std::move(array)}});
}

struct Extension {
  std::string_view name;
  std::string_view alias;
  std::string_view description;
  std::string_view updated;
};
constexpr std::array<Extension, 9> served = {{
    {"AdminActions", "os-admin-actions", "Enable admin actions.", "2012-08-25T00:00:00+00:00"},
    {"AvailabilityZones", "os-availability-zone", "Describe Availability Zones.", "2013-06-27T00:00:00+00:00"},
    {"ExtendedServices", "os-extended-services", "Extended services support.", "2014-01-10T00:00:00-00:00"},
    {"Quotas", "os-quota-sets", "Quota management support.", "2011-08-08T00:00:00+00:00"},
    {"QuotaClasses", "os-quota-class-sets", "Quota classes management support.", "2012-03-12T00:00:00+00:00"},
    {"Services", "os-services", "Services support.", "2012-10-28T00:00:00-00:00"},
    {"TypesExtraSpecs", "os-types-extra-specs", "Type extra specs support.", "2011-08-24T00:00:00+00:00"},
    {"TypesManage", "os-types-manage", "Types manage support.", "2011-08-24T00:00:00+00:00"},
    {"VolumeActions", "os-volume-actions", "Enable volume actions.", "2012-05-31T00:00:00+00:00"},
}};

Json extension_view(const Extension& extension) {
  return Json{{"name", std::string(extension.name)},
              {"alias", std::string(extension.alias)},
              {"description", std::string(extension.description)},
              {"updated", std::string(extension.updated)},
              {"links", Json::array()}};
}

base::Task<Reply> extensions(Call& call) {
  static_cast<void>(call);
  Json array = Json::array();
  for (const Extension& extension : served) array.push_back(extension_view(extension));
  co_return json_reply(200, Json{{"extensions", std::move(array)}});
}

base::Task<Reply> extension(Call& call) {
  for (const Extension& candidate : served) {
    if (candidate.alias == call.parameter("alias")) {
      co_return json_reply(200, Json{{"extension", extension_view(candidate)}});
    }
  }
  co_return fault(404, "The resource could not be found.");
}

}  // namespace

void add_service_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/os-services", services);
  add_v3_route(router, api, "GET", "/os-availability-zone", availability_zones);
  add_v3_route(router, api, "GET", "/scheduler-stats/get_pools", pools);
  add_v3_route(router, api, "GET", "/extensions", extensions);
  add_v3_route(router, api, "GET", "/extensions/{alias}", extension);
}

}  // namespace imagecache::api
