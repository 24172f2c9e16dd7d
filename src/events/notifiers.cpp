#include "events/notifiers.hpp"

#include "base/log.hpp"
#include "events/oslo_message.hpp"

namespace imagecache::events {
namespace {

class Notifiers final : public Notifier {
 public:
  Notifiers(NotifierOptions options, std::unique_ptr<Broker> broker, const base::Clock& clock, Counters& counters)
      : options_(std::move(options)), clock_(clock) {
    if (broker) outbox_ = std::make_unique<Outbox>(options_.outbox, std::move(broker), counters);
  }

  bool enabled() const override { return true; }

  void notify(const Event& event) noexcept override {
    try {
      const Stamp stamp = new_stamp(clock_.now());
      // oslo.messaging's logger of the same name, so that a pattern written for Cinder's log finds it.
      if (options_.log)
        base::log::info("oslo.messaging.notification." + event.event_type, &event.context, "{}",
                        log_message(event, stamp));
      if (outbox_) outbox_->put(messages(event, stamp));
    } catch (const std::exception& problem) {
      base::log::error("events", &event.context, "notification {} is lost: {}", event.event_type, problem.what());
    }
  }

  void stop() override {
    if (outbox_) outbox_->stop();
  }

 private:
  std::vector<Message> messages(const Event& event, const Stamp& stamp) const {
    std::vector<Message> made;
    const std::string body = oslo_message(event, stamp);
    for (const std::string& topic : options_.topics) {
      const std::string key = topic + ".info";
      if (options_.messaging_v2) made.push_back({.routing_key = key, .body = oslo_envelope(body)});
      if (options_.messaging_v1) made.push_back({.routing_key = key, .body = body});
    }
    return made;
  }

  const NotifierOptions options_;
  const base::Clock& clock_;
  std::unique_ptr<Outbox> outbox_;
};

}  // namespace

std::unique_ptr<Notifier> make_notifier(NotifierOptions options, std::unique_ptr<Broker> broker,
                                        const base::Clock& clock, Counters& counters) {
  if (!options.log && !broker) return std::make_unique<NoNotifier>();
  return std::make_unique<Notifiers>(std::move(options), std::move(broker), clock, counters);
}

}  // namespace imagecache::events
