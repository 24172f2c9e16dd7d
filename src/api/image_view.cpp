#include "api/image_view.hpp"

#include "api/api.hpp"
#include "api/call.hpp"

namespace imagecache::api {

Json image_record(const origin::ImageInfo& info) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  Json record;
  for (const auto& [name, value] : info.properties) record[name] = value;
  record["id"] = info.id;
  record["name"] = text(info.name);
  record["status"] = info.status;
  record["disk_format"] = text(info.disk_format);
  record["container_format"] = text(info.container_format);
  record["size"] = info.size_bytes ? Json(*info.size_bytes) : Json();
  record["virtual_size"] = info.virtual_size_bytes ? Json(*info.virtual_size_bytes) : Json();
  record["checksum"] = text(info.checksum);
  record["os_hash_algo"] = text(info.os_hash_algo);
  record["os_hash_value"] = text(info.os_hash_value);
  record["created_at"] = info.updated_at;
  record["updated_at"] = info.updated_at;
  record["min_disk"] = info.min_disk_gb;
  record["min_ram"] = info.min_ram_mb;
  record["owner"] = text(info.owner);
  record["visibility"] = info.visibility;
  record["protected"] = false;
  record["tags"] = Json::array();
  record["self"] = "/v2/images/" + info.id;
  record["file"] = "/v2/images/" + info.id + "/file";
  record["schema"] = "/v2/schemas/image";
  return record;
}

namespace {

base::Task<Reply> show_image(Call& call) {
  if (!call.api.images) co_return fault(404, "No image cache is kept here.");
  const auto info = co_await call.api.images->describe(call.parameter("image_id"), call.who);
  if (!info) co_return fault(info.error());
  co_return json_reply(200, image_record(*info));
}

}  // namespace

void add_image_view_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/images/{image_id}", show_image, {});
}

}  // namespace imagecache::api
