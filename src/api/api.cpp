#include "api/api.hpp"

#include "api/call.hpp"

namespace imagecache::api {

void add_volume_api(http::Router& router, ApiContext& api) {
  add_version_routes(router, api);
  add_health_routes(router, api);
  add_hook_routes(router, api);
  // The lists come before the single volume, whose {volume_id} would take "detail" for an id.
  add_volume_list_routes(router, api);
  add_volume_routes(router, api);
  add_volume_metadata_routes(router, api);
  add_volume_action_routes(router, api);
  add_type_routes(router, api);
  add_type_access_routes(router, api);
  add_type_encryption_routes(router, api);
  add_quota_routes(router, api);
  add_service_routes(router, api);
  add_scheduler_stats_routes(router, api);
  add_extension_routes(router, api);
  add_message_routes(router, api);
  add_empty_list_routes(router, api);
  add_image_view_routes(router, api);
  add_v3_otherwise(router, api);
}

void add_hook_api(http::Router& router, ApiContext& api) {
  add_health_routes(router, api);
  add_hook_routes(router, api);
}

void add_status_api(http::Router& router, ApiContext& api) {
  add_health_routes(router, api);
  add_metrics_routes(router, api);
  add_management_routes(router, api);
  add_status_page_routes(router, api);
}

}  // namespace imagecache::api
