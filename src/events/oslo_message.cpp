#include "events/oslo_message.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace imagecache::events {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json message_of(const Event& event, const Stamp& stamp) {
  Json payload = Json::parse(event.payload, nullptr, false);
  if (payload.is_discarded()) payload = Json();
  std::string timestamp = base::to_iso8601(stamp.time);  // str(datetime) in Python: a blank for the T
  std::ranges::replace(timestamp, 'T', ' ');
  return {{"message_id", stamp.message_id}, {"publisher_id", event.publisher_id},
          {"event_type", event.event_type}, {"priority", "INFO"},
          {"payload", std::move(payload)},  {"timestamp", std::move(timestamp)}};
}

/// cinder.context.RequestContext.to_dict() of what oslo.messaging lets through: no token, no service catalog.
void add_context(Json& message, const base::RequestContext& context, base::WallTime now) {
  const auto put = [&](std::string_view key, Json value) {
    message[std::string("_context_").append(key)] = std::move(value);
  };
  const std::string identity = or_dash(context.user_id) + " " + or_dash(context.project_id) + " - " +
                               or_dash(context.user_domain_id) + " " + or_dash(context.project_domain_id);
  put("user", or_null(context.user_id));
  put("project_id", or_null(context.project_id));
  put("system_scope", or_null(context.system_scope));
  put("project", or_null(context.project_id));
  put("domain", Json());
  put("user_domain", or_null(context.user_domain_id));
  put("project_domain", or_null(context.project_domain_id));
  put("is_admin", context.is_admin);
  put("read_only", false);
  put("show_deleted", false);
  put("auth_token", Json());
  put("request_id", or_null(context.request_id));
  put("global_request_id", or_null(context.global_request_id));
  put("resource_uuid", Json());
  put("roles", context.roles);
  put("user_identity", identity);
  put("is_admin_project", true);
  put("user_id", or_null(context.user_id));
  put("project_name", Json());
  put("domain_id", Json());
  put("read_deleted", "no");
  put("remote_address", Json());
  put("timestamp", base::to_iso8601(now));
  put("quota_class", Json());
  put("service_catalog", Json::array());
  put("message_resource_id", Json());
  put("message_resource_type", Json());
  put("message_action", Json());
}

}  // namespace

Stamp new_stamp(base::WallTime now) {
  std::string unique_id = base::new_uuid();
  std::erase(unique_id, '-');
  return {.message_id = base::new_uuid(), .unique_id = std::move(unique_id), .time = now};
}

std::string oslo_message(const Event& event, const Stamp& stamp) {
  Json message = message_of(event, stamp);
  message["_unique_id"] = stamp.unique_id;
  add_context(message, event.context, stamp.time);
  return dump(message);
}

std::string oslo_envelope(const std::string& message) {
  return dump({{"oslo.version", "2.0"}, {"oslo.message", message}});
}

std::string log_message(const Event& event, const Stamp& stamp) {
  return dump(message_of(event, stamp));
}

}  // namespace imagecache::events
