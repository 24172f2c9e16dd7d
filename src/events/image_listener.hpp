// What Glance tells of its images on the message bus (glance/notifier.py), as hints: whoever may write to the bus may
// say anything, so a hint is a reason to ask the origin about an image, and never more.
//
// One thread of its own, which alone calls the subscription and the sink. A bus that is away is tried again after ever
// longer; what is told meanwhile is not heard.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "events/backoff.hpp"
#include "events/counters.hpp"
#include "events/subscription.hpp"

namespace imagecache::events {

struct ImageHint {
  std::string image_id;  ///< a uuid, in lower case
  bool deleted = false;  ///< it is said to be deleted; else to be another than it was, or for others
};

/// Of a message in oslo.messaging's wire format, with or without envelope. Nothing: it is none, or says nothing of an
/// image that there may be something of here.
std::optional<ImageHint> image_hint_of(std::string_view body);

class ImageListener {
 public:
  /// Must not block for long.
  using Sink = std::function<void(const ImageHint&)>;

  /// Starts the thread.
  ImageListener(Backoff::Options options, std::unique_ptr<Subscription> subscription, Counters& counters, Sink sink);
  ~ImageListener();
  ImageListener(const ImageListener&) = delete;
  ImageListener& operator=(const ImageListener&) = delete;

  /// The sink is not called any more once it has returned. Later calls do nothing.
  void stop();

 private:
  void run();
  void listen();
  bool is_stopping();

  const std::unique_ptr<Subscription> subscription_;
  Counters& counters_;
  const Sink sink_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // protected by mutex_
  Backoff backoff_;        // the thread's own
  std::jthread thread_;
};

}  // namespace imagecache::events
