#include "app/notifications.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "events/notifiers.hpp"
#include "events/rabbit.hpp"

namespace imagecache::app {
namespace {

constexpr std::string_view own = config::own_section;

/// Of an option of [oslo_messaging_rabbit], which the URL's query goes before.
Result<config::Value> value_of(const config::Config& config, const events::TransportUrl& url, std::string_view name) {
  const config::Option& option = *config::find_option(config::rabbit_section, name);
  if (const auto found = url.query.find(std::string(name)); found != url.query.end()) {
    auto value = config::parse_value(option, found->second);
    if (!value) return fail(Errc::invalid_argument, fmt::format("transport_url: {} {}", name, value.error().message));
    if (*value) return **value;
  }
  return *config.section(config::rabbit_section).all().find(name)->second.value;
}

/// Reads one option after the other, and keeps the first failure.
struct RabbitReader {
  const config::Config& config;
  const events::TransportUrl& url;
  Result<void> result;

  template <class T>
  T get(std::string_view name) {
    auto value = value_of(config, url, name);
    if (value) return std::get<T>(*value);
    if (result) result = std::unexpected(std::move(value).error());
    return {};
  }
  bool flag(std::string_view name) { return get<bool>(name); }
  std::int64_t number(std::string_view name) { return get<std::int64_t>(name); }
  std::string text(std::string_view name) { return get<std::string>(name); }
  std::chrono::seconds seconds(std::string_view name) { return std::chrono::seconds(number(name)); }
};

Result<events::RabbitOptions> rabbit_options(const config::Config& config, events::TransportUrl url,
                                             events::Backoff::Options& backoff) {
  RabbitReader from{.config = config, .url = url, .result = {}};
  events::RabbitOptions options{.url = {},
                                .exchange = config.get_string("DEFAULT", "control_exchange"),
                                .durable = from.flag("amqp_durable_queues"),
                                .auto_delete = from.flag("amqp_auto_delete"),
                                .ha_queues = from.flag("rabbit_ha_queues"),
                                .quorum_queue = from.flag("rabbit_quorum_queue"),
                                .quorum_delivery_limit = from.number("rabbit_quorum_delivery_limit"),
                                .quorum_max_memory_length = from.number("rabbit_quorum_max_memory_length"),
                                .quorum_max_memory_bytes = from.number("rabbit_quorum_max_memory_bytes"),
                                .login_external = base::to_lower(from.text("rabbit_login_method")) == "external",
                                .tls = from.flag("ssl"),
                                .ca_file = from.text("ssl_ca_file"),
                                .cert_file = from.text("ssl_cert_file"),
                                .key_file = from.text("ssl_key_file"),
                                .verify_hostname = from.flag("ssl_enforce_hostname_verification"),
                                .heartbeat = from.seconds("heartbeat_timeout_threshold"),
                                .connect_timeout = config.get_seconds(own, "notification_connect_timeout")};
  backoff = {.interval = from.seconds("rabbit_retry_interval"),
             .growth = from.seconds("rabbit_retry_backoff"),
             .max = from.seconds("rabbit_interval_max")};
  IMAGECACHE_CHECK(from.result);
  if (options.ha_queues && options.quorum_queue)
    return fail(Errc::invalid_argument,
                "[oslo_messaging_rabbit] rabbit_ha_queues and rabbit_quorum_queue: set one of them at most");
  if (options.tls && options.ca_file.empty())
    base::log::warning("app", nullptr,
                       "notifications: [oslo_messaging_rabbit] ssl_ca_file is not set, so RabbitMQ's certificate is "
                       "not checked");
  options.url = std::move(url);
  return options;
}

}  // namespace

Result<std::unique_ptr<events::Notifier>> make_notifier(const config::Config& config, const base::Clock& clock,
                                                        events::Counters& counters) {
  const config::Settings& wishes = config.section(config::notifications_section);
  events::NotifierOptions options;
  for (const std::string& driver : wishes.get_list("driver")) {
    if (driver == "log") {
      options.log = true;
    } else if (driver == "messaging") {
      options.messaging_v1 = true;
    } else if (driver == "messagingv2") {
      options.messaging_v2 = true;
    } else if (!driver.empty() && driver != "noop") {
      base::log::warning("app", nullptr,
                         "[oslo_messaging_notifications] driver = {}: not one of messagingv2, messaging, log, noop; "
                         "left out",
                         driver);
    }
  }
  options.topics = wishes.get_list("topics");
  options.outbox.limit = config.get_unsigned(own, "notification_queue_limit");
  options.outbox.flush_timeout = config.get_seconds(own, "notification_flush_timeout");
  options.outbox.retry = static_cast<int>(wishes.get_int("retry"));
  std::unique_ptr<events::Broker> broker;
  if (options.messaging_v1 || options.messaging_v2) {
    std::string text = wishes.get_string("transport_url");
    if (text.empty()) text = config.get_string("DEFAULT", "transport_url");
    IMAGECACHE_TRY(events::TransportUrl url, events::parse_transport_url(text));
    if (url.transport == "rabbit" || url.transport == "kombu") {
      IMAGECACHE_TRY(events::RabbitOptions rabbit, rabbit_options(config, std::move(url), options.outbox.backoff));
      broker = events::make_rabbit_broker(std::move(rabbit));
    } else {
      base::log::warning("app", nullptr, "notifications: transport {} is not RabbitMQ's; none are sent there",
                         url.transport);
    }
  }
  return events::make_notifier(std::move(options), std::move(broker), clock, counters);
}

Result<std::unique_ptr<events::ImageListener>> make_image_listener(const config::Config& config,
                                                                   events::Counters& counters,
                                                                   events::ImageListener::Sink sink) {
  std::unique_ptr<events::ImageListener> none;
  if (!config.get_bool(own, "image_notifications")) return none;
  std::string text = config.get_string(own, "image_notifications_transport_url");
  if (text.empty()) text = config.get_string("DEFAULT", "transport_url");
  IMAGECACHE_TRY(events::TransportUrl url, events::parse_transport_url(text));
  if (url.transport != "rabbit" && url.transport != "kombu")
    return fail(Errc::invalid_argument,
                fmt::format("image_notifications = true: transport {} is not RabbitMQ's; set "
                            "image_notifications_transport_url to the one that Glance sends to, or leave it off",
                            url.transport));
  events::Backoff::Options backoff;
  IMAGECACHE_TRY(events::RabbitOptions rabbit, rabbit_options(config, std::move(url), backoff));
  events::SubscriptionOptions wanted{.exchange = config.get_string(own, "image_notifications_exchange"),
                                     .routing_keys = {},
                                     .queue_limit = config.get_unsigned(own, "image_notifications_limit")};
  for (const std::string& topic : config.section(own).get_list("image_notifications_topics"))
    wanted.routing_keys.push_back(topic + ".info");
  return std::make_unique<events::ImageListener>(
      backoff, events::make_rabbit_subscription(std::move(rabbit), std::move(wanted)), counters, std::move(sink));
}

}  // namespace imagecache::app
