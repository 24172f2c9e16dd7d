// scheduler-stats/get_pools and capabilities: what the backends are and how full, for administrators.
#include <algorithm>

#include "api/api.hpp"
#include "api/call.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

double to_gb(std::uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(base::gib);
}

base::Task<Reply> pools(Call& call) {
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
                        {"vendor_name", options.vendor_name},
                        {"driver_version", call.api.options.version},
                        {"storage_protocol", options.storage_protocol()}};
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

/// A backend by "host@section", also with "#pool" behind it.
base::Task<Reply> capabilities(Call& call) {
  const std::string& host = call.parameter("host");
  const auto& backends = call.api.volumes.backends();
  const auto found = std::ranges::find_if(backends, [&](const auto& backend) {
    return backend->options().host == host || backend->options().host_and_pool() == host;
  });
  if (found == backends.end()) co_return fault(404, "Can't find service: " + host);
  const auto& options = (*found)->options();
  co_return json_reply(200, Json{{"namespace", "OS::Storage::Capabilities::" + options.host},
                                 {"vendor_name", options.vendor_name},
                                 {"volume_backend_name", options.volume_backend_name},
                                 {"pool_name", nullptr},
                                 {"driver_version", call.api.options.version},
                                 {"storage_protocol", options.storage_protocol()},
                                 {"display_name", nullptr},
                                 {"description", nullptr},
                                 {"visibility", nullptr},
                                 {"replication_targets", Json::array()},
                                 {"properties", Json::object()}});
}

}  // namespace

void add_scheduler_stats_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/scheduler-stats/get_pools", pools,
               "scheduler_extension:scheduler_stats:get_pools");
  add_v3_route(router, api, "GET", "/capabilities/{host}", capabilities, "volume_extension:capabilities");
}

}  // namespace imagecache::api
