// What a client may ask when it makes or changes a volume: the body's rules, before anything is looked up.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "api/json.hpp"
#include "api/microversion.hpp"

namespace imagecache::api {

struct VolumeCreateBody {
  std::uint64_t size_gb = 0;  ///< 0: as large as source_volid, which is given then
  std::string name;
  std::string description;
  std::string image_id;           ///< the last path component of imageRef, a UUID; empty: an empty volume
  std::string source_volid;       ///< the volume to copy, or empty
  std::string volume_type;        ///< name or id; empty: the default
  std::string availability_zone;  ///< empty: the default
  std::map<std::string, std::string> metadata;
};

/// Errc::invalid_argument in Cinder's words, Errc::unsupported never: a source that is not served here is refused as an
/// invalid argument too, so that a client shows the reason. Errc::not_found for a snapshot, since there are none.
Result<VolumeCreateBody> parse_volume_create(std::string_view body, Microversion version);

struct VolumeUpdateBody {
  std::optional<std::string> name;
  std::optional<std::string> description;
  std::optional<std::map<std::string, std::string>> metadata;
};

Result<VolumeUpdateBody> parse_volume_update(std::string_view body, Microversion version);

/// The {"key": {…}} of a body, e.g. "volume"; other keys at the top are refused but for `allowed`.
Result<JsonIn> wrapped_object(std::string_view body, std::string_view key, std::string_view allowed = {});

}  // namespace imagecache::api
