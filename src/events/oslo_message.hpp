// A notification as oslo.messaging puts it on the wire (oslo_messaging/notify/notifier.py, _drivers/amqpdriver.py and
// _drivers/common.py), so that a listener cannot tell it from one of Cinder's.
#pragma once

#include <string>

#include "base/clock.hpp"
#include "events/notifier.hpp"

namespace imagecache::events {

/// What makes one notification itself, and no other.
struct Stamp {
  std::string message_id;  ///< uuid
  std::string unique_id;   ///< 32 hexadecimal digits; by it a listener passes over what it has just seen
  base::WallTime time{};
};
Stamp new_stamp(base::WallTime now);

/// The message: what happened, and _context_… on whose behalf. Never a token. Bytes that are no UTF-8 are replaced.
/// "null" stands for a payload that is no JSON.
std::string oslo_message(const Event& event, const Stamp& stamp);
/// Format 2.0, of the driver messagingv2: the message as a string in an envelope. (1.0 is the message alone.)
std::string oslo_envelope(const std::string& message);
/// What oslo.messaging's driver `log` writes: the message without context.
std::string log_message(const Event& event, const Stamp& stamp);

}  // namespace imagecache::events
