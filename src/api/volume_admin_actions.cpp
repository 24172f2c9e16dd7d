// os-reset_status, os-force_delete, os-force_detach: an administrator overrules what a volume's row says.
#include <algorithm>
#include <array>
#include <utility>

#include "api/volume_actions.hpp"
#include "base/text.hpp"
#include "volume_cache/status.hpp"

namespace imagecache::api {
namespace {

/// cinder.objects.fields.VolumeStatus
constexpr std::array<std::string_view, 22> statuses = {
    "creating",       "available",        "deleting",        "error",       "error_deleting",
    "error_managing", "managing",         "attaching",       "in-use",      "detaching",
    "maintenance",    "restoring-backup", "error_restoring", "reserved",    "awaiting-transfer",
    "backing-up",     "error_backing-up", "error_extending", "downloading", "uploading",
    "retyping",       "extending"};
constexpr std::array<std::string_view, 2> attach_statuses = {"attached", "detached"};
constexpr std::array<std::string_view, 6> migration_statuses = {"migrating",  "error", "success",
                                                                "completing", "none",  "starting"};

template <std::size_t n>
bool is_one_of(const std::array<std::string_view, n>& values, std::string_view value) {
  return std::ranges::find(values, value) != values.end();
}

Reply invalid_value(std::string_view what, const std::string& value) {
  return fault(400, "Invalid input for field/attribute " + std::string(what) + ". Value: " + value + ". '" + value +
                        "' is not one that a volume can have.");
}

}  // namespace

/// A row that work of ours is about to change is left to it, and no status says that a volume is whole which never was:
/// it must have been finished once. What is set is marked as set by hand, so that a restart takes no status for work
/// that was cut short (which would remove what was made).
base::Task<Reply> reset_status(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto status = string_member(arguments, "status", 255);
  auto attach_status = string_member(arguments, "attach_status", 255);
  auto migration_status = string_member(arguments, "migration_status", 255);
  for (const auto* given : {&status, &attach_status, &migration_status}) {
    if (!*given) co_return fault(given->error());
  }
  if (!*status && !*attach_status && !*migration_status)
    co_return fault(400, "Must specify 'status', 'attach_status' or 'migration_status' for update.");
  const std::string wanted = base::to_lower(status->value_or(""));
  if (*status && !is_one_of(statuses, wanted)) co_return invalid_value("status", wanted);
  const std::string attached = base::to_lower(attach_status->value_or(""));
  if (*attach_status && !is_one_of(attach_statuses, attached)) co_return invalid_value("attach_status", attached);
  if (*migration_status && !is_one_of(migration_statuses, base::to_lower(**migration_status)))
    co_return invalid_value("migration_status", **migration_status);
  // Whether it is attached is what its attachment says, and nothing here migrates: only "detached" has something to do.
  const bool detach = attached == "detached" && volume.attachment;
  if (wanted.empty() && !detach) co_return empty_reply(202);
  if (wanted == "deleting") co_return fault(400, "Cannot reset-state to deleting");
  if (wanted == "in-use" && (!volume.attachment || detach))
    co_return fault(400, "Cannot reset-state to in-use because volume does not have any attachments.");

  VolumeRowUpdate update;
  update.detach = detach;
  if (!wanted.empty()) {
    if (volume_cache::is_at_work(volume)) {
      co_return fault(400, "Invalid volume: it is " + volume.status +
                               ", and that is going on; delete it by force, or wait until it has ended.");
    }
    // Nor another error: by way of it would follow "available".
    if (wanted != volume.status && volume_cache::has_failed(volume)) {
      co_return fault(400,
                      "Invalid volume: it was never finished or its deletion has begun, so it has no data for all "
                      "we know, delete it instead: " +
                          volume.status_reason);
    }
    update.from = {volume.status};
    update.status = wanted;
    update.status_reason = volume_cache::set_by_hand_reason(volume, wanted);
  }
  auto done = co_await write_row(call, std::move(update));
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

base::Task<Reply> force_delete(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments);
  if (volume.attachment) co_return fault(400, "Invalid volume: it is attached, detach it first (os-force_detach).");
  auto done = co_await call.api.volumes.force_remove(volume.id);
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

base::Task<Reply> force_detach(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto attachment = string_member(arguments, "attachment_id", 255);
  if (!attachment) co_return fault(attachment.error());
  if (*attachment && (!volume.attachment || volume.attachment->id != **attachment)) {
    co_return fault(404, "Volume attachment could not be found with filter: attachment_id = " + **attachment + ".");
  }
  if (!volume.attachment) co_return fault(400, "Invalid volume: it is not attached.");
  VolumeRowUpdate update{.from = {"in-use", "attaching", "detaching", "error"},
                         .status = "available",
                         .status_reason = "",
                         .detach = true};
  update.from_attachment = volume.attachment->id;
  auto done = co_await write_row(call, std::move(update));
  co_return done ? empty_reply(202) : invalid_volume(done.error());
}

}  // namespace imagecache::api
