// What app calls: each adds one API's routes to a router. The context outlives the router, the router the server.
#pragma once

#include "api/context.hpp"
#include "http/router.hpp"

namespace imagecache::api {

/// volume_api_bind: the Block Storage API v3, the driver hook under /v1/hook/, /healthcheck, and a fault in Cinder's
/// shape for every other path or method.
void add_volume_api(http::Router& router, ApiContext& api);

/// hook_bind: the driver hook under /v1/hook/ and /healthcheck.
void add_hook_api(http::Router& router, ApiContext& api);

/// status_bind: /healthcheck, /metrics, the management API under /v1/ and the status page at /.
void add_status_api(http::Router& router, ApiContext& api);

// The parts, for a listener that wants only some of them.
void add_version_routes(http::Router& router, ApiContext& api);
void add_volume_routes(http::Router& router, ApiContext& api);
void add_volume_list_routes(http::Router& router, ApiContext& api);
void add_volume_metadata_routes(http::Router& router, ApiContext& api);
void add_volume_action_routes(http::Router& router, ApiContext& api);
void add_type_encryption_routes(http::Router& router, ApiContext& api);
void add_type_routes(http::Router& router, ApiContext& api);
void add_quota_routes(http::Router& router, ApiContext& api);
void add_type_access_routes(http::Router& router, ApiContext& api);
void add_service_routes(http::Router& router, ApiContext& api);
void add_scheduler_stats_routes(http::Router& router, ApiContext& api);
void add_extension_routes(http::Router& router, ApiContext& api);
void add_message_routes(http::Router& router, ApiContext& api);
void add_empty_list_routes(http::Router& router, ApiContext& api);
void add_image_view_routes(http::Router& router, ApiContext& api);
void add_hook_routes(http::Router& router, ApiContext& api);
void add_health_routes(http::Router& router, ApiContext& api);
void add_metrics_routes(http::Router& router, ApiContext& api);
void add_management_routes(http::Router& router, ApiContext& api);
void add_image_management_routes(http::Router& router, ApiContext& api);
void add_status_page_routes(http::Router& router, ApiContext& api);

}  // namespace imagecache::api
