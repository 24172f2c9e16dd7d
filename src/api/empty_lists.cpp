// What Cinder has and this service has none of: clients ask for the lists all the same, e.g. before a delete.
#include "api/api.hpp"
#include "api/call.hpp"

namespace imagecache::api {
namespace {

Reply empty_list(const char* key) {
  return json_reply(200, Json{{key, Json::array()}});
}

base::Task<Reply> snapshots(Call& call) {
  static_cast<void>(call);
  co_return empty_list("snapshots");
}
base::Task<Reply> attachments(Call& call) {
  static_cast<void>(call);
  co_return empty_list("attachments");
}
base::Task<Reply> backups(Call& call) {
  static_cast<void>(call);
  co_return empty_list("backups");
}
base::Task<Reply> groups(Call& call) {
  static_cast<void>(call);
  co_return empty_list("groups");
}
base::Task<Reply> qos_specs(Call& call) {
  static_cast<void>(call);
  co_return empty_list("qos_specs");
}
base::Task<Reply> transfers(Call& call) {
  static_cast<void>(call);
  co_return empty_list("transfers");
}
base::Task<Reply> default_types(Call& call) {
  static_cast<void>(call);
  co_return empty_list("default_types");
}

}  // namespace

void add_empty_list_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/snapshots", snapshots, {});
  add_v3_route(router, api, "GET", "/snapshots/detail", snapshots, {});
  add_v3_route(router, api, "GET", "/backups", backups, {});
  add_v3_route(router, api, "GET", "/backups/detail", backups, {});
  add_v3_route(router, api, "GET", "/qos-specs", qos_specs, {});
  add_v3_route(router, api, "GET", "/os-volume-transfer", transfers, {});
  add_v3_route(router, api, "GET", "/os-volume-transfer/detail", transfers, {});
  add_v3_route(router, api, "GET", "/volume-transfers", transfers, {}, Microversion{3, 55});
  add_v3_route(router, api, "GET", "/volume-transfers/detail", transfers, {}, Microversion{3, 55});
  add_v3_route(router, api, "GET", "/groups", groups, {}, Microversion{3, 13});
  add_v3_route(router, api, "GET", "/groups/detail", groups, {}, Microversion{3, 13});
  add_v3_route(router, api, "GET", "/attachments", attachments, {}, Microversion{3, 27});
  add_v3_route(router, api, "GET", "/attachments/detail", attachments, {}, Microversion{3, 27});
  add_v3_route(router, api, "GET", "/default-types", default_types, {}, Microversion{3, 62});
}

}  // namespace imagecache::api
