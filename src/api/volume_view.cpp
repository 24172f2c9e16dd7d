#include "api/volume_view.hpp"

namespace imagecache::api {
namespace {

Json links(const catalog::Volume& volume, const VolumeViewOptions& options) {
  const std::string project = options.project_in_url.empty() ? "" : "/" + options.project_in_url;
  const std::string rest = project + "/volumes/" + volume.id;
  return Json::array({Json{{"rel", "self"}, {"href", options.base_url + "/v3" + rest}},
                      Json{{"rel", "bookmark"}, {"href", options.base_url + rest}}});
}

Json string_object(const std::map<std::string, std::string>& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = value;
  return object;
}

Json attachments(const catalog::Volume& volume, const VolumeViewOptions& options) {
  Json array = Json::array();
  if (!volume.attachment) return array;
  const catalog::Attachment& attachment = *volume.attachment;
  Json view;
  view["id"] = volume.id;
  view["attachment_id"] = attachment.id;
  view["volume_id"] = volume.id;
  view["server_id"] = or_null(attachment.instance_id);
  view["device"] = or_null(attachment.mountpoint);
  view["attached_at"] = time_or_null(attachment.attached_at);
  // Where a volume is used is the administrator's to know (bug 1740950 of Cinder's).
  view["host_name"] = options.is_admin ? or_null(attachment.host_name) : Json(nullptr);
  array.push_back(std::move(view));
  return array;
}

bool since(const VolumeViewOptions& options, unsigned minor) {
  return options.version >= Microversion{3, minor};
}

}  // namespace

Json time_or_null(base::WallTime time) {
  return time == base::WallTime{} ? Json(nullptr) : Json(base::to_iso8601(time));
}

Json volume_summary_view(const catalog::Volume& volume, const VolumeViewOptions& options) {
  return Json{{"id", volume.id}, {"name", or_null(volume.display_name)}, {"links", links(volume, options)}};
}

Json volume_view(const catalog::Volume& volume, const VolumeViewOptions& options) {
  Json view;
  view["id"] = volume.id;
  view["status"] = volume.status;
  view["size"] = volume.size_gb;
  view["availability_zone"] = or_null(volume.availability_zone);
  view["created_at"] = time_or_null(volume.created_at);
  view["updated_at"] = volume.updated_at <= volume.created_at ? Json(nullptr) : time_or_null(volume.updated_at);
  view["name"] = or_null(volume.display_name);
  view["description"] = or_null(volume.display_description);
  view["volume_type"] = or_null(volume.volume_type);
  view["snapshot_id"] = nullptr;
  // The image-volume a volume was cloned from is another project's: not shown.
  view["source_volid"] = or_null(volume.source_volid);
  view["metadata"] = string_object(volume.metadata);
  // One of Cinder's own keys, which it shows among the user's.
  if (volume.attachment) view["metadata"]["attached_mode"] = volume.attachment->mode;
  view["links"] = links(volume, options);
  view["user_id"] = or_null(volume.user_id);
  view["bootable"] = volume.bootable ? "true" : "false";
  view["encrypted"] = false;
  view["replication_status"] = nullptr;
  view["consistencygroup_id"] = nullptr;
  view["multiattach"] = false;
  view["attachments"] = attachments(volume, options);
  if (options.is_admin) view["migration_status"] = nullptr;
  if (since(options, 13)) view["group_id"] = nullptr;
  if (since(options, 21) && options.is_admin) view["provider_id"] = nullptr;
  if (since(options, 48)) {
    view["shared_targets"] = false;
    view["service_uuid"] = nullptr;
  }
  if (since(options, 61) && options.is_admin) view["cluster_name"] = nullptr;
  if (since(options, 63)) view["volume_type_id"] = or_null(options.volume_type_id);
  if (since(options, 65)) view["consumes_quota"] = volume.counts_quota;
  if (options.detail == VolumeDetail::brief) return view;
  view["os-vol-tenant-attr:tenant_id"] = or_null(volume.project_id);
  if (options.is_admin) {
    view["os-vol-mig-status-attr:migstat"] = nullptr;
    view["os-vol-mig-status-attr:name_id"] = nullptr;
    view["os-vol-host-attr:host"] = or_null(volume.host);
  }
  if (!volume.image_metadata.empty()) view["volume_image_metadata"] = string_object(volume.image_metadata);
  return view;
}

}  // namespace imagecache::api
