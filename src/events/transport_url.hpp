// oslo.messaging's transport_url (oslo_messaging/transport.py TransportURL):
//
//     rabbit://user:password@host1:5672,user:password@host2/virtual_host?ssl=1
//
// User, password and virtual host are percent-encoded; each host has its own credentials, or none. The query overrides
// options of [oslo_messaging_rabbit].
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::events {

struct BrokerHost {
  std::string host = "localhost";
  std::uint16_t port = 5672;
  std::string user = "guest";  ///< RabbitMQ lets guest in from its own host only
  std::string password = "guest";
};

struct TransportUrl {
  std::string transport;           ///< "rabbit", "kafka"…
  std::vector<BrokerHost> hosts;   ///< in their order, at least one
  std::string virtual_host = "/";  ///< as the broker names it
  std::map<std::string, std::string> query;
};

/// The message of a failure names the part that is wrong and never holds a password.
Result<TransportUrl> parse_transport_url(std::string_view url);

}  // namespace imagecache::events
