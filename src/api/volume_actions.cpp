// POST /volumes/{volume_id}/action: one key names what is to be done.
#include "api/volume_actions.hpp"

#include <array>
#include <utility>

#include "api/api.hpp"
#include "api/volume_lookup.hpp"
#include "api/volume_types.hpp"
#include "base/try.hpp"

namespace imagecache::api {

Json object_of(const std::map<std::string, std::string>& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = value;
  return object;
}

Reply invalid_volume(const Error& error) {
  if (error.code == Errc::conflict) return fault(400, "Invalid volume: " + error.message);
  return fault(error);
}

base::Task<Result<void>> write_row(Call& call, VolumeRowUpdate update) {
  co_return co_await base::offload(call.api.pool,
                                   [&catalog = call.api.volumes.catalog(), id = call.parameter("volume_id"),
                                    update = std::move(update)] { return catalog.update_volume(id, update); });
}

namespace {

base::Task<Reply> extend(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto size = size_member(arguments, "new_size");
  if (!size) co_return fault(size.error());
  if (!*size) co_return fault(400, "'new_size' is a required property");
  if (**size <= volume.size_gb) {
    co_return fault(400, "Invalid input received: New size for extend must be greater than current size. (current: " +
                             std::to_string(volume.size_gb) + ", extended: " + std::to_string(**size) + ").");
  }
  auto done = co_await call.api.volumes.start_extend(volume.id, **size);
  if (!done) co_return invalid_volume(done.error());
  co_return empty_reply(202);
}

base::Task<Reply> set_bootable(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(volume);
  auto bootable = bool_member(arguments, "bootable");
  if (!bootable) co_return fault(bootable.error());
  if (!*bootable) co_return fault(400, "'bootable' is a required property");
  VolumeRowUpdate update;
  update.bootable = *bootable;
  auto done = co_await write_row(call, std::move(update));
  co_return done ? empty_reply(200) : fault(done.error());
}

/// Cinder keeps this among its own keys and shows it in metadata; so do we, and initialize_connection heeds it.
base::Task<Reply> update_readonly(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto readonly = bool_member(arguments, "readonly");
  if (!readonly) co_return fault(readonly.error());
  if (!*readonly) co_return fault(400, "'readonly' is a required property");
  if (volume.status != "available") {
    co_return fault(
        400, "Invalid volume: Volume " + volume.id +
                 " status must be available to update readonly flag, but current status is: " + volume.status + ".");
  }
  auto done = co_await base::offload(
      call.api.pool, [&api = call.api, id = volume.id, who = call.who, value = **readonly]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        auto found = find_volume_blocking(api, who, id);
        if (!found) return std::unexpected(std::move(found).error());
        VolumeRowUpdate update;
        update.metadata = std::move(found->volume.metadata);
        (*update.metadata)["readonly"] = value ? "True" : "False";
        return api.volumes.catalog().update_volume(id, update);
      });
  co_return done ? empty_reply(202) : fault(done.error());
}

/// Both policies are served the same: no volume moves, so a type that needs it to is refused.
base::Task<Reply> retype(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto name = string_member(arguments, "new_type", 255);
  if (!name) co_return fault(name.error());
  if (!*name || (*name)->empty()) co_return fault(400, "'new_type' is a required property");
  auto policy = string_member(arguments, "migration_policy", 255);
  if (!policy) co_return fault(policy.error());
  if (*policy && **policy != "never" && **policy != "on-demand") {
    co_return fault(400, "Invalid input for field/attribute migration_policy. Value: " + **policy + ". '" + **policy +
                             "' is not one of ['on-demand', 'never']");
  }
  auto type = co_await base::offload(
      call.api.pool, [&volumes = call.api.volumes, who = call.who, wanted = **name]() -> Result<catalog::VolumeType> {
        IMAGECACHE_TRY(auto found, find_type(volumes, wanted));
        if (found) {
          IMAGECACHE_TRY(const bool usable, may_use(volumes, who, *found));
          if (usable) return std::move(*found);
        }
        return fail(Errc::invalid_argument, "Invalid input received: Invalid volume_type passed: " + wanted + ".");
      });
  if (!type) co_return fault(type.error());
  auto done = co_await call.api.volumes.retype(volume.id, std::move(*type));
  if (!done && done.error().code == Errc::unsupported) co_return fault(400, "Invalid volume: " + done.error().message);
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

base::Task<Reply> unsupported(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments), static_cast<void>(volume);
  co_return fault(501, "This service makes volumes from images and hands them out; it does not serve this action.");
}

struct Action {
  std::string_view key;
  ActionHandler run;
  std::string_view rule;  ///< of the policy, asked of the volume's project
};

constexpr std::array<Action, 21> actions = {{
    {"os-extend", extend, "volume:extend"},
    {"os-set_bootable", set_bootable, "volume:update"},
    {"os-update_readonly_flag", update_readonly, "volume:update_readonly_flag"},
    {"os-reset_status", reset_status, "volume_extension:volume_admin_actions:reset_status"},
    {"os-force_delete", force_delete, "volume_extension:volume_admin_actions:force_delete"},
    {"os-force_detach", force_detach, "volume_extension:volume_admin_actions:force_detach"},
    {"os-initialize_connection", initialize_connection, "volume_extension:volume_actions:initialize_connection"},
    {"os-terminate_connection", terminate_connection, "volume_extension:volume_actions:terminate_connection"},
    {"os-reserve", reserve, "volume_extension:volume_actions:reserve"},
    {"os-unreserve", unreserve, "volume_extension:volume_actions:unreserve"},
    {"os-attach", attach, "volume_extension:volume_actions:attach"},
    {"os-detach", detach, "volume_extension:volume_actions:detach"},
    {"os-begin_detaching", begin_detaching, "volume_extension:volume_actions:begin_detaching"},
    {"os-roll_detaching", roll_detaching, "volume_extension:volume_actions:roll_detaching"},
    {"os-show_image_metadata", show_image_metadata, "volume_extension:volume_image_metadata:show"},
    {"os-set_image_metadata", set_image_metadata, "volume_extension:volume_image_metadata:set"},
    {"os-unset_image_metadata", unset_image_metadata, "volume_extension:volume_image_metadata:remove"},
    {"os-retype", retype, "volume:retype"},
    {"os-volume_upload_image", upload_image, "volume_extension:volume_actions:upload_image"},
    {"os-migrate_volume", unsupported, {}},
    {"os-unmanage", unsupported, {}},
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
    if (!action.rule.empty()) {
      if (auto refused = refused_by_policy(call, action.rule, found->volume.project_id)) co_return std::move(*refused);
    }
    co_return co_await action.run(call, arguments, found->volume);
  }
  co_return fault(400, "There is no such action: " + key.substr(0, 255));
}

}  // namespace

void add_volume_action_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "POST", "/volumes/{volume_id}/action", act, {});
}

}  // namespace imagecache::api
