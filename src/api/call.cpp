#include "api/call.hpp"

#include <exception>
#include <utility>

#include "api/authenticate.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view room = "api";

bool has_body(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

bool is_json_type(std::string_view content_type) {
  const std::string type = base::to_lower(base::trim(content_type.substr(0, content_type.find(';'))));
  return type.empty() || type == "application/json" || type == "application/vnd.openstack.volume+json";
}

/// A handler that throws is a bug; the caller gets a 500 and the log the reason.
base::Task<Reply> run_guarded(Call& call, CallHandler handler, ErrorShape shape) {
  Error error;
  try {
    co_return co_await handler(call);
  } catch (const std::exception& exception) {
    error.message = "The server has either erred or is incapable of performing the requested operation.";
    base::log::error(room, &call.who, "{} {}: a handler threw: {}", call.exchange.method(), call.exchange.path(),
                     exception.what());
  }
  co_return shape(error);
}

base::Task<void> send(http::Exchange& exchange, Reply reply, std::string request_id) {
  if (exchange.answered()) co_return;
  http::Response response;
  response.status = reply.status;
  response.headers = std::move(reply.headers);
  if (!reply.content_type.empty()) response.headers.emplace_back("Content-Type", std::move(reply.content_type));
  if (!request_id.empty()) response.headers.emplace_back("x-openstack-request-id", std::move(request_id));
  response.body = std::move(reply.body);
  // A client that has gone away is told nothing; the session knows.
  static_cast<void>(co_await exchange.respond(std::move(response)));
}

Reply v3_error(const Error& error) {
  return fault(error);
}

/// The project of the path must be the caller's; where no credential names one the path does.
bool settle_project(Call& call) {
  const auto project = call.path.find("project_id");
  if (project == call.path.end()) return true;
  call.project_in_url = true;
  if (call.who.project_is_default) call.who.project_id = project->second;
  return call.who.project_id == project->second;
}

base::Task<Reply> no_such_resource(Call& call) {
  static_cast<void>(call);
  co_return fault(404, "The resource could not be found.");
}

/// To who is not known it is said where a token is to be had.
Reply challenged(Reply reply, const Call& call) {
  if (const auto challenge = call.api.authenticator.challenge(); reply.status == 401 && !challenge.empty()) {
    std::erase_if(reply.headers, [](const http::Header& header) { return header.first == "WWW-Authenticate"; });
    reply.headers.emplace_back("WWW-Authenticate", challenge);
  }
  return reply;
}

/// What a route was added with.
struct V3Route {
  CallHandler handler = nullptr;
  std::string_view rule;
  Microversion since = oldest_version;
};

base::Task<Reply> v3_reply(Call& call, VersionAsked asked, V3Route route) {
  if (asked.problem == VersionProblem::malformed) co_return fault(400, asked.message);
  if (asked.problem == VersionProblem::out_of_range) co_return fault(406, asked.message);
  if (asked.version < route.since) co_return fault(404, "The resource could not be found.");
  auto who = co_await authenticate(call.api.authenticator, call.api.pool, call.exchange);
  if (!who) co_return challenged(fault(who.error()), call);
  call.who = std::move(*who);
  if (!settle_project(call)) co_return fault(400, "Malformed request url");
  if (!route.rule.empty()) {
    if (auto refused = refused_by_policy(call, route.rule)) co_return std::move(*refused);
  }
  if (has_body(call.exchange.method()) && route.handler != no_such_resource) {
    auto body = co_await call.exchange.read_body();
    if (!body) co_return fault(body.error());
    if (!body->empty() && !is_json_type(call.exchange.header("Content-Type"))) {
      co_return fault(415, "Unsupported Content-Type");
    }
    call.body = std::move(*body);
  }
  co_return co_await run_guarded(call, route.handler, v3_error);
}

base::Task<void> serve_v3(ApiContext& api, http::Exchange& exchange, http::PathParameters path, V3Route route) {
  Call call{.api = api,
            .exchange = exchange,
            .path = std::move(path),
            .query = http::parse_query(exchange.query()),
            .who = {},
            .version = {},
            .body = {}};
  VersionAsked asked = negotiate_version(exchange.header("OpenStack-API-Version"));
  call.version = asked.version;
  Reply reply = co_await v3_reply(call, std::move(asked), route);
  if (call.who.request_id.empty()) call.who.request_id = base::internal_context().request_id;
  reply.headers.emplace_back("OpenStack-API-Version", "volume " + call.version.text());
  reply.headers.emplace_back("Vary", "OpenStack-API-Version");
  reply.headers.emplace_back("x-compute-request-id", call.who.request_id);
  base::log::info(room, &call.who, "{} {} -> {}", exchange.method(), exchange.path(), reply.status);
  std::string request_id = call.who.request_id;
  co_await send(exchange, std::move(reply), std::move(request_id));
}

base::Task<Reply> plain_reply(Call& call, CallHandler handler, ErrorShape shape) {
  auto who = co_await authenticate(call.api.authenticator, call.api.pool, call.exchange);
  if (!who) co_return challenged(shape(who.error()), call);
  call.who = std::move(*who);
  if (has_body(call.exchange.method())) {
    auto body = co_await call.exchange.read_body();
    if (!body) co_return shape(body.error());
    call.body = std::move(*body);
  }
  co_return co_await run_guarded(call, handler, shape);
}

base::Task<void> serve_plain(ApiContext& api, http::Exchange& exchange, http::PathParameters path, CallHandler handler,
                             ErrorShape shape) {
  Call call{.api = api,
            .exchange = exchange,
            .path = std::move(path),
            .query = http::parse_query(exchange.query()),
            .who = {},
            .version = {},
            .body = {}};
  Reply reply = co_await plain_reply(call, handler, shape);
  base::log::info(room, &call.who, "{} {} -> {}", exchange.method(), exchange.path(), reply.status);
  std::string request_id = call.who.request_id;
  co_await send(exchange, std::move(reply), std::move(request_id));
}

base::Task<void> serve_open(ApiContext& api, http::Exchange& exchange, http::PathParameters path, CallHandler handler) {
  Call call{.api = api,
            .exchange = exchange,
            .path = std::move(path),
            .query = http::parse_query(exchange.query()),
            .who = {},
            .version = {},
            .body = {}};
  Reply reply = co_await run_guarded(call, handler, management_error);
  co_await send(exchange, std::move(reply), {});
}

}  // namespace

const std::string& Call::parameter(std::string_view name) const {
  static const std::string none;
  const auto found = path.find(name);
  return found == path.end() ? none : found->second;
}

std::string Call::base_url() const {
  std::string url = api.options.public_endpoint;
  while (url.ends_with('/')) url.pop_back();
  if (!url.empty()) return url;
  const std::string_view host = exchange.header("Host");
  return "http://" + (host.empty() ? std::string("localhost") : std::string(host));
}

std::optional<Reply> refused_by_policy(const Call& call, std::string_view rule, std::string_view project) {
  const identity::PolicyTarget target{{"project_id", project.empty() ? call.who.project_id : std::string(project)},
                                      {"user_id", call.who.user_id}};
  if (call.api.policy.allows(rule, call.who, target)) return std::nullopt;
  return fault(403, "Policy doesn't allow " + std::string(rule) + " to be performed.");
}

// The routes' closures are no coroutines themselves: they hand copies to one, which may then outlive them.

void add_v3_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                  CallHandler handler, std::string_view rule, Microversion since) {
  const V3Route route{.handler = handler, .rule = rule, .since = since};
  const auto serve = [&api, route](http::Exchange& exchange, const http::PathParameters& path) {
    return serve_v3(api, exchange, path, route);
  };
  router.add(std::string(method), "/v3" + std::string(pattern), serve);
  router.add(std::string(method), "/v3/{project_id}" + std::string(pattern), serve);
}

void add_plain_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                     CallHandler handler, ErrorShape shape) {
  router.add(std::string(method), pattern,
             [&api, handler, shape](http::Exchange& exchange, const http::PathParameters& path) {
               return serve_plain(api, exchange, path, handler, shape);
             });
}

void add_open_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                    CallHandler handler) {
  router.add(std::string(method), pattern, [&api, handler](http::Exchange& exchange, const http::PathParameters& path) {
    return serve_open(api, exchange, path, handler);
  });
}

void add_v3_otherwise(http::Router& router, ApiContext& api) {
  router.otherwise([&api](http::Exchange& exchange, const http::PathParameters& path) {
    return serve_v3(api, exchange, path, {.handler = no_such_resource, .rule = {}});
  });
}

}  // namespace imagecache::api
