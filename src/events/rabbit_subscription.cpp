// Listening to what others publish, without taking it from those who listen as well: a queue of our own, which RabbitMQ
// names, bounds, and drops with the connection, so that nothing piles up for a service that is not there.
#include <fmt/format.h>

#include <array>

#include "base/try.hpp"
#include "events/rabbit_connection.hpp"

namespace imagecache::events {
namespace {

constexpr std::size_t batch = 64;
constexpr std::uint64_t body_limit_bytes = 1 << 20;  // an image's properties are some kilobytes

class RabbitSubscription final : public Subscription {
 public:
  RabbitSubscription(RabbitOptions options, SubscriptionOptions wanted)
      : connection_(std::move(options)), wanted_(std::move(wanted)) {}

  Result<void> connect() override {
    missing_bytes_ = 0;
    return connection_.connect([this] { return subscribe(); });
  }

  Result<std::vector<std::string>> wait(std::chrono::milliseconds time) override {
    std::vector<std::string> bodies;
    IMAGECACHE_CHECK(read_frames(bodies));
    if (bodies.empty()) {
      connection_.wait(time);
      IMAGECACHE_CHECK(read_frames(bodies));
    }
    amqp_maybe_release_buffers(connection_.get());
    return bodies;
  }

  void disconnect() override { connection_.disconnect(); }
  void wake() override { connection_.wake(); }
  void abort() override { connection_.abort(); }
  std::string name() const override { return connection_.name(); }

 private:
  Result<void> subscribe() {
    IMAGECACHE_CHECK(have_exchange());
    amqp_table_entry_t limit{};
    limit.key = amqp_cstring_bytes("x-max-length");
    limit.value.kind = AMQP_FIELD_KIND_I64;
    limit.value.value.i64 = static_cast<std::int64_t>(wanted_.queue_limit);
    const amqp_table_t arguments{.num_entries = 1, .entries = &limit};
    const auto* queue = amqp_queue_declare(connection_.get(), rabbit_channel, amqp_empty_bytes, 0, 0, 1, 1, arguments);
    IMAGECACHE_CHECK(connection_.answer("a queue of our own"));
    const std::string name(static_cast<const char*>(queue->queue.bytes), queue->queue.len);
    for (const std::string& key : wanted_.routing_keys) {
      amqp_queue_bind(connection_.get(), rabbit_channel, rabbit_bytes(name), rabbit_bytes(wanted_.exchange),
                      rabbit_bytes(key), amqp_empty_table);
      IMAGECACHE_CHECK(connection_.answer(fmt::format("binding to {} of exchange {}", key, wanted_.exchange)));
    }
    // Without acknowledgements: what is lost with the connection is as what was published without one.
    amqp_basic_consume(connection_.get(), rabbit_channel, rabbit_bytes(name), amqp_empty_bytes, 0, 1, 1,
                       amqp_empty_table);
    Result<void> begun = connection_.answer("consuming");
    amqp_maybe_release_buffers(connection_.get());
    return begun;
  }

  /// Never made here: it would be durable, or not, as our options say, and whoever publishes to it by others would be
  /// refused from then on.
  Result<void> have_exchange() {
    amqp_exchange_declare(connection_.get(), rabbit_channel, rabbit_bytes(wanted_.exchange), rabbit_bytes("topic"), 1,
                          0, 0, 0, amqp_empty_table);
    Result<void> there = connection_.answer("exchange " + wanted_.exchange);
    if (there) return there;
    return fail(there.error().code, there.error().message + " (it is made by whoever publishes there first)");
  }

  Result<void> read_frames(std::vector<std::string>& bodies) {
    while (bodies.size() < batch) {
      const Result<amqp_frame_t> frame = connection_.next_frame();
      if (!frame && frame.error().code == Errc::not_found) return {};
      if (!frame) return std::unexpected(frame.error());
      if (frame->frame_type == AMQP_FRAME_METHOD && frame->payload.method.id == AMQP_BASIC_CANCEL_METHOD)
        return fail(Errc::unavailable, "our queue was deleted");
      if (frame->frame_type == AMQP_FRAME_HEADER) {
        body_.clear();
        missing_bytes_ = frame->payload.properties.body_size;
        is_too_large_ = missing_bytes_ > body_limit_bytes;
      } else if (frame->frame_type == AMQP_FRAME_BODY) {
        const amqp_bytes_t piece = frame->payload.body_fragment;
        if (piece.len > missing_bytes_) return fail(Errc::corrupt, "a message longer than it says");
        if (!is_too_large_) body_.append(static_cast<const char*>(piece.bytes), piece.len);
        missing_bytes_ -= piece.len;
        if (missing_bytes_ == 0) bodies.push_back(std::move(body_));  // empty where it was too large
      }
    }
    return {};
  }

  RabbitConnection connection_;
  const SubscriptionOptions wanted_;
  // Of the message that is coming.
  std::string body_;
  std::uint64_t missing_bytes_ = 0;
  bool is_too_large_ = false;
};

}  // namespace

std::unique_ptr<Subscription> make_rabbit_subscription(RabbitOptions options, SubscriptionOptions wanted) {
  return std::make_unique<RabbitSubscription>(std::move(options), std::move(wanted));
}

}  // namespace imagecache::events
