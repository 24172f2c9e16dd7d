// Notifications as the operator's files want them.
#pragma once

#include <memory>

#include "base/clock.hpp"
#include "config/config.hpp"
#include "events/counters.hpp"
#include "events/image_listener.hpp"
#include "events/notifier.hpp"

namespace imagecache::app {

/// Errc::invalid_argument for a transport_url that cannot be read, or options that contradict each other. A driver or a
/// transport that we do not have is said in the log and left out: Cinder has it, and we are to start all the same.
/// The references outlive the notifier.
Result<std::unique_ptr<events::Notifier>> make_notifier(const config::Config& config, const base::Clock& clock,
                                                        events::Counters& counters);

/// Hears what Glance tells of its images, if the operator wants it; null if not. Errc::invalid_argument for a
/// transport_url that cannot be read, or is not RabbitMQ's.
Result<std::unique_ptr<events::ImageListener>> make_image_listener(const config::Config& config,
                                                                   events::Counters& counters,
                                                                   events::ImageListener::Sink sink);

}  // namespace imagecache::app
