// os-reserve … os-detach, os-initialize_connection: how a compute service takes a volume and gives it back. Drivers
// keep nothing per connection, so all that an attachment is stands in the volume's row.
#include <algorithm>
#include <array>
#include <utility>

#include "api/volume_actions.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

/// Writes the row if it is in one of these states; what it is in else, in Cinder's words, is `otherwise`.
base::Task<Reply> change_status(Call& call, VolumeRowUpdate update, std::string otherwise) {
  auto done = co_await write_row(call, std::move(update));
  if (done) co_return empty_reply(202);
  if (done.error().code != Errc::conflict) co_return fault(done.error());
  if (otherwise.empty()) co_return empty_reply(202);
  co_return fault(400, "Invalid volume: " + otherwise);
}

bool is_readonly(const catalog::Volume& volume) {
  const auto readonly = volume.metadata.find("readonly");
  return readonly != volume.metadata.end() && readonly->second == "True";
}

struct AttachBody {
  std::string instance_id;
  std::string host_name;
  std::string mountpoint;
  std::string mode;
};

Result<AttachBody> parse_attach(const JsonIn& arguments) {
  AttachBody body;
  const auto take = [&](const char* key, std::string& into) -> Result<void> {
    auto value = string_member(arguments, key, 255);
    if (!value) return std::unexpected(value.error());
    into = value->value_or("");
    return {};
  };
  for (const auto& [key, into] :
       {std::pair{"instance_uuid", &body.instance_id}, std::pair{"host_name", &body.host_name},
        std::pair{"mountpoint", &body.mountpoint}, std::pair{"mode", &body.mode}}) {
    if (auto taken = take(key, *into); !taken) return std::unexpected(taken.error());
  }
  if (body.mode.empty()) body.mode = "rw";
  if (body.mountpoint.empty()) return fail(Errc::invalid_argument, "'mountpoint' is a required property");
  if (body.instance_id.empty() && body.host_name.empty())
    return fail(Errc::invalid_argument, "'instance_uuid' is a required property, or 'host_name' is");
  if (!body.instance_id.empty() && !base::is_uuid(body.instance_id)) {
    return fail(Errc::invalid_argument, "Invalid input for field/attribute instance_uuid. Value: " + body.instance_id +
                                            ". '" + body.instance_id + "' is not a 'uuid'");
  }
  if (body.mode != "rw" && body.mode != "ro") {
    return fail(Errc::invalid_argument, "Invalid input for field/attribute mode. Value: " + body.mode + ". '" +
                                            body.mode + "' is not one of ['rw', 'ro']");
  }
  return body;
}

}  // namespace

base::Task<Reply> reserve(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments);
  if (auto tenants = co_await call.api.volumes.check_no_image_volume(volume.id); !tenants)
    co_return invalid_volume(tenants.error());
  VolumeRowUpdate update{.from = {"available"}, .status = "attaching"};
  co_return co_await change_status(
      call, std::move(update), "Volume status must be available to reserve, but the status is " + volume.status + ".");
}

/// One that is not reserved has nothing to give back: no error.
base::Task<Reply> unreserve(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments);
  VolumeRowUpdate update{.from = {"attaching"}, .status = volume.attachment ? "in-use" : "available"};
  co_return co_await change_status(call, std::move(update), {});
}

base::Task<Reply> attach(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  const auto body = parse_attach(arguments);
  if (!body) co_return fault(body.error());
  if (volume.status == "maintenance")
    co_return fault(400, "Invalid volume: The volume cannot be attached in maintenance mode.");
  if (is_readonly(volume) && body->mode != "ro")
    co_return fault(400, "Invalid attaching mode '" + body->mode + "' for volume " + volume.id + ".");
  if (volume.attachment) {
    const bool same = body->instance_id.empty() ? volume.attachment->host_name == body->host_name
                                                : volume.attachment->instance_id == body->instance_id;
    if (same && volume.status == "in-use") co_return empty_reply(202);
    co_return fault(400, "Invalid volume: volume is already attached and multiple attachments are not enabled");
  }
  if (auto tenants = co_await call.api.volumes.check_no_image_volume(volume.id); !tenants)
    co_return invalid_volume(tenants.error());
  VolumeRowUpdate update{.from = {"available", "attaching"}, .from_attachment = "", .status = "in-use"};
  update.attach = catalog::Attachment{.id = base::new_uuid(),
                                      .instance_id = body->instance_id,
                                      .host_name = body->host_name,
                                      .mountpoint = body->mountpoint,
                                      .mode = body->mode,
                                      .attached_at = call.api.clock.now()};
  co_return co_await change_status(
      call, std::move(update),
      "Volume status must be available or attaching to attach, but the status is " + volume.status + ".");
}

base::Task<Reply> begin_detaching(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments), static_cast<void>(volume);
  VolumeRowUpdate update{.from = {"in-use"}, .status = "detaching"};
  co_return co_await change_status(call, std::move(update),
                                   "Unable to detach volume. Volume status must be 'in-use' and attach_status must be "
                                   "'attached' to detach.");
}

base::Task<Reply> roll_detaching(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(arguments), static_cast<void>(volume);
  VolumeRowUpdate update{.from = {"detaching"}, .status = "in-use"};
  co_return co_await change_status(call, std::move(update), {});
}

base::Task<Reply> detach(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto attachment = string_member(arguments, "attachment_id", 255);
  if (!attachment) co_return fault(attachment.error());
  if (volume.status == "maintenance")
    co_return fault(400, "Invalid volume: The volume cannot be detached in maintenance mode.");
  // What is not attached that way is detached already; but a status on its way is settled.
  const bool other = *attachment && volume.attachment && volume.attachment->id != **attachment;
  // A detach that comes late, of one that another has followed, is not to take that one's away.
  VolumeRowUpdate update{.from = {"in-use", "detaching", "attaching", "available"},
                         .from_attachment = volume.attachment ? volume.attachment->id : "",
                         .status = other ? "in-use" : "available",
                         .detach = !other};
  co_return co_await change_status(
      call, std::move(update),
      "Volume status must be in-use or detaching to detach, but the status is " + volume.status + ".");
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

base::Task<Reply> terminate_connection(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  static_cast<void>(call), static_cast<void>(arguments), static_cast<void>(volume);
  co_return empty_reply(202);
}

}  // namespace imagecache::api
