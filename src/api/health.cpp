// /healthcheck as oslo.middleware answers it, and /metrics.
#include "api/api.hpp"
#include "api/call.hpp"

namespace imagecache::api {
namespace {

Reply health_reply(const Call& call) {
  const bool draining = call.api.draining.load();
  const unsigned status = draining ? 503 : 200;
  const char* reason = draining ? "DRAINING" : "OK";
  const std::string_view accept = call.exchange.header("Accept");
  // What a load balancer's plain probe asks for is text; JSON and HTML are for those who name them first.
  const auto json = accept.find("application/json");
  const auto html = accept.find("text/html");
  if (json != std::string_view::npos && json < html) {
    return json_reply(status, Json{{"detailed", false}, {"reasons", Json::array({reason})}});
  }
  Reply reply;
  reply.status = status;
  if (html != std::string_view::npos) {
    reply.content_type = "text/html; charset=UTF-8";
    reply.body = std::string("<!DOCTYPE html><html><head><title>Healthcheck Status</title></head><body><p>") + reason +
                 "</p></body></html>\n";
  } else {
    reply.content_type = "text/plain; charset=UTF-8";
    reply.body = reason;
  }
  return reply;
}

base::Task<Reply> get(Call& call) {
  co_return health_reply(call);
}

base::Task<Reply> head(Call& call) {
  co_return empty_reply(call.api.draining.load() ? 503 : 204);
}

base::Task<Reply> metrics(Call& call) {
  Reply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = events::prometheus_text(call.api.counters);
  co_return reply;
}

}  // namespace

void add_health_routes(http::Router& router, ApiContext& api) {
  add_open_route(router, api, "GET", "/healthcheck", get);
  add_open_route(router, api, "HEAD", "/healthcheck", head);
}

void add_metrics_routes(http::Router& router, ApiContext& api) {
  add_open_route(router, api, "GET", "/metrics", metrics);
}

}  // namespace imagecache::api
