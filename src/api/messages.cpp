// /messages: why a volume failed, for the project whose it is.
#include <algorithm>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/list_query.hpp"
#include "api/volume_view.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

using catalog::Message;
constexpr Microversion since{3, 3};
constexpr Microversion paging_since{3, 5};

std::string event_of(const Message& message) {
  return "VOLUME_" + message.resource_type + "_" + message.action_id + "_" + message.detail_id;
}

Json view_of(const Call& call, const Message& message) {
  const std::string project = call.project_in_url ? "/" + call.parameter("project_id") : "";
  const std::string rest = project + "/messages/" + message.id;
  const Json links = Json::array({Json{{"rel", "self"}, {"href", call.base_url() + "/v3" + rest}},
                                  Json{{"rel", "bookmark"}, {"href", call.base_url() + rest}}});
  return Json{{"id", message.id},
              {"event_id", event_of(message)},
              {"user_message", message.text},
              {"message_level", "ERROR"},
              {"created_at", time_or_null(message.created_at)},
              {"guaranteed_until", time_or_null(message.expires_at)},
              {"request_id", or_null(message.request_id)},
              {"links", links},
              {"resource_type", message.resource_type},
              {"resource_uuid", message.resource_id}};
}

bool passes(const Message& message, const http::PathParameters& query) {
  const auto agrees = [&](const char* name, const std::string& value) {
    const auto wanted = query.find(name);
    return wanted == query.end() || wanted->second == value;
  };
  return agrees("resource_uuid", message.resource_id) && agrees("resource_type", message.resource_type) &&
         agrees("event_id", event_of(message)) && agrees("request_id", message.request_id) &&
         agrees("message_level", "ERROR");
}

/// The caller's, or an administrator may see it; else it is not there.
base::Task<Result<Message>> find(Call& call) {
  co_return co_await base::offload(
      call.api.pool, [&api = call.api, who = call.who, id = call.parameter("message_id")]() -> Result<Message> {
        IMAGECACHE_TRY(auto message, api.volumes.catalog().find_message(id));
        if (!message || (!who.is_admin && message->project_id != who.project_id))
          return fail(Errc::not_found, "Message " + id + " could not be found.");
        return std::move(*message);
      });
}

base::Task<Reply> list(Call& call) {
  auto found =
      co_await base::offload(call.api.pool, [&catalog = call.api.volumes.catalog(), project = call.who.project_id] {
        return catalog.list_messages(project);
      });
  if (!found) co_return fault(found.error());
  std::uint64_t limit = call.api.options.osapi_max_limit;
  auto first = found->begin();
  if (call.version >= paging_since) {
    std::erase_if(*found, [&](const Message& message) { return !passes(message, call.query); });
    if (const auto given = call.query.find("limit"); given != call.query.end()) {
      const auto number = base::parse_unsigned(given->second);
      if (!number) co_return fault(400, "limit param must be an integer");
      limit = std::min(limit, *number);
    }
    first = found->begin();
    if (const auto marker = call.query.find("marker"); marker != call.query.end() && !marker->second.empty()) {
      first = std::ranges::find(*found, marker->second, &Message::id);
      if (first == found->end()) co_return fault(404, "Message " + marker->second + " could not be found.");
      ++first;
    }
  }
  Json array = Json::array();
  for (; first != found->end() && array.size() < limit; ++first) array.push_back(view_of(call, *first));
  Json body{{"messages", std::move(array)}};
  if (limit > 0 && body["messages"].size() == limit && first != found->end()) {
    body["messages_links"] = next_link(call.base_url(), call.exchange.path(), call.exchange.query(),
                                       body["messages"].back()["id"].get<std::string>());
  }
  co_return json_reply(200, body);
}

base::Task<Reply> show(Call& call) {
  auto message = co_await find(call);
  co_return message ? json_reply(200, Json{{"message", view_of(call, *message)}}) : fault(message.error());
}

base::Task<Reply> remove(Call& call) {
  auto message = co_await find(call);
  if (!message) co_return fault(message.error());
  auto done = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), id = message->id] { return catalog.remove_message(id); });
  co_return done ? empty_reply(204) : fault(done.error());
}

}  // namespace

void add_message_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/messages", list, "message:get_all", since);
  add_v3_route(router, api, "GET", "/messages/{message_id}", show, "message:get", since);
  add_v3_route(router, api, "DELETE", "/messages/{message_id}", remove, "message:delete", since);
}

}  // namespace imagecache::api
