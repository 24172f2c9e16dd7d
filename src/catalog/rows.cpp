#include "catalog/rows.hpp"

#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace imagecache::catalog {

const std::string volume_columns =
    "id, name, project_id, user_id, display_name, display_description, backend, host, volume_type, status, "
    "status_reason, size_gb, image_id, content_key, source_volume_id, availability_zone, bootable, counts_quota, "
    "metadata, image_metadata, request_id, created_at, updated_at, source_volid, attachment";

const std::string image_volume_columns =
    "volume_id, backend, content_key, image_id, image_updated_at, requesting_project, state, size_gb, "
    "virtual_size_bytes, clones, pinned, created_at, last_used, build_ms, used_bytes, pool";

const std::string message_columns =
    "id, project_id, request_id, resource_type, resource_id, action_id, detail_id, text, created_at, expires_at";

const std::string volume_type_columns = "id, name, description, is_public, extra_specs, encryption";

namespace {

std::optional<Attachment> attachment_from_json(const std::string& text) {
  if (text.empty()) return std::nullopt;
  auto values = from_json(text);
  Attachment attachment{.id = values["id"],
                        .instance_id = values["instance_id"],
                        .host_name = values["host_name"],
                        .mountpoint = values["mountpoint"],
                        .mode = values["mode"]};
  const auto micros = base::parse_unsigned(values["attached_at"]).value_or(0);
  attachment.attached_at = base::WallTime(std::chrono::microseconds(static_cast<std::int64_t>(micros)));
  return attachment;
}

}  // namespace

Volume read_volume(const Query& row) {
  Volume volume;
  volume.id = row.text(0);
  volume.name = row.text(1);
  volume.project_id = row.text(2);
  volume.user_id = row.text(3);
  volume.display_name = row.text(4);
  volume.display_description = row.text(5);
  volume.backend = row.text(6);
  volume.host = row.text(7);
  volume.volume_type = row.text(8);
  volume.status = row.text(9);
  volume.status_reason = row.text(10);
  volume.size_gb = row.natural(11);
  volume.image_id = row.text(12);
  volume.content_key = row.text(13);
  volume.source_volume_id = row.text(14);
  volume.availability_zone = row.text(15);
  volume.bootable = row.boolean(16);
  volume.counts_quota = row.boolean(17);
  volume.metadata = from_json(row.text(18));
  volume.image_metadata = from_json(row.text(19));
  volume.request_id = row.text(20);
  volume.created_at = row.time(21);
  volume.updated_at = row.time(22);
  volume.source_volid = row.text(23);
  volume.attachment = attachment_from_json(row.text(24));
  return volume;
}

void bind_volume(Query& query, const Volume& volume) {
  query.with(volume.id, volume.name, volume.project_id, volume.user_id, volume.display_name, volume.display_description,
             volume.backend, volume.host, volume.volume_type, volume.status, volume.status_reason, volume.size_gb,
             volume.image_id, volume.content_key, volume.source_volume_id, volume.availability_zone, volume.bootable,
             volume.counts_quota, to_json(volume.metadata), to_json(volume.image_metadata), volume.request_id,
             volume.created_at, volume.updated_at, volume.source_volid, attachment_to_json(volume.attachment));
}

ImageVolume read_image_volume(const Query& row) {
  ImageVolume image_volume;
  image_volume.volume_id = row.text(0);
  image_volume.backend = row.text(1);
  image_volume.content_key = row.text(2);
  image_volume.image_id = row.text(3);
  image_volume.image_updated_at = row.text(4);
  image_volume.requesting_project = row.text(5);
  image_volume.state = row.text(6);
  image_volume.size_gb = row.natural(7);
  image_volume.virtual_size_bytes = row.natural(8);
  image_volume.clones = row.natural(9);
  image_volume.pinned = row.boolean(10);
  image_volume.created_at = row.time(11);
  image_volume.last_used = row.time(12);
  image_volume.build_ms = row.natural(13);
  if (row.integer(14) >= 0) image_volume.used_bytes = row.natural(14);
  image_volume.pool = row.text(15);
  return image_volume;
}

void bind_image_volume(Query& query, const ImageVolume& image_volume) {
  query.with(image_volume.volume_id, image_volume.backend, image_volume.content_key, image_volume.image_id,
             image_volume.image_updated_at, image_volume.requesting_project, image_volume.state, image_volume.size_gb,
             image_volume.virtual_size_bytes, image_volume.clones, image_volume.pinned, image_volume.created_at,
             image_volume.last_used, image_volume.build_ms,
             image_volume.used_bytes ? static_cast<std::int64_t>(*image_volume.used_bytes) : std::int64_t{-1},
             image_volume.pool);
}

VolumeType read_volume_type(const Query& row) {
  return {row.text(0), row.text(1), row.text(2), row.boolean(3), from_json(row.text(4)), from_json(row.text(5))};
}

void bind_volume_type(Query& query, const VolumeType& type) {
  query.with(type.id, type.name, type.description, type.is_public, to_json(type.extra_specs), to_json(type.encryption));
}

Message read_message(const Query& row) {
  return {.id = row.text(0),
          .project_id = row.text(1),
          .request_id = row.text(2),
          .resource_type = row.text(3),
          .resource_id = row.text(4),
          .action_id = row.text(5),
          .detail_id = row.text(6),
          .text = row.text(7),
          .created_at = row.time(8),
          .expires_at = row.time(9)};
}

void bind_message(Query& query, const Message& message) {
  query.with(message.id, message.project_id, message.request_id, message.resource_type, message.resource_id,
             message.action_id, message.detail_id, message.text, message.created_at, message.expires_at);
}

std::string attachment_to_json(const std::optional<Attachment>& attachment) {
  if (!attachment) return {};
  return to_json({{"id", attachment->id},
                  {"instance_id", attachment->instance_id},
                  {"host_name", attachment->host_name},
                  {"mountpoint", attachment->mountpoint},
                  {"mode", attachment->mode},
                  {"attached_at", std::to_string(attachment->attached_at.time_since_epoch().count())}});
}

std::string places(int count) {
  std::string text;
  for (int place = 1; place <= count; ++place) text += (place == 1 ? "?" : ", ?") + std::to_string(place);
  return text;
}

std::string to_json(const std::map<std::string, std::string>& values) {
  if (values.empty()) return "{}";
  return nlohmann::json(values).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::map<std::string, std::string> from_json(const std::string& text) {
  std::map<std::string, std::string> values;
  if (text == "{}") return values;
  // Only we write it; but a person with an editor may have been there, and a number is no reason to lose the volume.
  const auto parsed = nlohmann::json::parse(text, nullptr, false);
  if (!parsed.is_object()) return values;
  for (const auto& [key, value] : parsed.items())
    values.emplace(key, value.is_string() ? value.get<std::string>() : value.dump());
  return values;
}

}  // namespace imagecache::catalog
