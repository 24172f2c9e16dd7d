// The operator's files, and what becomes of notifications by them.
#include "app/notifications.hpp"

#include <gmock/gmock.h>

#include "base/fd.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class NotificationOptions : public ::testing::Test {
 protected:
  Result<std::unique_ptr<events::Notifier>> made_of(const std::string& text) {
    const auto file = directory_ / "cinder.conf";
    EXPECT_TRUE(base::write_file_atomically(file, text));
    const auto config = config::load({.sources = {{config::ConfigSource::Kind::file, file}}, .environment = {}});
    if (!config) return std::unexpected(config.error());
    return make_notifier(*config, clock_, counters_);
  }
  bool is_on(const std::string& text) {
    const auto made = made_of(text);
    EXPECT_TRUE(made) << made.error().message;
    return made && (*made)->enabled();
  }

  const test::TempDir directory_;
  const base::ManualClock clock_;
  events::Counters counters_{};
};

TEST_F(NotificationOptions, NoneAreMadeUnlessADriverIsNamedAsWithCinder) {
  EXPECT_FALSE(is_on(""));
  EXPECT_FALSE(is_on("[oslo_messaging_notifications]\ndriver = noop\n"));
  EXPECT_TRUE(is_on("[oslo_messaging_notifications]\ndriver = noop\ndriver = log\n"));
}

TEST_F(NotificationOptions, WhatOnlyCinderHasIsLeftOut) {
  EXPECT_FALSE(is_on("[oslo_messaging_notifications]\ndriver = routing\n"));
  EXPECT_FALSE(
      is_on("[DEFAULT]\ntransport_url = kafka://h:9092/\n[oslo_messaging_notifications]\ndriver = messagingv2\n"));
  EXPECT_TRUE(
      is_on("[oslo_messaging_notifications]\ndriver = messagingv2\ntransport_url = kafka://h/\ndriver = log\n"));
}

TEST_F(NotificationOptions, AUrlThatCannotBeReadIsToldWithoutItsPassword) {
  const auto made = made_of(
      "[DEFAULT]\ntransport_url = rabbit://u:hush@h:amqp/\n[oslo_messaging_notifications]\ndriver = messagingv2\n");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::invalid_argument);
  EXPECT_THAT(made.error().message, HasSubstr("transport_url"));
  EXPECT_THAT(made.error().message, Not(HasSubstr("hush")));
}

TEST_F(NotificationOptions, AUrlThatNobodyNeedsIsNotLookedAt) {
  EXPECT_FALSE(is_on("[DEFAULT]\ntransport_url = rabbit://u:hush@h:amqp/\n"));
}

TEST_F(NotificationOptions, TheUrlsQueryIsCheckedAsTheSectionIs) {
  const auto made =
      made_of("[oslo_messaging_notifications]\ndriver = messagingv2\ntransport_url = rabbit://u:hush@h/?ssl=perhaps\n");
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("ssl must be true or false"));
}

TEST_F(NotificationOptions, HaAndQuorumQueuesExcludeEachOther) {
  const std::string text =
      "[oslo_messaging_notifications]\ndriver = messagingv2\ntransport_url = rabbit://h/?rabbit_ha_queues=1\n"
      "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n";
  const auto made = made_of(text);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("rabbit_quorum_queue"));
}

}  // namespace
}  // namespace imagecache::app
