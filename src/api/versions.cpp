// GET / and /v3/: which versions there are. Clients ask before they have a token.
#include "api/api.hpp"
#include "api/call.hpp"

namespace imagecache::api {
namespace {

Json versions_body(const Call& call) {
  const Json links =
      Json::array({Json{{"rel", "describedby"}, {"type", "text/html"}, {"href", "https://docs.openstack.org/"}},
                   Json{{"rel", "self"}, {"href", call.base_url() + "/v3/"}}});
  const Json media =
      Json::array({Json{{"base", "application/json"}, {"type", "application/vnd.openstack.volume+json;version=3"}}});
  const Json version{{"id", "v3.0"},
                     {"status", "CURRENT"},
                     {"version", newest_version.text()},
                     {"min_version", oldest_version.text()},
                     {"updated", "2021-12-16T00:00:00Z"},
                     {"links", links},
                     {"media-types", media}};
  return Json{{"versions", Json::array({version})}};
}

Reply with_version_headers(const Call& call, unsigned status) {
  Reply reply = json_reply(status, versions_body(call));
  reply.headers.emplace_back("OpenStack-API-Version", "volume " + oldest_version.text());
  reply.headers.emplace_back("Vary", "OpenStack-API-Version");
  const std::string id = base::internal_context().request_id;
  reply.headers.emplace_back("x-compute-request-id", id);
  reply.headers.emplace_back("x-openstack-request-id", id);
  return reply;
}

base::Task<Reply> all_versions(Call& call) {
  co_return with_version_headers(call, 300);
}

base::Task<Reply> version_three(Call& call) {
  co_return with_version_headers(call, 200);
}

}  // namespace

void add_version_routes(http::Router& router, ApiContext& api) {
  add_open_route(router, api, "GET", "/", all_versions);
  // Cinder redirects the first to the second; the answer itself saves clients the way.
  add_open_route(router, api, "GET", "/v3", version_three);
  add_open_route(router, api, "GET", "/v3/", version_three);
}

}  // namespace imagecache::api
