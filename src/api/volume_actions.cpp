// POST /volumes/{volume_id}/action: one key names what is to be done.
#include <array>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_lookup.hpp"

namespace imagecache::api {
namespace {

using Update = catalog::Catalog::VolumeUpdate;
using Map = std::map<std::string, std::string>;
constexpr std::string_view reset_mark = "reset by an administrator from ";

Json object_of(const Map& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = value;
  return object;
}

Reply invalid_volume(const Error& error) {
  if (error.code == Errc::conflict) return fault(400, "Invalid volume: " + error.message);
  return fault(error);
}

base::Task<Result<void>> write_row(Call& call, Update update) {
  co_return co_await base::offload(call.api.pool,
                                   [&catalog = call.api.volumes.catalog(), id = call.parameter("volume_id"),
                                    update = std::move(update)] { return catalog.update_volume(id, update); });
}

base::Task<Reply> extend(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto size = size_member(arguments, "new_size");
  if (!size) co_return fault(size.error());
  if (!*size) co_return fault(400, "'new_size' is a required property");
  if (**size <= volume.size_gb) {
    co_return fault(400, "Invalid input received: New size for extend must be greater than current size. (current: " +
                             std::to_string(volume.size_gb) + ", extended: " + std::to_string(**size) + ").");
  }
  auto done = co_await call.api.volumes.extend(volume.id, **size);
  if (!done) co_return invalid_volume(done.error());
  co_return empty_reply(202);
}

base::Task<Reply> set_bootable(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto bootable = bool_member(arguments, "bootable");
  if (!bootable) co_return fault(bootable.error());
  if (!*bootable) co_return fault(400, "'bootable' is a required property");
  Update update;
  update.bootable = *bootable;
  auto done = co_await write_row(call, std::move(update));
  co_return done ? empty_reply(200) : fault(done.error());
}

/// Cinder keeps this among its own keys and shows it in metadata; so do we, and initialize_connection heeds it.
base::Task<Reply> update_readonly(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto readonly = bool_member(arguments, "readonly");
  if (!readonly) co_return fault(readonly.error());
  if (!*readonly) co_return fault(400, "'readonly' is a required property");
  auto done = co_await base::offload(
      call.api.pool, [&api = call.api, id = volume.id, who = call.who, value = **readonly]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        auto found = find_volume_blocking(api, who, id);
        if (!found) return std::unexpected(std::move(found).error());
        Update update;
        update.metadata = std::move(found->volume.metadata);
        (*update.metadata)["readonly"] = value ? "True" : "False";
        return api.volumes.catalog().update_volume(id, update);
      });
  co_return done ? empty_reply(202) : fault(done.error());
}

/// A row in a state that work of ours will leave is not touched, and "available" is only said of a volume that was
/// whole: it must have been finished once.
base::Task<Reply> reset_status(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  if (!call.who.is_admin)
    co_return fault(403, "Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed.");
  auto status = string_member(arguments, "status", 255);
  if (!status) co_return fault(status.error());
  if (!*status) {
    // attach_status and migration_status have one value here, which is what they are reset to.
    if (member(arguments, "attach_status") != nullptr || member(arguments, "migration_status") != nullptr) {
      co_return empty_reply(202);
    }
    co_return fault(400, "Must specify 'status', 'attach_status' or 'migration_status' for update.");
  }
  const std::string& wanted = **status;
  if (wanted != "available" && wanted != "error" && wanted != "maintenance") {
    co_return fault(400, "Invalid input for field/attribute status. Value: " + wanted + ". '" + wanted +
                             "' is not one of ['available', 'error', 'maintenance'].");
  }
  const bool was_whole = volume.status != "error" || volume.status_reason.starts_with(reset_mark);
  if (wanted != "error" && !was_whole) {
    co_return fault(
        400, "Invalid volume: it was never finished and has no data, delete it instead: " + volume.status_reason);
  }
  Update update;
  update.from = {"available", "error", "maintenance", "error_extending", "error_deleting"};
  update.status = wanted;
  if (wanted != "error") {
    update.status_reason = "";
  } else if (was_whole) {
    update.status_reason = std::string(reset_mark) + volume.status;
  }
  auto done = co_await write_row(call, std::move(update));
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

base::Task<Reply> force_delete(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments);
  if (!call.who.is_admin)
    co_return fault(403, "Policy doesn't allow volume_extension:volume_admin_actions:force_delete to be performed.");
  auto done = co_await call.api.volumes.cancel(volume.id);
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

base::Task<Reply> initialize_connection(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  const JsonIn* connector = member(arguments, "connector");
  if (connector == nullptr || !connector->is_object()) co_return fault(400, "'connector' is a required property");
  auto connection = co_await call.api.volumes.initialize_connection(volume.id);
  if (!connection) {
    if (connection.error().code != Errc::internal) co_return invalid_volume(connection.error());
    co_return fault(500, "Unable to fetch connection information from backend: " + connection.error().message);
  }
  const auto readonly = volume.metadata.find("readonly");
  Json data = object_of(connection->data);
  data["volume_id"] = volume.id;
  if (!data.contains("access_mode")) {
    data["access_mode"] = readonly != volume.metadata.end() && readonly->second == "True" ? "ro" : "rw";
  }
  if (!data.contains("encrypted")) data["encrypted"] = false;
  if (!data.contains("qos_specs")) data["qos_specs"] = nullptr;
  const Json info{{"driver_volume_type", connection->driver_volume_type}, {"data", std::move(data)}};
  co_return json_reply(200, Json{{"connection_info", info}});
}

/// Drivers keep nothing per connection: there is nothing to end.
base::Task<Reply> terminate_connection(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments), static_cast<void>(volume);
  co_return empty_reply(202);
}

base::Task<Reply> show_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments);
  co_return json_reply(200, Json{{"metadata", object_of(volume.image_metadata)}});
}

/// Changes the image metadata under the lock and returns what it is then. `remove` empty: `given` is merged.
base::Task<Result<Map>> change_image_metadata(Call& call, Map given, std::string remove) {
  co_return co_await base::offload(call.api.pool,
                                   [&api = call.api, who = call.who, id = call.parameter("volume_id"),
                                    given = std::move(given), remove = std::move(remove)]() -> Result<Map> {
                                     const std::lock_guard lock(api.row_maps);
                                     auto found = find_volume_blocking(api, who, id);
                                     if (!found) return std::unexpected(std::move(found).error());
                                     Map map = std::move(found->volume.image_metadata);
                                     for (const auto& [key, value] : given) map[key] = value;
                                     if (!remove.empty() && map.erase(remove) == 0)
                                       return fail(Errc::not_found, "Metadata does not exist.");
                                     Update update;
                                     update.image_metadata = map;
                                     if (auto done = api.volumes.catalog().update_volume(id, update); !done)
                                       return std::unexpected(done.error());
                                     return map;
                                   });
}

base::Task<Reply> set_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto given = map_member(arguments, "metadata");
  if (!given) co_return fault(given.error());
  if (!*given) co_return fault(400, "'metadata' is a required property");
  auto map = co_await change_image_metadata(call, std::move(**given), {});
  co_return map ? json_reply(200, Json{{"metadata", object_of(*map)}}) : fault(map.error());
}

base::Task<Reply> unset_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto key = string_member(arguments, "key", 255);
  if (!key) co_return fault(key.error());
  if (!*key || (*key)->empty()) co_return fault(400, "'key' is a required property");
  auto map = co_await change_image_metadata(call, {}, **key);
  co_return map ? empty_reply(200) : fault(map.error());
}

base::Task<Reply> unsupported(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments), static_cast<void>(volume);
  co_return fault(501, "This service makes volumes from images and hands them out; it does not serve this action.");
}

struct Action {
  std::string_view key;
  base::Task<Reply> (*run)(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
};

constexpr std::array<Action, 20> actions = {{
    {"os-extend", extend},
    {"os-set_bootable", set_bootable},
    {"os-update_readonly_flag", update_readonly},
    {"os-reset_status", reset_status},
    {"os-force_delete", force_delete},
    {"os-initialize_connection", initialize_connection},
    {"os-terminate_connection", terminate_connection},
    {"os-show_image_metadata", show_image_metadata},
    {"os-set_image_metadata", set_image_metadata},
    {"os-unset_image_metadata", unset_image_metadata},
    {"os-retype", unsupported},
    {"os-volume_upload_image", unsupported},
    {"os-migrate_volume", unsupported},
    {"os-reserve", unsupported},
    {"os-unreserve", unsupported},
    {"os-begin_detaching", unsupported},
    {"os-roll_detaching", unsupported},
    {"os-attach", unsupported},
    {"os-detach", unsupported},
    {"os-unmanage", unsupported},
}};

base::Task<Reply> act(Call& call) {
  auto body = parse_object(call.body);
  if (!body) co_return fault(body.error());
  if (body->size() != 1) co_return fault(400, "Malformed message body: exactly one action is needed");
  const std::string key = body->begin().key();
  const JsonIn arguments = body->begin().value();
  for (const Action& action : actions) {
    if (action.key != key) continue;
    auto found = co_await find_volume(call);
    if (!found) co_return fault(found.error());
    co_return co_await action.run(call, arguments, found->volume);
  }
  co_return fault(400, "There is no such action: " + key.substr(0, 255));
}

}  // namespace

void add_volume_action_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "POST", "/volumes/{volume_id}/action", act);
}

}  // namespace imagecache::api
