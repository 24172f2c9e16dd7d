#include "events/rabbit.hpp"

#include <fmt/format.h>

#include <set>

#include "base/try.hpp"
#include "events/rabbit_connection.hpp"

namespace imagecache::events {
namespace {

constexpr std::uint8_t persistent = 2;  // kombu's default, whether the queue is durable or not

amqp_table_entry_t number_entry(const char* key, std::int64_t value) {
  amqp_table_entry_t made{};
  made.key = amqp_cstring_bytes(key);
  made.value.kind = AMQP_FIELD_KIND_I64;
  made.value.value.i64 = value;
  return made;
}

class RabbitBroker final : public Broker {
 public:
  explicit RabbitBroker(RabbitOptions options) : connection_(std::move(options)) {}

  Result<void> connect() override {
    declared_.clear();
    return connection_.connect([this]() -> Result<void> {
      amqp_confirm_select(connection_.get(), rabbit_channel);
      Result<void> answer = connection_.answer("confirms");
      amqp_maybe_release_buffers(connection_.get());
      return answer;
    });
  }

  Result<void> publish(const Message& message) override {
    if (!declared_.contains(message.routing_key)) IMAGECACHE_CHECK(declare(message.routing_key));
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                        AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_HEADERS_FLAG;
    properties.content_type = rabbit_bytes("application/json");
    properties.content_encoding = rabbit_bytes("utf-8");
    properties.delivery_mode = persistent;
    properties.priority = 0;
    return rabbit_check(
        amqp_basic_publish(connection_.get(), rabbit_channel, rabbit_bytes(connection_.options().exchange),
                           rabbit_bytes(message.routing_key), 0, 0, &properties, rabbit_bytes(message.body)));
  }

  Result<std::vector<Confirm>> wait(std::chrono::milliseconds time) override {
    std::vector<Confirm> confirms;
    IMAGECACHE_CHECK(read_frames(confirms));
    if (confirms.empty()) {
      connection_.wait(time);
      IMAGECACHE_CHECK(read_frames(confirms));
    }
    amqp_maybe_release_buffers(connection_.get());
    return confirms;
  }

  void disconnect() override { connection_.disconnect(); }
  void wake() override { connection_.wake(); }
  void abort() override { connection_.abort(); }
  std::string name() const override { return connection_.name(); }

 private:
  Result<void> declare(const std::string& routing_key) {
    const RabbitOptions& options = connection_.options();
    const amqp_boolean_t durable = options.durable || options.quorum_queue ? 1 : 0;
    const amqp_boolean_t auto_delete = options.auto_delete ? 1 : 0;
    IMAGECACHE_CHECK(connection_.declare_exchange(options.exchange));
    std::vector<amqp_table_entry_t> arguments;
    if (options.ha_queues) arguments.push_back(rabbit_entry("x-ha-policy", "all"));
    if (options.quorum_queue) {
      arguments.push_back(rabbit_entry("x-queue-type", "quorum"));
      const auto add = [&](const char* key, std::int64_t value) {
        if (value != 0) arguments.push_back(number_entry(key, value));
      };
      add("x-delivery-limit", options.quorum_delivery_limit);
      add("x-max-in-memory-length", options.quorum_max_memory_length);
      add("x-max-in-memory-bytes", options.quorum_max_memory_bytes);
    }
    const amqp_table_t table{.num_entries = static_cast<int>(arguments.size()), .entries = arguments.data()};
    amqp_queue_declare(connection_.get(), rabbit_channel, rabbit_bytes(routing_key), 0, durable, 0, auto_delete, table);
    IMAGECACHE_CHECK(connection_.answer("queue " + routing_key));
    amqp_queue_bind(connection_.get(), rabbit_channel, rabbit_bytes(routing_key), rabbit_bytes(options.exchange),
                    rabbit_bytes(routing_key), amqp_empty_table);
    IMAGECACHE_CHECK(connection_.answer("binding of queue " + routing_key));
    declared_.insert(routing_key);
    return {};
  }

  Result<void> read_frames(std::vector<Confirm>& confirms) {
    for (;;) {
      const Result<amqp_frame_t> frame = connection_.next_frame();
      if (!frame && frame.error().code == Errc::not_found) return {};
      if (!frame) return std::unexpected(frame.error());
      if (frame->frame_type != AMQP_FRAME_METHOD) continue;
      const amqp_method_t& method = frame->payload.method;
      if (method.id == AMQP_BASIC_ACK_METHOD) {
        const auto* ack = static_cast<const amqp_basic_ack_t*>(method.decoded);
        confirms.push_back({.number = ack->delivery_tag, .and_all_before = ack->multiple != 0, .taken = true});
      } else if (method.id == AMQP_BASIC_NACK_METHOD) {
        const auto* nack = static_cast<const amqp_basic_nack_t*>(method.decoded);
        confirms.push_back({.number = nack->delivery_tag, .and_all_before = nack->multiple != 0, .taken = false});
      }
    }
  }

  RabbitConnection connection_;
  std::set<std::string> declared_;  // on this connection
};

}  // namespace

std::unique_ptr<Broker> make_rabbit_broker(RabbitOptions options) {
  return std::make_unique<RabbitBroker>(std::move(options));
}

}  // namespace imagecache::events
