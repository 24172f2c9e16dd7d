// /v2/cache, as Glance's API has it since 2.14, and its two newer calls.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/images.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

using image_cache::ImageCache;

http::Response json_response(const nlohmann::json& body, const base::RequestContext& context) {
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"}, {"X-Openstack-Request-Id", context.request_id}},
          .body = body.dump()};
}

http::Response empty_response(unsigned status, const base::RequestContext& context) {
  return {.status = status,
          .headers = {{"Content-Type", "text/html; charset=UTF-8"}, {"X-Openstack-Request-Id", context.request_id}},
          .body = {}};
}

http::Response method_not_allowed(std::string_view allow, const base::RequestContext& context) {
  auto response = glance_error(405, "The method is not allowed for this resource.", context);
  response.headers.emplace_back("Allow", allow);
  return response;
}

http::Response failed(const Error& error, const base::RequestContext& context) {
  return glance_error(glance_status(error.code), error.message, context);
}

http::Response list(const ImageCache& cache, const base::RequestContext& context) {
  nlohmann::json cached = nlohmann::json::array();
  for (const auto& image : cache.list()) {
    cached.push_back({{"image_id", image.image_id},
                      {"hits", image.hits},
                      {"last_accessed", image.last_accessed},
                      {"last_modified", image.last_modified},
                      {"size", image.size_bytes}});
  }
  return json_response({{"cached_images", cached}, {"queued_images", cache.queued()}}, context);
}

base::Task<http::Response> clear(std::string target, ImageCache& cache, const base::RequestContext& context) {
  target = base::to_lower(target);
  if (!target.empty() && target != "cache" && target != "queue") {
    co_return glance_error(400, "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.",
                           context);
  }
  if (target != "queue") {
    if (auto removed = co_await cache.remove_all(); !removed) co_return failed(removed.error(), context);
  }
  if (target != "cache") {
    if (auto removed = co_await cache.unqueue_all(); !removed) co_return failed(removed.error(), context);
  }
  co_return empty_response(204, context);
}

base::Task<http::Response> queue(std::string id, ImageCache& cache, const base::RequestContext& context) {
  const auto info = co_await cache.describe(id, context);
  if (!info) co_return failed(info.error(), context);
  if (info->status != "active") {
    co_return glance_error(400, "Only images with status active can be targeted for queueing", context);
  }
  if (auto queued = co_await cache.queue(id, context); !queued) co_return failed(queued.error(), context);
  co_return empty_response(202, context);
}

base::Task<http::Response> remove(std::string id, ImageCache& cache, const base::RequestContext& context) {
  const auto queued = cache.queued();
  const bool known = cache.is_cached(id) || std::ranges::find(queued, id) != queued.end();
  if (!known) {
    if (const auto info = co_await cache.describe(id, context); !info) co_return failed(info.error(), context);
  }
  if (auto removed = co_await cache.remove(id); !removed) co_return failed(removed.error(), context);
  if (auto removed = co_await cache.unqueue(id); !removed) co_return failed(removed.error(), context);
  co_return empty_response(204, context);
}

base::Task<http::Response> prune(ImageCache& cache, const base::RequestContext& context) {
  const auto removed = co_await cache.prune();
  if (!removed) co_return failed(removed.error(), context);
  co_return json_response({{"total_files_pruned", removed->files}, {"total_bytes_pruned", removed->bytes}}, context);
}

base::Task<http::Response> clean(ImageCache& cache, const base::RequestContext& context) {
  const auto removed = co_await cache.clean();
  co_return removed ? empty_response(200, context) : failed(removed.error(), context);
}

}  // namespace

base::Task<bool> handle_cache_management(http::Exchange& exchange, std::string_view path, ImageCache& cache,
                                         const identity::Authenticator& authenticator) {
  constexpr std::string_view root = "/v2/cache";
  if (path != root && !path.starts_with("/v2/cache/")) co_return false;
  const auto who = authenticator.authenticate(
      {.auth_token = exchange.header("X-Auth-Token"), .request_id = exchange.header("X-Openstack-Request-Id")});
  const base::RequestContext context = who ? *who : image_context(exchange);
  const std::string_view method = exchange.method();
  const std::string rest(path.size() > root.size() ? path.substr(root.size() + 1) : "");
  http::Response response;
  if (!who) {
    response = failed(who.error(), context);
  } else if (!context.is_admin) {
    response = glance_error(403, "You are not authorized to manage the image cache.", context);
  } else if (path == root) {
    if (method == "GET") {
      response = list(cache, context);
    } else if (method == "DELETE") {
      response = co_await clear(std::string(exchange.header("x-image-cache-clear-target")), cache, context);
    } else {
      response = method_not_allowed("GET, DELETE", context);
    }
  } else if (rest == "prune" || rest == "clean") {
    if (method != "POST") {
      response = method_not_allowed("POST", context);
    } else {
      response = rest == "prune" ? co_await prune(cache, context) : co_await clean(cache, context);
    }
  } else if (!base::is_safe_name(rest)) {
    response = glance_error(404, "The resource could not be found.", context);
  } else if (method == "PUT") {
    response = co_await queue(rest, cache, context);
  } else if (method == "DELETE") {
    response = co_await remove(rest, cache, context);
  } else {
    response = method_not_allowed("DELETE, PUT", context);
  }
  static_cast<void>(co_await exchange.respond(std::move(response)));
  co_return true;
}

}  // namespace imagecache::api
