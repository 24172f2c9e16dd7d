// The seven routes of Glance's filter "cachemanage", which glance-cache-manage speaks. Ids that name no image change
// nothing and are answered as if they had been there, as Glance answers them; unlike there, they never become a path.

#include <utility>

#include "api/cache_management.hpp"
#include "api/glance_answers.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view cached = "/v2/cached_images";
constexpr std::string_view queued = "/v2/queued_images";

struct LegacyPath {
  std::string_view list;  ///< one of the two above; empty: none of them
  std::string_view id;    ///< empty: the whole list
};

LegacyPath parse(std::string_view path) {
  for (const std::string_view list : {cached, queued}) {
    if (path == list) return {.list = list, .id = {}};
    if (!path.starts_with(list) || path[list.size()] != '/') continue;
    const std::string_view id = path.substr(list.size() + 1);
    if (!id.empty() && id.find('/') == std::string_view::npos) return {.list = list, .id = id};
  }
  return {};
}

}  // namespace

bool CacheManagement::is_legacy(std::string_view method, std::string_view path) {
  const LegacyPath asked = parse(path);
  if (asked.list.empty()) return false;
  if (method == "DELETE") return true;
  return asked.id.empty() ? method == "GET" : method == "PUT" && asked.list == queued;
}

CacheManagement::Answer CacheManagement::answer_legacy(Call& call, std::string path) {
  if (!policy_.allows("manage_image_cache", call.who)) {
    co_return glance_error(403, "Access was denied to this resource.", call.exchange, call.who);
  }
  if (!options_.enabled) co_return disabled(call);
  const LegacyPath asked = parse(path);
  if (call.exchange.method() == "GET") {
    if (const auto known = co_await cache_.wait_loaded(); !known) {
      co_return glance_error(known.error(), call.exchange, call.who);
    }
    co_await catch_up(call);
    auto read = [&cache = cache_, all = asked.list == cached]() -> Result<Json> {
      return all ? Json{{"cached_images", cached_images_view(cache)}} : Json{{"queued_images", cache.queued()}};
    };
    auto list = co_await base::offload(pool_, read);
    co_return list ? glance_json(*list, call.who) : glance_error(list.error(), call.exchange, call.who);
  }
  if (asked.id.empty()) {
    const auto removed = asked.list == cached ? co_await cache_.remove_all() : co_await cache_.unqueue_all();
    if (!removed) co_return glance_error(removed.error(), call.exchange, call.who);
    co_return glance_json(Json{{"num_deleted", removed->files}}, call.who);
  }
  co_return co_await legacy_change(call, std::string(asked.list), base::to_lower(asked.id));
}

CacheManagement::Answer CacheManagement::legacy_change(Call& call, std::string list, std::string id) {
  if (!is_image_id(id)) co_return glance_json(Json(nullptr), call.who);
  Result<void> done;
  if (call.exchange.method() == "PUT") {
    // What is no image is not queued, since it would be asked for again and again; the answer is Glance's all the same.
    const auto info = co_await cache_.describe(id, call.who);
    if (info && info->status == "active") {
      done = co_await cache_.queue(std::move(id), call.who);
    } else if (!info && info.error().code != Errc::not_found) {
      done = std::unexpected(info.error());
    }
  } else if (list == cached) {
    if (auto removed = co_await cache_.remove(std::move(id)); !removed) done = std::unexpected(removed.error());
  } else {
    done = co_await cache_.unqueue(std::move(id));
  }
  co_return done ? glance_json(Json(nullptr), call.who) : glance_error(done.error(), call.exchange, call.who);
}

}  // namespace imagecache::api
