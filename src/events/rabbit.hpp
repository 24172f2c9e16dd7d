// The connection to RabbitMQ, over librabbitmq, with the exchange and queues that oslo.messaging's rabbit driver
// declares (oslo_messaging/_drivers/impl_rabbit.py notify_send): a topic exchange, and for each routing key the queue
// of that name bound to it, so that nothing is lost while nobody consumes yet.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "events/broker.hpp"
#include "events/subscription.hpp"
#include "events/transport_url.hpp"

namespace imagecache::events {

struct RabbitOptions {
  TransportUrl url;
  std::string exchange = "cinder";
  // Must be what everybody else declares them with: RabbitMQ refuses another's idea of the same name.
  bool durable = false;
  bool auto_delete = false;
  bool ha_queues = false;
  bool quorum_queue = false;
  std::int64_t quorum_delivery_limit = 0, quorum_max_memory_length = 0, quorum_max_memory_bytes = 0;  ///< 0: not said
  bool login_external = false;  ///< by our TLS certificate instead of a password
  bool tls = false;
  std::string ca_file;  ///< empty: any certificate of the broker's will do, as in oslo.messaging
  std::string cert_file, key_file;
  bool verify_hostname = false;
  std::chrono::seconds heartbeat{60};  ///< the broker is gone after twice that without a sign of it; 0: no heartbeats
  std::chrono::seconds connect_timeout{10};
};

std::unique_ptr<Broker> make_rabbit_broker(RabbitOptions options);

struct SubscriptionOptions {
  std::string exchange;                   ///< of those who publish, and made by them: until then connect() fails
  std::vector<std::string> routing_keys;  ///< "notifications.info"
  std::uint64_t queue_limit = 10'000;     ///< messages that wait for us; older ones make way
};
/// Messages of more than 1 MiB come as empty ones.
std::unique_ptr<Subscription> make_rabbit_subscription(RabbitOptions options, SubscriptionOptions wanted);

}  // namespace imagecache::events
