// Notifications: what happened, told to whoever listens on the operator's message bus, in the words that Cinder uses.
//
// The rooms that know what happens call notify(); where it goes is the operator's choice
// ([oslo_messaging_notifications] driver). What may be relied on:
//   * notify() never waits for a broker and never fails: a create goes on at the same pace while RabbitMQ is down;
//   * events of one caller arrive in the order of its calls;
//   * what was taken is sent until the broker has confirmed it, also over a broker's restart; a listener may therefore
//     see one twice, with the same message_id;
//   * what is not taken, since too much waits, is counted and said in the log;
//   * what still waits when the process ends (or dies) is lost, but for what stop() can send in its time.
#pragma once

#include <string>

#include "base/request_context.hpp"

namespace imagecache::events {

struct Event {
  std::string event_type;    ///< "volume.create.end"
  std::string publisher_id;  ///< who says so: "volume.host@backend#pool"
  std::string payload;       ///< a JSON object
  base::RequestContext context;
};

class Notifier {
 public:
  virtual ~Notifier() = default;

  /// False where nobody is told: an event then need not be made. Constant.
  virtual bool enabled() const = 0;
  /// Any thread; priority INFO.
  virtual void notify(const Event& event) noexcept = 0;
  /// Sends what waits, for no longer than the time that the operator gives. Blocks; nothing is taken afterwards.
  virtual void stop() {}
};

class NoNotifier final : public Notifier {
 public:
  bool enabled() const override { return false; }
  void notify(const Event&) noexcept override {}
};

}  // namespace imagecache::events
