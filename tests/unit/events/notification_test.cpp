// Held against what Cinder itself sends, kept in cinder_notifications.json (tests/support/cinder_notifications.py).
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/fd.hpp"
#include "events/notifiers.hpp"
#include "events/oslo_message.hpp"
#include "events/volume_events.hpp"

namespace imagecache::events {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// Cinder's message of that event.
Json from_cinder(const std::string& event_type) {
  for (const Json& sent : Json::parse(base::read_small_file(IMAGECACHE_CINDER_NOTIFICATIONS).value())) {
    if (sent["message"]["event_type"] == event_type) return sent;
  }
  ADD_FAILURE() << "Cinder's " << event_type << " is not kept";
  return {};
}

/// "2026-11-23T06:18:39.057735", with or without a zone, T or blank.
base::WallTime parse_time(const std::string& text) {
  std::tm parts{};
  int microseconds = 0;
  EXPECT_EQ(std::sscanf(text.c_str(), "%d-%d-%d%*c%d:%d:%d.%6d", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
                        &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &microseconds),
            7)
      << text;
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  return base::WallTime(std::chrono::seconds(::timegm(&parts)) + std::chrono::microseconds(microseconds));
}

Stamp stamp_of(const Json& message) {
  return {.message_id = message["message_id"],
          .unique_id = message["_unique_id"],
          .time = parse_time(message["timestamp"])};
}

base::RequestContext asker() {
  base::RequestContext context;
  context.request_id = "req-3a0f0000-0000-4000-8000-000000000001";
  context.auth_token = "secret";
  context.user_id = "u1";
  context.project_id = "p1";
  context.roles = {"member"};
  return context;
}

VolumeUsage usage_of(const Json& payload) {
  VolumeUsage usage{.volume_id = payload["volume_id"],
                    .project_id = "p1",
                    .user_id = "u1",
                    .host = "node1@files#pool",
                    .availability_zone = "nova",
                    .volume_type_id = payload["volume_type"],
                    .display_name = "vol",
                    .status = payload["status"],
                    .size_gb = 1,
                    .created_at = parse_time(payload["created_at"]),
                    .launched_at = std::nullopt,
                    .metadata = {{"a", "b"}},
                    .image_metadata = {}};
  if (payload["launched_at"].get<std::string>().ends_with("+00:00")) {
    usage.launched_at = parse_time(payload["launched_at"]);
  }
  if (payload.contains("glance_metadata")) usage.image_metadata = {{"image_id", "i1"}, {"min_disk", "0"}};
  return usage;
}

/// Cinder takes the clock anew for "now" here and there; a row of its table has columns that we have no table for.
void forget_what_is_cinders_alone(Json& message) {
  message.erase("_context_timestamp");
  if (Json& payload = message["payload"]; payload.contains("glance_metadata")) {
    for (Json& row : payload["glance_metadata"]) {
      for (const char* column : {"id", "created_at", "updated_at", "deleted_at", "deleted"}) row.erase(column);
    }
  }
}

class VolumeNotification : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(VolumeNotification, IsCindersWordForWord) {
  const auto& [suffix, publisher] = GetParam();
  Json sent = from_cinder("volume." + suffix);
  Json& wanted = sent["message"];
  const base::WallTime now = suffix == "create.start" ? parse_time(wanted["payload"]["launched_at"]) : base::WallTime();
  const Event event = volume_event(suffix, usage_of(wanted["payload"]), publisher, asker(), now);
  Json made = Json::parse(oslo_message(event, stamp_of(wanted)));
  forget_what_is_cinders_alone(wanted);
  forget_what_is_cinders_alone(made);
  EXPECT_EQ(made, wanted) << Json::diff(wanted, made).dump(1);
}

INSTANTIATE_TEST_SUITE_P(Each, VolumeNotification,
                         ::testing::Values(std::pair("create.start", "node1@files#pool"),
                                           std::pair("create.end", "node1@files#pool"),
                                           std::pair("delete.end", "node1@files")),
                         [](const auto& info) {
                           std::string name = info.param.first;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

class CacheNotification : public ::testing::TestWithParam<std::string> {};

TEST_P(CacheNotification, IsCindersWithMoreBehind) {
  Json sent = from_cinder("image_volume_cache." + GetParam());
  Json& wanted = sent["message"];
  const Event event = image_volume_cache_event(GetParam(), "i1", "node1@files#pool", "node1", asker(),
                                               {{"reason", "it was asked for"}});
  Json made = Json::parse(oslo_message(event, stamp_of(wanted)));
  EXPECT_EQ(made["payload"]["reason"], "it was asked for");
  made["payload"].erase("reason");
  forget_what_is_cinders_alone(wanted);
  forget_what_is_cinders_alone(made);
  EXPECT_EQ(made, wanted) << Json::diff(wanted, made).dump(1);
}

INSTANTIATE_TEST_SUITE_P(Each, CacheNotification, ::testing::Values("hit", "miss", "evict"));

TEST(Notification, NeverHasAToken) {
  const Event event = image_volume_cache_event("hit", "i1", "h@b#p", "h", asker(), {});
  EXPECT_THAT(oslo_message(event, new_stamp({})), Not(HasSubstr("secret")));
  EXPECT_THAT(log_message(event, new_stamp({})), Not(HasSubstr("secret")));
}

TEST(Notification, SurvivesANameThatIsNoUtf8) {
  VolumeUsage usage;
  usage.display_name = "caf\xe9 \"\n";
  const Event event = volume_event("create.start", usage, "h", asker(), {});
  const Json message = Json::parse(oslo_message(event, new_stamp({})));
  EXPECT_EQ(message["payload"]["display_name"], "caf\xEF\xBF\xBD \"\n");
}

TEST(Notification, EachHasIdsOfItsOwn) {
  const Stamp one = new_stamp({}), other = new_stamp({});
  EXPECT_NE(one.message_id, other.message_id);
  EXPECT_NE(one.unique_id, other.unique_id);
  EXPECT_EQ(one.unique_id.size(), 32U);
}

/// Takes everything at once.
class Sponge final : public Broker {
 public:
  explicit Sponge(std::vector<Message>& into) : into_(into) {}
  Result<void> connect() override { return {}; }
  Result<void> publish(const Message& message) override {
    into_.push_back(message);
    return {};
  }
  Result<std::vector<Confirm>> wait(std::chrono::milliseconds) override {
    return std::vector<Confirm>{{.number = into_.size(), .and_all_before = true, .taken = true}};
  }
  void disconnect() override {}
  void wake() override {}
  void abort() override {}
  std::string name() const override { return "sponge"; }

 private:
  std::vector<Message>& into_;
};

TEST(Notifiers, SendToEachTopicInEachFormat) {
  std::vector<Message> sent;
  Counters counters;
  const base::ManualClock clock;
  {
    const auto notifier = make_notifier({.log = false,
                                         .messaging_v1 = true,
                                         .messaging_v2 = true,
                                         .topics = {"notifications", "billing"},
                                         .outbox = {}},
                                        std::make_unique<Sponge>(sent), clock, counters);
    EXPECT_TRUE(notifier->enabled());
    notifier->notify(image_volume_cache_event("hit", "i1", "h@b#p", "h", asker(), {}));
    notifier->stop();
  }
  ASSERT_EQ(sent.size(), 4U);
  std::vector<std::string> keys;
  for (const Message& message : sent) keys.push_back(message.routing_key);
  EXPECT_THAT(keys, ElementsAre("notifications.info", "notifications.info", "billing.info", "billing.info"));
  const Json envelope = Json::parse(sent[0].body);
  EXPECT_EQ(envelope["oslo.version"], from_cinder("image_volume_cache.hit")["version"]);
  EXPECT_EQ(envelope.size(), 2U);
  EXPECT_EQ(envelope["oslo.message"], sent[1].body);
  EXPECT_EQ(Json::parse(sent[1].body)["event_type"], "image_volume_cache.hit");
  EXPECT_EQ(counters.notifications_sent, 4U);
}

TEST(Notifiers, AreOffWithoutADriver) {
  Counters counters;
  const base::ManualClock clock;
  EXPECT_FALSE(make_notifier({}, nullptr, clock, counters)->enabled());
}

}  // namespace
}  // namespace imagecache::events
