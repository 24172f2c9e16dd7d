#include "events/volume_events.hpp"

#include <nlohmann/json.hpp>

namespace imagecache::events {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// isoformat() of a time from Cinder's database, which has a zone; of "now" it has none.
std::string time_text(const std::optional<base::WallTime>& time, base::WallTime now) {
  return time ? base::to_iso8601(*time) + "+00:00" : base::to_iso8601(now);
}

std::string publisher(std::string_view host) {
  return std::string("volume.").append(host);
}

}  // namespace

Event volume_event(std::string_view suffix, const VolumeUsage& usage, std::string_view publisher_host,
                   base::RequestContext context, base::WallTime now) {
  Json payload{{"tenant_id", usage.project_id},
               {"host", usage.host},
               {"user_id", usage.user_id},
               {"availability_zone", usage.availability_zone},
               {"volume_id", usage.volume_id},
               {"volume_type", usage.volume_type_id},
               {"display_name", usage.display_name},
               {"launched_at", time_text(usage.launched_at, now)},
               {"created_at", time_text(usage.created_at, now)},
               {"status", usage.status},
               {"snapshot_id", nullptr},
               {"size", usage.size_gb},
               {"replication_status", "disabled"},
               {"replication_extended_status", nullptr},
               {"replication_driver_data", nullptr},
               {"metadata", Json::array()},
               {"volume_attachment", Json::array()}};
  for (const auto& [key, value] : usage.metadata) payload["metadata"].push_back({{"key", key}, {"value", value}});
  for (const auto& [key, value] : usage.image_metadata) {
    payload["glance_metadata"].push_back(
        {{"volume_id", usage.volume_id}, {"snapshot_id", nullptr}, {"key", key}, {"value", value}});
  }
  return {.event_type = std::string("volume.").append(suffix),
          .publisher_id = publisher(publisher_host),
          .payload = dump(payload),
          .context = std::move(context)};
}

Event image_volume_cache_event(std::string_view action, const std::string& image_id, const std::string& host,
                               std::string_view publisher_host, base::RequestContext context,
                               const std::map<std::string, std::string>& more) {
  Json payload{{"image_id", image_id}, {"host", host}};
  for (const auto& [key, value] : more) payload[key] = value;
  return {.event_type = std::string("image_volume_cache.").append(action),
          .publisher_id = publisher(publisher_host),
          .payload = dump(payload),
          .context = std::move(context)};
}

}  // namespace imagecache::events
