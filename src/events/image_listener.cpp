#include "events/image_listener.hpp"

#include <pthread.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::events {
namespace {

using Json = nlohmann::json;

constexpr const char* room_name = "events";
constexpr std::size_t body_limit_bytes = 1 << 20;
constexpr std::chrono::milliseconds idle_wait{5000};

Json parse(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_object() ? json : Json();
}

std::string text_at(const Json& json, const char* key) {
  if (!json.is_object()) return {};
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::optional<ImageHint> image_hint_of(std::string_view body) {
  if (body.size() > body_limit_bytes) return std::nullopt;
  Json message = parse(body);
  // oslo_messaging/_drivers/common.py serialize_msg(): the message is a text in the envelope.
  if (const std::string inside = text_at(message, "oslo.message"); !inside.empty()) message = parse(inside);
  const std::string event = text_at(message, "event_type");
  // glance/notifier.py. What is made or downloaded changes nothing that could be here already.
  static constexpr std::array<std::string_view, 7> telling{
      "image.delete",        "image.update",        "image.deactivate",   "image.reactivate",
      "image.member.create", "image.member.update", "image.member.delete"};
  if (std::ranges::find(telling, event) == telling.end()) return std::nullopt;
  const auto payload = message.find("payload");
  if (payload == message.end()) return std::nullopt;
  const std::string id = base::to_lower(text_at(*payload, event.starts_with("image.member.") ? "image_id" : "id"));
  if (!base::is_uuid(id)) return std::nullopt;
  return ImageHint{.image_id = id, .deleted = event == "image.delete"};
}

ImageListener::ImageListener(Backoff::Options options, std::unique_ptr<Subscription> subscription, Counters& counters,
                             Sink sink)
    : subscription_(std::move(subscription)), counters_(counters), sink_(std::move(sink)), backoff_(options) {
  thread_ = std::jthread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "listen");
}

ImageListener::~ImageListener() {
  stop();
}

void ImageListener::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  // Nothing is owed to the bus: what blocks is ended.
  subscription_->abort();
  if (thread_.joinable()) thread_.join();
}

bool ImageListener::is_stopping() {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

void ImageListener::run() {
  bool complained = false;
  while (!is_stopping()) {
    Result<void> connected = subscription_->connect();
    if (connected) {
      complained = false;
      base::log::info(room_name, nullptr, "Glance's notifications are heard from {}", subscription_->name());
      listen();
    } else if (!is_stopping() && !std::exchange(complained, true)) {
      base::log::warning(room_name, nullptr, "Glance's notifications are not heard: {}; tried again until it works",
                         connected.error().message);
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, backoff_.next(), [this] { return stopping_; });
  }
  subscription_->disconnect();
}

void ImageListener::listen() {
  while (!is_stopping()) {
    const Result<std::vector<std::string>> bodies = subscription_->wait(idle_wait);
    if (!bodies) {
      if (!is_stopping())
        base::log::warning(room_name, nullptr, "Glance's notifications are not heard any more: {}",
                           bodies.error().message);
      return;
    }
    for (const std::string& body : *bodies) {
      backoff_.reset();
      const std::optional<ImageHint> hint = image_hint_of(body);
      ++(hint ? counters_.image_hints_heard : counters_.image_hints_ignored);
      if (hint) sink_(*hint);
    }
  }
}

}  // namespace imagecache::events
