// Where notifications go: [oslo_messaging_notifications] driver, each by its name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "events/counters.hpp"
#include "events/notifier.hpp"
#include "events/outbox.hpp"

namespace imagecache::events {

struct NotifierOptions {
  bool log = false;           ///< driver log: a line at INFO
  bool messaging_v1 = false;  ///< driver messaging: the message alone
  bool messaging_v2 = false;  ///< driver messagingv2: in an envelope
  std::vector<std::string> topics{"notifications"};
  Outbox::Options outbox;
};

/// `broker` may be null where neither of the messaging drivers is wanted. The references outlive the notifier.
std::unique_ptr<Notifier> make_notifier(NotifierOptions options, std::unique_ptr<Broker> broker,
                                        const base::Clock& clock, Counters& counters);

}  // namespace imagecache::events
