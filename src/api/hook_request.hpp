// The body of the driver hook's PUT.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "api/json.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {

struct HookRequest {
  std::string backend;  ///< section of cinder.conf
  std::string name;     ///< exactly what the backend is to store the volume by
  std::uint64_t size_gb = 0;
  std::string image_id;
  std::string pool;          ///< of the backend; empty where it has one only
  std::string volume_type;   ///< may be empty
  std::string project_id;    ///< whose volume it is; may be empty
  std::string user_id;       ///< may be empty
  std::string display_name;  ///< may be empty
  bool encrypted = false;    ///< Cinder's encryption_key_id is set
  std::optional<std::chrono::milliseconds> deadline;
  /// image_updated_at, image_checksum and image_size, if all are there.
  std::optional<volume_cache::ImageSeen> image_seen;
};

/// Errc::invalid_argument naming the member. Members that are not known are ignored: a newer hook may say more.
Result<HookRequest> parse_hook_request(std::string_view body);

}  // namespace imagecache::api
