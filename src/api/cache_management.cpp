#include "api/cache_management.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "api/authenticate.hpp"
#include "api/glance_answers.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view root = "/v2/cache";

/// What a policy rule may compare: the image as glance-api's own target has it.
identity::PolicyTarget target_of(const origin::ImageInfo& info) {
  identity::PolicyTarget target{{"image_id", info.id},          {"name", info.name},        {"status", info.status},
                                {"owner", info.owner},          {"project_id", info.owner}, {"tenant", info.owner},
                                {"visibility", info.visibility}};
  for (const auto& [name, value] : info.properties) target.emplace(name, value);
  return target;
}

bool has_body(const http::Exchange& exchange) {
  const auto length = base::parse_unsigned(exchange.header("Content-Length"));
  return length.value_or(0) > 0 || !exchange.header("Transfer-Encoding").empty();
}

// The sqlite driver's times have fractions, the xattr driver's are integers.
Json time_view(double seconds) {
  if (seconds == std::floor(seconds) && std::abs(seconds) < 1e15) return static_cast<std::int64_t>(seconds);
  return seconds;
}

}  // namespace

Json cached_images_view(const image_cache::ImageCache& cache) {
  Json images = Json::array();
  // A page at a time: the cache answers nobody else while it copies one.
  constexpr std::size_t page_size = 1000;
  std::string marker;
  for (;;) {
    const auto page = cache.list(marker, page_size);
    for (const auto& image : page) {
      images.push_back(Json{{"image_id", image.image_id},
                            {"hits", image.hits},
                            {"last_accessed", time_view(image.last_accessed)},
                            {"last_modified", time_view(image.last_modified)},
                            {"size", image.size_bytes}});
    }
    if (page.size() < page_size) return images;
    marker = page.back().image_id;
  }
}

bool is_image_id(std::string_view id) {
  return base::is_uuid(id);
}

CacheManagement::CacheManagement(Options options, image_cache::ImageCache& cache,
                                 const identity::Authenticator& authenticator, const identity::Policy& policy,
                                 base::BlockingPool& pool)
    : options_(options), cache_(cache), authenticator_(authenticator), policy_(policy), pool_(pool) {}

base::Task<bool> CacheManagement::handle(http::Exchange& exchange, std::string path) {
  const bool ours = path == root || path.starts_with("/v2/cache/");
  const bool legacy = options_.legacy && is_legacy(exchange.method(), path);
  if (!ours && !legacy) co_return false;
  if (!options_.enabled && !options_.answers_when_disabled) co_return false;
  auto who = co_await authenticate(authenticator_, pool_, exchange);
  http::Response response;
  if (who) {
    Call call{.exchange = exchange, .who = std::move(*who)};
    response = ours ? co_await answer(call, std::move(path)) : co_await answer_legacy(call, std::move(path));
  } else {
    response = co_await refuse_stranger(who.error(), exchange);
  }
  static_cast<void>(co_await exchange.respond(std::move(response)));
  co_return true;
}

CacheManagement::Answer CacheManagement::refuse_stranger(const Error& error, const http::Exchange& exchange) const {
  const base::RequestContext context = image_context(exchange);
  if (error.code == Errc::unauthenticated) {
    co_return glance_unauthorized(authenticator_.challenge(), exchange, context);
  }
  // Whoever it is: Keystone cannot be asked at the moment.
  co_return glance_error(error.code == Errc::forbidden ? 403 : 503, error.message, exchange, context);
}

http::Response CacheManagement::forbidden(const Call& call, std::string_view policy) const {
  return glance_error(403, fmt::format("You are not authorized to complete {} action.", policy), call.exchange,
                      call.who);
}

http::Response CacheManagement::disabled(const Call& call) const {
  return glance_error(404, "Caching via API is not supported at this site.", call.exchange, call.who);
}

CacheManagement::Answer CacheManagement::answer(Call& call, std::string path) {
  if (path == root) co_return co_await answer_whole(call);
  std::string rest = path.substr(root.size() + 1);
  const std::string_view method = call.exchange.method();
  if (rest == "clean" || rest == "prune") {
    if (method != "POST") co_return glance_wrong_method("POST", call.exchange, call.who);
    co_return co_await run(call, rest == "clean" ? "cache_clean" : "cache_prune", rest);
  }
  constexpr std::string_view nodes = "nodes/";
  if (rest.starts_with(nodes) && rest.find('/', nodes.size()) == std::string::npos && rest.size() > nodes.size()) {
    if (method != "GET") co_return glance_wrong_method("GET", call.exchange, call.who);
    co_return co_await run(call, "list_cached_nodes", "nodes");
  }
  if (rest.empty() || rest.find('/') != std::string::npos) {
    co_return glance_error(404, "The resource could not be found.", call.exchange, call.who);
  }
  co_return co_await answer_one(call, std::move(rest));
}

CacheManagement::Answer CacheManagement::answer_whole(Call& call) {
  const std::string_view method = call.exchange.method();
  if (method != "GET" && method != "DELETE") co_return glance_wrong_method("GET, DELETE", call.exchange, call.who);
  const std::string_view policy = method == "GET" ? "cache_list" : "cache_delete";
  if (method == "GET" && has_body(call.exchange)) {
    co_return glance_error(400, "A request for the list of cached images has no body.", call.exchange, call.who);
  }
  if (!policy_.allows(policy, call.who)) co_return forbidden(call, policy);
  if (!options_.enabled) co_return disabled(call);
  co_return method == "GET" ? co_await list(call) : co_await clear(call);
}

CacheManagement::Answer CacheManagement::answer_one(Call& call, std::string id) {
  const std::string_view method = call.exchange.method();
  if (method != "PUT" && method != "DELETE") co_return glance_wrong_method("DELETE, PUT", call.exchange, call.who);
  if (!is_image_id(id)) {
    co_return glance_error(404, fmt::format("Image {} not found.", id), call.exchange, call.who);
  }
  id = base::to_lower(id);
  co_return method == "PUT" ? co_await queue(call, std::move(id)) : co_await remove(call, std::move(id));
}

CacheManagement::Answer CacheManagement::run(Call& call, std::string_view policy, std::string_view what) {
  if (!policy_.allows(policy, call.who)) co_return forbidden(call, policy);
  if (!options_.enabled) co_return disabled(call);
  if (what == "nodes") {
    co_return glance_error(409, "Which nodes hold an image is known only where image_cache_driver is centralized_db.",
                           call.exchange, call.who);
  }
  const auto removed = what == "clean" ? co_await cache_.clean() : co_await cache_.prune();
  if (!removed) co_return glance_error(removed.error(), call.exchange, call.who);
  if (what == "clean") co_return glance_empty(200, call.who);
  co_return glance_json(Json{{"total_files_pruned", removed->files}, {"total_bytes_pruned", removed->bytes}}, call.who);
}

base::Task<void> CacheManagement::catch_up(const Call& call) {
  // Where it cannot be told what others did, what we know is still an answer.
  if (const auto followed = co_await cache_.refresh(); !followed) {
    base::log::warning("api", &call.who, "the list of cached images may be behind: {}", followed.error().message);
  }
}

CacheManagement::Answer CacheManagement::list(Call& call) {
  if (const auto known = co_await cache_.wait_loaded(); !known) {
    co_return glance_error(known.error(), call.exchange, call.who);  // half a list would be taken for all
  }
  co_await catch_up(call);
  // Both read what the cache holds in memory, but for the queue, which is a directory.
  auto read = [&cache = cache_]() -> Result<std::pair<Json, std::vector<std::string>>> {
    return std::pair(cached_images_view(cache), cache.queued());
  };
  auto lists = co_await base::offload(pool_, read);
  if (!lists) co_return glance_error(lists.error(), call.exchange, call.who);
  co_return glance_json(Json{{"cached_images", std::move(lists->first)}, {"queued_images", lists->second}}, call.who);
}

CacheManagement::Answer CacheManagement::clear(Call& call) {
  const std::string target = base::to_lower(call.exchange.header("x-image-cache-clear-target"));
  if (!target.empty() && target != "cache" && target != "queue") {
    co_return glance_error(400, "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.",
                           call.exchange, call.who);
  }
  if (target != "queue") {
    if (auto removed = co_await cache_.remove_all(); !removed) {
      co_return glance_error(removed.error(), call.exchange, call.who);
    }
  }
  if (target != "cache") {
    if (auto removed = co_await cache_.unqueue_all(); !removed) {
      co_return glance_error(removed.error(), call.exchange, call.who);
    }
  }
  co_return glance_empty(204, call.who);
}

CacheManagement::Answer CacheManagement::queue(Call& call, std::string id) {
  const auto info = co_await cache_.describe(id, call.who);
  if (!info) {
    if (info.error().code != Errc::not_found) co_return glance_error(info.error(), call.exchange, call.who);
    co_return glance_error(404, fmt::format("Image {} not found.", id), call.exchange, call.who);
  }
  if (!policy_.allows("cache_image", call.who, target_of(*info))) co_return forbidden(call, "cache_image");
  if (!options_.enabled) co_return disabled(call);
  if (info->status != "active") {
    co_return glance_error(400, "Only images with status active can be targeted for queueing", call.exchange, call.who);
  }
  if (auto queued = co_await cache_.queue(std::move(id), call.who); !queued) {
    co_return glance_error(queued.error(), call.exchange, call.who);
  }
  co_return glance_empty(202, call.who);
}

bool CacheManagement::is_known(const std::string& id) {
  if (cache_.look_for(id)) return true;
  const auto queued = cache_.queued();
  return std::ranges::find(queued, id) != queued.end();
}

CacheManagement::Answer CacheManagement::remove(Call& call, std::string id) {
  identity::PolicyTarget target;
  if (const auto info = co_await cache_.describe(id, call.who)) {
    target = target_of(*info);
  } else if (info.error().code != Errc::not_found) {
    co_return glance_error(info.error(), call.exchange, call.who);
  } else {
    // An image that is no more may still be here, and is to be got rid of.
    auto look = [this, id]() -> Result<bool> { return is_known(id); };
    const auto known = co_await base::offload(pool_, look);
    if (!known) co_return glance_error(known.error(), call.exchange, call.who);
    if (!*known) co_return glance_error(404, fmt::format("Image {} not found.", id), call.exchange, call.who);
  }
  if (!policy_.allows("cache_delete", call.who, target)) co_return forbidden(call, "cache_delete");
  if (!options_.enabled) co_return disabled(call);
  if (auto removed = co_await cache_.remove(id); !removed) {
    co_return glance_error(removed.error(), call.exchange, call.who);
  }
  if (auto removed = co_await cache_.unqueue(id); !removed) {
    co_return glance_error(removed.error(), call.exchange, call.who);
  }
  co_return glance_empty(204, call.who);
}

}  // namespace imagecache::api
