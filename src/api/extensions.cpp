// extensions and os-availability-zone: what of Cinder's API this service has, and the one zone it is in.
#include <array>

#include "api/api.hpp"
#include "api/call.hpp"

namespace imagecache::api {
namespace {

base::Task<Reply> availability_zones(Call& call) {
  const Json zone{{"zoneName", call.api.options.availability_zone}, {"zoneState", Json{{"available", true}}}};
  co_return json_reply(200, Json{{"availabilityZoneInfo", Json::array({zone})}});
}

struct Extension {
  std::string_view name;
  std::string_view alias;
  std::string_view description;
  std::string_view updated;
};
constexpr std::array<Extension, 15> served = {{
    {"AdminActions", "os-admin-actions", "Enable admin actions.", "2012-08-25T00:00:00+00:00"},
    {"AvailabilityZones", "os-availability-zone", "Describe Availability Zones.", "2013-06-27T00:00:00+00:00"},
    {"Capabilities", "capabilities", "Capabilities support.", "2015-08-31T00:00:00+00:00"},
    {"ExtendedServices", "os-extended-services", "Extended services support.", "2014-01-10T00:00:00-00:00"},
    {"Hosts", "os-hosts", "Admin-only host administration.", "2011-06-29T00:00:00+00:00"},
    {"Quotas", "os-quota-sets", "Quota management support.", "2011-08-08T00:00:00+00:00"},
    {"QuotaClasses", "os-quota-class-sets", "Quota classes management support.", "2012-03-12T00:00:00+00:00"},
    {"Scheduler_stats", "scheduler-stats", "Scheduler stats support.", "2014-09-07T00:00:00+00:00"},
    {"Services", "os-services", "Services support.", "2012-10-28T00:00:00-00:00"},
    {"TypesExtraSpecs", "os-types-extra-specs", "Type extra specs support.", "2011-08-24T00:00:00+00:00"},
    {"TypesManage", "os-types-manage", "Types manage support.", "2011-08-24T00:00:00+00:00"},
    {"VolumeActions", "os-volume-actions", "Enable volume actions.", "2012-05-31T00:00:00+00:00"},
    {"VolumeImageMetadata", "os-vol-image-meta", "Show image metadata associated with the volume.",
     "2012-12-07T00:00:00+00:00"},
    {"VolumeTenantAttribute", "os-vol-tenant-attr", "Expose the internal project_id as an attribute of a volume.",
     "2011-11-03T00:00:00+00:00"},
    {"VolumeTypeAccess", "os-volume-type-access", "Volume type access support.", "2014-06-26T00:00:00Z"},
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

void add_extension_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/os-availability-zone", availability_zones, {});
  add_v3_route(router, api, "GET", "/extensions", extensions, {});
  add_v3_route(router, api, "GET", "/extensions/{alias}", extension, {});
}

}  // namespace imagecache::api
