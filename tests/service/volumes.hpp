// What tests of volumes ask the daemon of rig.hpp.
#pragma once

#include <string>
#include <vector>

#include "base/text.hpp"
#include "service/rig.hpp"
#include "support/disk.hpp"

namespace imagecache::test {

constexpr auto internal_project = "internal";

inline json parsed(const HttpAnswer& answer) {
  json body = json::parse(answer.body, nullptr, false);
  if (body.is_discarded()) ADD_FAILURE() << answer.status << ": " << answer.body;
  return body;
}

/// The message of a fault of the Block Storage API, whatever it is called.
inline std::string message(const HttpAnswer& answer) {
  const json body = parsed(answer);
  return body.empty() ? "" : body.begin().value()["message"].get<std::string>();
}

inline HttpAnswer create_request(Daemon& daemon, const std::string& image_id, int size_gb = 1) {
  return daemon.volume("POST", "/volumes", {{"volume", {{"size", size_gb}, {"imageRef", image_id}}}});
}

inline HttpAnswer hook(Daemon& daemon, std::string_view method, const std::string& volume_id, const json& body = {}) {
  return http(daemon.service->volume_api_port(), method, "/v1/hook/volumes/" + volume_id,
              {"Content-Type: application/json"}, body.is_null() ? "" : body.dump());
}
inline HttpAnswer hook_create(Daemon& daemon, const std::string& volume_id, const std::string& image_id,
                              int size_gb = 1) {
  return hook(daemon, "PUT", volume_id,
              {{"backend", "file1"}, {"name", "volume-" + volume_id}, {"size_gb", size_gb}, {"image_id", image_id}});
}

/// Why a volume is in error.
inline std::string reason(Daemon& daemon, const std::string& volume_id) {
  const json error = parsed(hook(daemon, "GET", volume_id))["error"];
  return error.is_string() ? error.get<std::string>() : "";
}

inline json image_volumes(Daemon& daemon) {
  return parsed(daemon.status("GET", "/v1/image-volumes"))["image_volumes"];
}

/// Usage of a quota.
inline std::uint64_t in_use(Daemon& daemon, const std::string& project, const std::string& resource) {
  return parsed(daemon.volume("GET", "/os-quota-sets/" + project + "?usage=True"))["quota_set"][resource]["in_use"];
}
inline void set_quota(Daemon& daemon, const std::string& project, const json& limits) {
  EXPECT_EQ(daemon.volume("PUT", "/os-quota-sets/" + project, {{"quota_set", limits}}).status, 200);
}

inline std::string add_image(Daemon& daemon, const std::string& raw) {
  return daemon.origin.add({.content = Content::of(raw)});
}

/// Nothing of an image-volume is left: no row, no use of the internal tenant's quota.
inline void expect_no_image_volume(Daemon& daemon) {
  EXPECT_TRUE(image_volumes(daemon).empty()) << image_volumes(daemon).dump();
  EXPECT_EQ(in_use(daemon, internal_project, "volumes"), 0U);
  EXPECT_EQ(in_use(daemon, internal_project, "gigabytes"), 0U);
}

}  // namespace imagecache::test
