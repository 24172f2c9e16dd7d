// The events of volumes and image-volumes with Cinder's own payloads (cinder/volume/volume_utils.py _usage_from_volume,
// cinder/image/cache.py _notify_cache_action). Keys that Cinder does not have stand behind its own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "events/notifier.hpp"

namespace imagecache::events {

struct VolumeUsage {
  std::string volume_id;
  std::string project_id;
  std::string user_id;
  std::string host;  ///< "host@backend#pool"
  std::string availability_zone;
  std::string volume_type_id;
  std::string display_name;
  std::string status;
  std::uint64_t size_gb = 0;
  std::optional<base::WallTime> created_at, launched_at;  ///< none: it is not, and Cinder then says now
  std::map<std::string, std::string> metadata;
  std::map<std::string, std::string> image_metadata;
};

/// "volume.<suffix>", suffix "create.start", "create.end", "delete.start"… `publisher_host` as Cinder has it: where the
/// volume is (with the pool) for create, the service (host@backend) for all else.
Event volume_event(std::string_view suffix, const VolumeUsage& usage, std::string_view publisher_host,
                   base::RequestContext context, base::WallTime now);

/// "image_volume_cache.<action>". `host` is where the image-volume is or would be, `more` what Cinder does not say; a
/// value of digits stays a string.
Event image_volume_cache_event(std::string_view action, const std::string& image_id, const std::string& host,
                               std::string_view publisher_host, base::RequestContext context,
                               const std::map<std::string, std::string>& more);

}  // namespace imagecache::events
