// The management API under /v1/: what the command line asks. For admins, on status_bind.
#include <utility>

#include "api/admins.hpp"
#include "api/api.hpp"
#include "api/call.hpp"
#include "api/management_view.hpp"
#include "api/words.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

base::Task<Reply> status(Call& call) {
  co_return json_reply(200, status_view(call.api));
}

base::Task<Reply> backends(Call& call) {
  Json array = co_await backends_view(call.api);
  co_return json_reply(200, Json{{"backends", std::move(array)}});
}

base::Task<Reply> fills(Call& call) {
  co_return json_reply(200, Json{{"fills", fills_view(call.api)}});
}

base::Task<Reply> list_image_volumes(Call& call) {
  std::optional<std::string> backend;
  if (const auto found = call.query.find("backend"); found != call.query.end()) backend = found->second;
  auto rows = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), backend] { return catalog.list_image_volumes(backend); });
  if (!rows) co_return management_error(rows.error());
  Json array = Json::array();
  for (const auto& row : *rows) array.push_back(image_volume_view(row, call.api.volumes.import_state(row.volume_id)));
  co_return json_reply(200, Json{{"image_volumes", std::move(array)}});
}

base::Task<Reply> report(Call& call) {
  co_await call.api.volumes.flush();
  const auto view =
      co_await base::offload(call.api.pool, [&volumes = call.api.volumes] { return image_volume_report(volumes); });
  co_return view ? json_reply(200, *view) : management_error(view.error());
}

base::Task<Reply> show_image_volume(Call& call) {
  auto row = co_await base::offload(call.api.pool, [&catalog = call.api.volumes.catalog(), id = call.parameter("id")] {
    return catalog.find_image_volume_by_id(id);
  });
  if (!row) co_return management_error(row.error());
  if (!*row) co_return management_error({Errc::not_found, "image-volume " + call.parameter("id") + ": not found"});
  co_return json_reply(
      200, Json{{"image_volume", image_volume_view(**row, call.api.volumes.import_state((*row)->volume_id))}});
}

base::Task<Reply> warm(Call& call) {
  auto body = parse_object(call.body);
  if (!body) co_return management_error(body.error());
  auto image = string_member(*body, "image", 255);
  if (!image) co_return management_error(image.error());
  auto backend = string_member(*body, "backend", 255);
  if (!backend) co_return management_error(backend.error());
  if (!*image || !*backend) {
    co_return management_error({Errc::invalid_argument, "'image' and 'backend' are required properties"});
  }
  if (!base::is_uuid(**image)) {
    co_return management_error({Errc::invalid_argument, "image '" + **image + "': give its id, a UUID"});
  }
  auto job = co_await call.api.volumes.start_warm(base::to_lower(**image), **backend, call.who);
  if (!job) co_return management_error(job.error());
  co_return json_reply(202, Json{{"job", *job}});
}

base::Task<Reply> evict(Call& call) {
  auto done = co_await call.api.volumes.evict(call.parameter("id"));
  co_return done ? empty_reply(204) : management_error(done.error());
}

base::Task<Reply> set_pin(Call& call, bool pinned) {
  auto done = co_await call.api.volumes.pin(call.parameter("id"), pinned);
  co_return done ? empty_reply(204) : management_error(done.error());
}

base::Task<Reply> pin(Call& call) {
  return set_pin(call, true);
}

base::Task<Reply> unpin(Call& call) {
  return set_pin(call, false);
}

Json job_view(const volume_cache::VolumeCache::Job& job) {
  return Json{{"id", job.id},
              {"state", job.state},
              {"phase", std::string(word(job.progress.phase))},
              {"done_bytes", job.progress.done_bytes},
              {"total_bytes", job.progress.total_bytes},
              {"error", or_null(job.error)},
              {"result", or_null(job.image_volume_id)}};
}

/// A warm job, or a volume being made: its id is that of its job.
base::Task<Reply> show_job(Call& call) {
  const std::string id = call.parameter("id");
  if (const auto job = call.api.volumes.job(id)) co_return json_reply(200, job_view(*job));
  const auto progress = call.api.volumes.progress(id);
  auto row = co_await base::offload(call.api.pool,
                                    [&catalog = call.api.volumes.catalog(), id] { return catalog.find_volume(id); });
  if (!row) co_return management_error(row.error());
  if (!*row) co_return management_error({Errc::not_found, "job " + id + ": not found; jobs end with the process"});
  volume_cache::VolumeCache::Job job;
  job.id = id;
  job.state = (*row)->status.starts_with("error") ? "failed" : progress ? "running" : "done";
  if ((*row)->status == "creating" || (*row)->status == "downloading") job.state = "running";
  job.error = (*row)->status_reason;
  job.image_volume_id = job.state == "done" ? id : "";
  job.progress.phase = job.state == "done" ? volume_cache::Phase::done : volume_cache::Phase::queued;
  if (progress) job.progress = *progress;
  co_return json_reply(200, job_view(job));
}

}  // namespace

void add_management_routes(http::Router& router, ApiContext& api) {
  add_plain_route(router, api, "GET", "/v1/status", for_admins<status>, management_error);
  add_plain_route(router, api, "GET", "/v1/backends", for_admins<backends>, management_error);
  add_plain_route(router, api, "GET", "/v1/fills", for_admins<fills>, management_error);
  add_plain_route(router, api, "GET", "/v1/image-volumes", for_admins<list_image_volumes>, management_error);
  add_plain_route(router, api, "POST", "/v1/image-volumes", for_admins<warm>, management_error);
  add_plain_route(router, api, "GET", "/v1/image-volumes/report", for_admins<report>, management_error);
  add_plain_route(router, api, "GET", "/v1/image-volumes/{id}", for_admins<show_image_volume>, management_error);
  add_plain_route(router, api, "DELETE", "/v1/image-volumes/{id}", for_admins<evict>, management_error);
  add_plain_route(router, api, "PUT", "/v1/image-volumes/{id}/pin", for_admins<pin>, management_error);
  add_plain_route(router, api, "DELETE", "/v1/image-volumes/{id}/pin", for_admins<unpin>, management_error);
  add_image_management_routes(router, api);
  add_plain_route(router, api, "GET", "/v1/jobs/{id}", for_admins<show_job>, management_error);
}

}  // namespace imagecache::api
