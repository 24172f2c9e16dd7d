// /v1/hook/volumes/{volume_id} and /v1/hook/image-volumes: the door of cinder-volume's driver hook. docs/hook-api.md is
// what it promises. On hook_bind whoever comes is cinder-volume; on volume_api_bind it must be an admin, since volumes
// made here count in no quota of ours and any may be taken back.
#include <algorithm>
#include <chrono>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/hook_request.hpp"
#include "api/management_view.hpp"
#include "api/words.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::uint64_t elapsed_ms(steady_clock::time_point since) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(steady_clock::now() - since).count());
}

Reply bad_id(const std::string& id) {
  return hook_error({Errc::invalid_argument, "volume '" + id.substr(0, 64) + "': the id must be a UUID"});
}

/// cinder-volume acts for its user: the service that holds the admin's identity may name whom.
base::RequestContext acting_for(const Call& call, const HookRequest& request) {
  base::RequestContext who = call.who;
  if (who.is_admin && !request.project_id.empty()) who.project_id = request.project_id;
  if (who.is_admin && !request.user_id.empty()) who.user_id = request.user_id;
  return who;
}

template <CallHandler handler>
base::Task<Reply> for_cinder_volume(Call& call) {
  if (!call.who.is_admin) {
    co_return hook_error({Errc::forbidden, "the hook is for cinder-volume: let it come by hook_bind, or as an admin"});
  }
  co_return co_await handler(call);
}

void add_model_update(Json& view, const ModelUpdate& update) {
  view["provider_location"] = or_null(update.provider_location.value_or(""));
  view["format"] = or_null(update.format.value_or(""));
}

/// The answer for a volume that is finished.
base::Task<Reply> finished(Call& call, const volume_cache::Created& created, steady_clock::time_point started) {
  const std::string& id = created.volume.id;
  auto update = co_await call.api.volumes.model_update(created.volume);
  if (!update) {
    // Cinder would not know where its volume is, so it must not be there.
    Error error = update.error();
    if (auto cancelled = co_await call.api.volumes.cancel(id); !cancelled) {
      base::log::error("api", &call.who, "volume {}: cannot take it back, though Cinder is not told where it is: {}",
                       id, cancelled.error().message);
      error.message += ", and it could not be taken back: " + cancelled.error().message;
    }
    co_return hook_error(error);
  }
  Json body{{"volume_id", id},
            {"outcome", std::string(word(created.outcome))},
            {"elapsed_ms", elapsed_ms(started)},
            {"existed", created.finished_at < started},
            {"size_gb", created.volume.size_gb}};
  if (!created.uncached_reason.empty()) body["uncached_reason"] = created.uncached_reason;
  add_model_update(body, *update);
  co_return json_reply(200, body);
}

base::Task<Reply> create(Call& call) {
  const auto started = steady_clock::now();
  const std::string id = base::to_lower(call.parameter("volume_id"));
  if (!base::is_uuid(id)) co_return bad_id(id);
  auto request = parse_hook_request(call.body);
  if (!request) co_return hook_error(request.error());
  const Options& options = call.api.options;
  const milliseconds wait =
      std::min(request->deadline.value_or(options.hook_default_deadline), options.hook_max_deadline);
  const base::Deadline deadline = started + wait;

  volume_cache::CreateRequest create;
  create.volume_id = id;
  create.name = request->name;
  create.backend = request->backend;
  create.pool = request->pool;
  create.volume_type = request->volume_type;
  create.size_gb = request->size_gb;
  create.image_id = request->image_id;
  create.display_name = request->display_name;
  create.counts_quota = false;  // Cinder has counted it
  create.encrypted = request->encrypted;
  create.image_seen = std::move(request->image_seen);
  auto created = co_await call.api.volumes.create(std::move(create), acting_for(call, *request), deadline);
  if (created) co_return co_await finished(call, *created, started);
  Error error = created.error();
  if (error.code == Errc::timeout && steady_clock::now() >= deadline) {
    // The caller will make the volume itself once it has our answer: nothing of ours may come after that.
    auto cancelled = co_await call.api.volumes.cancel(id);
    error.message = "volume " + id + ": not finished within " + std::to_string(wait.count()) + " ms";
    if (!cancelled) {
      base::log::error("api", &call.who, "volume {}: cannot take it back after its deadline: {}", id,
                       cancelled.error().message);
      error.message += ", and it could not be taken back: " + cancelled.error().message;
    }
  }
  co_return hook_error(error);
}

base::Task<Reply> cancel(Call& call) {
  const std::string id = base::to_lower(call.parameter("volume_id"));
  if (!base::is_uuid(id)) co_return bad_id(id);
  std::string not_ours;
  if (const auto found = call.query.find("forget"); found != call.query.end()) {
    not_ours = found->second;
    // Never taken for a DELETE without it, which touches the storage.
    if (not_ours.empty())
      co_return hook_error({Errc::invalid_argument, "volume " + id + ": forget= must name what Cinder stores it by"});
  }
  auto done = co_await call.api.volumes.cancel(id, std::move(not_ours));
  if (!done) co_return hook_error(done.error());
  co_return empty_reply(204);
}

base::Task<Reply> progress(Call& call) {
  const std::string id = base::to_lower(call.parameter("volume_id"));
  if (!base::is_uuid(id)) co_return bad_id(id);
  const auto running = call.api.volumes.progress(id);
  auto row = co_await base::offload(call.api.pool,
                                    [&catalog = call.api.volumes.catalog(), id] { return catalog.find_volume(id); });
  if (!row) co_return hook_error(row.error());
  if (!*row && !running) co_return hook_error({Errc::not_found, "volume " + id + ": nobody has asked for it here"});
  // Who was told that it is there finds it there, though its row is written a moment later.
  const bool is_done = running && running->phase == volume_cache::Phase::done;
  Json body{{"volume_id", id}, {"status", is_done ? "available" : *row ? (*row)->status : "creating"}};
  body["phase"] = running ? Json(std::string(word(running->phase))) : Json(nullptr);
  body["done_bytes"] = running ? running->done_bytes : 0;
  body["total_bytes"] = running ? running->total_bytes : 0;
  body["error"] = *row ? or_null((*row)->status_reason) : Json(nullptr);
  co_return json_reply(200, body);
}

struct Listed {
  catalog::ImageVolume image_volume;
  catalog::Volume volume;
};

Result<std::vector<Listed>> image_volumes_of(catalog::Catalog& catalog, const std::optional<std::string>& backend) {
  IMAGECACHE_TRY(auto rows, catalog.list_image_volumes(backend));
  std::vector<Listed> listed;
  for (auto& row : rows) {
    IMAGECACHE_TRY(auto volume, catalog.find_volume(row.volume_id));
    if (volume) listed.push_back({std::move(row), std::move(*volume)});  // else evicted since
  }
  return listed;
}

/// Not an empty list for one that is not ours: who takes that at its word drops what he knows of it.
Result<std::optional<std::string>> named_backend(Call& call) {
  const auto found = call.query.find("backend");
  if (found == call.query.end()) return std::nullopt;
  if (!call.api.volumes.find_backend(found->second))
    return fail(Errc::not_found, "backend '" + found->second.substr(0, 64) + "': it is not one of ours");
  return found->second;
}

base::Task<Reply> list_volumes(Call& call) {
  constexpr std::uint64_t page_size = 500;
  const auto backend = named_backend(call);
  if (!backend) co_return hook_error(backend.error());
  catalog::VolumeFilter filter;
  filter.backend = *backend;
  filter.limit = page_size;
  if (const auto found = call.query.find("marker"); found != call.query.end())
    filter.marker = base::to_lower(found->second);
  const auto page = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), filter] { return catalog.list_volumes(filter); });
  if (!page) co_return hook_error(page.error());
  Json volumes = Json::array();
  for (const catalog::Volume& volume : *page) {
    if (volume.counts_quota) continue;  // the Block Storage API's, or an image-volume
    volumes.push_back({{"id", volume.id}, {"name", volume.name}, {"status", volume.status}});
  }
  co_return json_reply(200, Json{{"volumes", std::move(volumes)},
                                 {"next_marker", or_null(page->size() < page_size ? "" : page->back().id)}});
}

base::Task<Reply> list_image_volumes(Call& call) {
  const auto named = named_backend(call);
  if (!named) co_return hook_error(named.error());
  const std::optional<std::string>& backend = *named;
  const auto list = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), backend] { return image_volumes_of(catalog, backend); });
  if (!list) co_return hook_error(list.error());
  Json array = Json::array();
  for (const Listed& one : *list) {
    Json view = image_volume_view(one.image_volume);
    view["name"] = one.volume.name;
    ModelUpdate update;
    if (one.image_volume.state == "ready") {
      auto asked = co_await call.api.volumes.model_update(one.volume);
      // Neither without it nor without where it is: a row would be dropped, or be one that nobody can delete. One that
      // is missing is made anew when it is wanted next.
      if (!asked && asked.error().code != Errc::not_found) co_return hook_error(asked.error());
      if (asked) update = std::move(*asked);
    }
    add_model_update(view, update);
    array.push_back(std::move(view));
  }
  co_return json_reply(200,
                       Json{{"image_volumes", std::move(array)},
                            {"service", {{"id", call.api.options.state_id}, {"machine", call.api.options.machine}}}});
}

base::Task<Reply> evict(Call& call) {
  const std::string id = base::to_lower(call.parameter("volume_id"));
  if (!base::is_uuid(id)) co_return bad_id(id);
  auto done = co_await call.api.volumes.evict(id);
  co_return done ? empty_reply(204) : hook_error(done.error());
}

}  // namespace

void add_hook_routes(http::Router& router, ApiContext& api) {
  const auto add = [&](std::string_view method, std::string_view pattern, CallHandler handler) {
    add_plain_route(router, api, method, pattern, handler, hook_error);
  };
  add("PUT", "/v1/hook/volumes/{volume_id}", for_cinder_volume<create>);
  add("GET", "/v1/hook/volumes/{volume_id}", for_cinder_volume<progress>);
  add("DELETE", "/v1/hook/volumes/{volume_id}", for_cinder_volume<cancel>);
  add("GET", "/v1/hook/volumes", for_cinder_volume<list_volumes>);
  add("GET", "/v1/hook/image-volumes", for_cinder_volume<list_image_volumes>);
  add("DELETE", "/v1/hook/image-volumes/{volume_id}", for_cinder_volume<evict>);
}

}  // namespace imagecache::api
