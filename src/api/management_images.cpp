// Image files under /v1/images, for the command line: what Glance's own calls have no place for, pins, and fills that
// run. One row per image that is cached, being filled, queued or pinned, in the order of ids, a page at a time.
#include <algorithm>
#include <map>
#include <utility>

#include "api/admins.hpp"
#include "api/api.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

/// An image that is several of these is the first of them.
constexpr std::string_view state_cached = "cached";
constexpr std::string_view state_filling = "filling";
constexpr std::string_view state_queued = "queued";
constexpr std::string_view state_pinned = "pinned";

Json row_of(const std::string& id, std::string_view state) {
  return Json{{"image_id", id},           {"state", std::string(state)}, {"size_bytes", nullptr}, {"hits", nullptr},
              {"last_accessed", nullptr}, {"last_modified", nullptr},    {"pinned", false},       {"queued", false},
              {"fill", nullptr}};
}

/// The first `limit` rows behind `marker`.
Json page_of(const image_cache::ImageCache& images, const std::string& marker, std::size_t limit) {
  std::map<std::string, Json> rows;
  for (const auto& image : images.list(marker, limit)) {
    Json row = row_of(image.image_id, state_cached);
    row["size_bytes"] = image.size_bytes;
    row["hits"] = image.hits;
    row["last_accessed"] = image.last_accessed;
    row["last_modified"] = image.last_modified;
    row["pinned"] = image.pinned;
    rows.emplace(image.image_id, std::move(row));
  }
  // Where the page is full, what is cached behind it is not in `rows`, and is none of the rows either.
  const auto row_for = [&](const std::string& id, std::string_view state) -> Json* {
    if (id <= marker) return nullptr;
    if (const auto known = rows.find(id); known != rows.end()) return &known->second;
    if (images.is_cached(id)) return nullptr;
    return &rows.emplace(id, row_of(id, state)).first->second;
  };
  for (const auto& fill : images.fills()) {
    Json* row = row_for(fill.image_id, state_filling);
    if (row == nullptr) continue;
    (*row)["fill"] = Json{{"done_bytes", fill.done_bytes},
                          {"total_bytes", fill.total_bytes ? Json(*fill.total_bytes) : Json(nullptr)}};
  }
  for (const auto& id : images.queued()) {
    if (Json* row = row_for(id, state_queued)) (*row)["queued"] = true;
  }
  for (const auto& id : images.pinned()) {
    if (Json* row = row_for(id, state_pinned)) (*row)["pinned"] = true;
  }
  Json page = Json::array();
  for (auto& [id, row] : rows) {
    if (page.size() == limit) break;
    page.push_back(std::move(row));
  }
  return page;
}

Error not_kept() {
  return {Errc::not_found, "no image cache is kept here (image_cache_dir is not set)"};
}

base::Task<Reply> list(Call& call) {
  if (call.api.images == nullptr) co_return management_error(not_kept());
  std::size_t limit = call.api.options.osapi_max_limit;
  if (const auto asked = call.query.find("limit"); asked != call.query.end()) {
    const auto number = base::parse_unsigned(asked->second);
    if (!number || *number == 0) {
      co_return management_error({Errc::invalid_argument, "limit '" + asked->second + "': give a number from 1 on"});
    }
    limit = std::min<std::size_t>(limit, *number);
  }
  std::string marker;
  if (const auto asked = call.query.find("marker"); asked != call.query.end()) marker = asked->second;
  if (const auto known = co_await call.api.images->wait_loaded(); !known) co_return management_error(known.error());
  // The queue is a directory, so this is work for the pool.
  auto read = [&images = *call.api.images, marker, limit]() -> Result<Json> { return page_of(images, marker, limit); };
  auto page = co_await base::offload(call.api.pool, read);
  if (!page) co_return management_error(page.error());
  co_return json_reply(200, Json{{"images", std::move(*page)}});
}

base::Task<Reply> set_pin(Call& call, bool pinned) {
  if (call.api.images == nullptr) co_return management_error(not_kept());
  const std::string id = base::to_lower(call.parameter("id"));
  if (!base::is_uuid(id)) {
    co_return management_error({Errc::invalid_argument, "image '" + id + "': give its id, a UUID"});
  }
  const auto done = pinned ? co_await call.api.images->pin(id) : co_await call.api.images->unpin(id);
  co_return done ? empty_reply(204) : management_error(done.error());
}

base::Task<Reply> pin(Call& call) {
  return set_pin(call, true);
}

base::Task<Reply> unpin(Call& call) {
  return set_pin(call, false);
}

}  // namespace

void add_image_management_routes(http::Router& router, ApiContext& api) {
  add_plain_route(router, api, "GET", "/v1/images", for_admins<list>, management_error);
  add_plain_route(router, api, "PUT", "/v1/images/{id}/pin", for_admins<pin>, management_error);
  add_plain_route(router, api, "DELETE", "/v1/images/{id}/pin", for_admins<unpin>, management_error);
}

}  // namespace imagecache::api
