#include "events/rabbit.hpp"

#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <random>
#include <set>

#include "base/fd.hpp"
#include "base/try.hpp"

namespace imagecache::events {
namespace {

constexpr amqp_channel_t channel = 1;
constexpr int frame_max_bytes = 131072;
constexpr std::uint8_t persistent = 2;  // kombu's default, whether the queue is durable or not

/// Borrows.
amqp_bytes_t bytes(std::string_view text) {
  return {.len = text.size(), .bytes = const_cast<char*>(text.data())};
}

std::string text_of(amqp_bytes_t from) {
  return {static_cast<const char*>(from.bytes), from.len};
}

timeval to_timeval(std::chrono::milliseconds time) {
  return {.tv_sec = static_cast<time_t>(time.count() / 1000),
          .tv_usec = static_cast<suseconds_t>(time.count() % 1000 * 1000)};
}

/// What the broker says when it closes a channel or a connection; the layouts of the two are alike.
std::string closing_words(const amqp_method_t& method) {
  if (method.id == AMQP_CHANNEL_CLOSE_METHOD)
    return text_of(static_cast<const amqp_channel_close_t*>(method.decoded)->reply_text);
  if (method.id == AMQP_CONNECTION_CLOSE_METHOD)
    return text_of(static_cast<const amqp_connection_close_t*>(method.decoded)->reply_text);
  return fmt::format("unexpected {}", amqp_method_name(method.id));
}

Result<void> check(const amqp_rpc_reply_t& reply) {
  switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
      return {};
    case AMQP_RESPONSE_SERVER_EXCEPTION:
      return fail(Errc::unavailable, closing_words(reply.reply));
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
      return fail(Errc::unavailable, amqp_error_string2(reply.library_error));
    case AMQP_RESPONSE_NONE:
      break;
  }
  return fail(Errc::unavailable, "no answer");
}

Result<void> check(int status) {
  if (status == AMQP_STATUS_OK) return {};
  return fail(Errc::unavailable, amqp_error_string2(status));
}

amqp_table_entry_t entry(const char* key, const char* value) {
  amqp_table_entry_t made{};
  made.key = amqp_cstring_bytes(key);
  made.value.kind = AMQP_FIELD_KIND_UTF8;
  made.value.value.bytes = amqp_cstring_bytes(value);
  return made;
}

amqp_table_entry_t entry(const char* key, std::int64_t value) {
  amqp_table_entry_t made{};
  made.key = amqp_cstring_bytes(key);
  made.value.kind = AMQP_FIELD_KIND_I64;
  made.value.value.i64 = value;
  return made;
}

struct Closer {
  // Without a farewell: the library's would wait for the broker's.
  void operator()(amqp_connection_state_t_* connection) const { amqp_destroy_connection(connection); }
};
using Connection = std::unique_ptr<amqp_connection_state_t_, Closer>;

class RabbitBroker final : public Broker {
 public:
  explicit RabbitBroker(RabbitOptions options) : options_(std::move(options)) {
    // As oslo.messaging: many services with the same URL do not all choose the same host.
    std::ranges::shuffle(options_.url.hosts, std::minstd_rand(std::random_device()()));
    wake_ = base::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }
  ~RabbitBroker() override { drop(); }

  Result<void> connect() override {
    drop();
    Result<void> result = fail(Errc::cancelled, "the service ends");
    for (std::size_t i = 0; i < options_.url.hosts.size(); ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (aborted_) return fail(Errc::cancelled, name() + ": the service ends");
      }
      result = connect_to(options_.url.hosts[host_]);
      if (result) return result;
      result = fail(result.error().code, fmt::format("RabbitMQ at {}: {}", name(), result.error().message));
      drop();
      {
        const std::lock_guard lock(mutex_);
        host_ = (host_ + 1) % options_.url.hosts.size();
      }
    }
    return result;
  }

  Result<void> publish(const Message& message) override {
    if (!declared_.contains(message.routing_key)) IMAGECACHE_CHECK(declare(message.routing_key));
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                        AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_HEADERS_FLAG;
    properties.content_type = bytes("application/json");
    properties.content_encoding = bytes("utf-8");
    properties.delivery_mode = persistent;
    properties.priority = 0;
    return check(amqp_basic_publish(connection_.get(), channel, bytes(options_.exchange), bytes(message.routing_key), 0,
                                    0, &properties, bytes(message.body)));
  }

  Result<std::vector<Confirm>> wait(std::chrono::milliseconds time) override {
    std::vector<Confirm> confirms;
    IMAGECACHE_CHECK(read_frames(confirms));
    if (confirms.empty()) {
      poll_until_something(time);
      IMAGECACHE_CHECK(read_frames(confirms));
    }
    amqp_maybe_release_buffers(connection_.get());
    return confirms;
  }

  void disconnect() override {
    if (!connection_) return;
    const timeval time = to_timeval(std::chrono::seconds(1));
    amqp_set_rpc_timeout(connection_.get(), &time);
    static_cast<void>(amqp_connection_close(connection_.get(), AMQP_REPLY_SUCCESS));
    drop();
  }

  void wake() override {
    const std::uint64_t one = 1;
    static_cast<void>(::write(wake_.get(), &one, sizeof one) == sizeof one);  // full: it is awake
  }

  void abort() override {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    if (socket_ >= 0) ::shutdown(socket_, SHUT_RDWR);
    wake();
  }

  std::string name() const override {
    const std::lock_guard lock(mutex_);
    const BrokerHost& host = options_.url.hosts[host_];
    return fmt::format("{}:{}{}{}", host.host, host.port, options_.url.virtual_host.starts_with('/') ? "" : "/",
                       options_.url.virtual_host);
  }

 private:
  void drop() {
    const std::lock_guard lock(mutex_);
    socket_ = -1;
    connection_.reset();
    declared_.clear();
  }

  Result<void> connect_to(const BrokerHost& host) {
    Connection connection(amqp_new_connection());
    if (!connection) return fail(Errc::internal, "out of memory");
    const timeval timeout = to_timeval(options_.connect_timeout);
    amqp_set_handshake_timeout(connection.get(), &timeout);
    amqp_set_rpc_timeout(connection.get(), &timeout);
    amqp_socket_t* socket =
        options_.tls ? amqp_ssl_socket_new(connection.get()) : amqp_tcp_socket_new(connection.get());
    if (socket == nullptr) return fail(Errc::internal, "out of memory");
    if (options_.tls) IMAGECACHE_CHECK(set_up_tls(socket, host.host));
    IMAGECACHE_CHECK(check(amqp_socket_open_noblock(socket, host.host.c_str(), host.port, &timeout)));
    {
      const std::lock_guard lock(mutex_);
      connection_ = std::move(connection);
      socket_ = amqp_get_sockfd(connection_.get());
      if (aborted_) return fail(Errc::cancelled, "the service ends");
    }
    IMAGECACHE_CHECK(check(login(host)));
    amqp_channel_open(connection_.get(), channel);
    IMAGECACHE_CHECK(check(amqp_get_rpc_reply(connection_.get())));
    amqp_confirm_select(connection_.get(), channel);
    IMAGECACHE_CHECK(check(amqp_get_rpc_reply(connection_.get())));
    heartbeat_ = std::chrono::seconds(amqp_get_heartbeat(connection_.get()));
    amqp_maybe_release_buffers(connection_.get());
    return {};
  }

  Result<void> set_up_tls(amqp_socket_t* socket, const std::string& host) {
    amqp_ssl_socket_set_verify_peer(socket, options_.ca_file.empty() ? 0 : 1);
    // librabbitmq's own check knows no certificates for addresses; OpenSSL's does.
    amqp_ssl_socket_set_verify_hostname(socket, 0);
    if (!options_.ca_file.empty() && options_.verify_hostname) {
      X509_VERIFY_PARAM* wanted = SSL_CTX_get0_param(static_cast<SSL_CTX*>(amqp_ssl_socket_get_context(socket)));
      if (X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) != 1 &&
          X509_VERIFY_PARAM_set1_host(wanted, host.c_str(), host.size()) != 1)
        return fail(Errc::internal, "OpenSSL does not take " + host + " as a name to check");
    }
    amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST);
    if (!options_.ca_file.empty() && amqp_ssl_socket_set_cacert(socket, options_.ca_file.c_str()) != AMQP_STATUS_OK)
      return fail(Errc::invalid_argument, "ssl_ca_file " + options_.ca_file + " cannot be read as certificates");
    if (!options_.cert_file.empty()) {
      const std::string& key = options_.key_file.empty() ? options_.cert_file : options_.key_file;
      if (amqp_ssl_socket_set_key(socket, options_.cert_file.c_str(), key.c_str()) != AMQP_STATUS_OK)
        return fail(Errc::invalid_argument,
                    "ssl_cert_file " + options_.cert_file + " and ssl_key_file " + key + " are no certificate and key");
    }
    return {};
  }

  amqp_rpc_reply_t login(const BrokerHost& host) {
    std::array entries{entry("product", "cinder-image-cache"), entry("connection_name", "cinder-image-cache")};
    const amqp_table_t properties{.num_entries = static_cast<int>(entries.size()), .entries = entries.data()};
    const char* virtual_host = options_.url.virtual_host.c_str();
    const auto heartbeat = static_cast<int>(options_.heartbeat.count());
    if (options_.login_external)
      return amqp_login_with_properties(connection_.get(), virtual_host, 0, frame_max_bytes, heartbeat, &properties,
                                        AMQP_SASL_METHOD_EXTERNAL, host.user.c_str());
    return amqp_login_with_properties(connection_.get(), virtual_host, 0, frame_max_bytes, heartbeat, &properties,
                                      AMQP_SASL_METHOD_PLAIN, host.user.c_str(), host.password.c_str());
  }

  Result<void> declare(const std::string& routing_key) {
    const amqp_boolean_t durable = options_.durable || options_.quorum_queue ? 1 : 0;
    const amqp_boolean_t auto_delete = options_.auto_delete ? 1 : 0;
    const auto answer = [&](std::string_view what) -> Result<void> {
      Result<void> made = check(amqp_get_rpc_reply(connection_.get()));
      if (made) return made;
      return fail(made.error().code, fmt::format("{}: {}", what, made.error().message));
    };
    amqp_exchange_declare(connection_.get(), channel, bytes(options_.exchange), bytes("topic"), 0, durable, auto_delete,
                          0, amqp_empty_table);
    IMAGECACHE_CHECK(answer("exchange " + options_.exchange));
    std::vector<amqp_table_entry_t> arguments;
    if (options_.ha_queues) arguments.push_back(entry("x-ha-policy", "all"));
    if (options_.quorum_queue) {
      arguments.push_back(entry("x-queue-type", "quorum"));
      const auto add = [&](const char* key, std::int64_t value) {
        if (value != 0) arguments.push_back(entry(key, value));
      };
      add("x-delivery-limit", options_.quorum_delivery_limit);
      add("x-max-in-memory-length", options_.quorum_max_memory_length);
      add("x-max-in-memory-bytes", options_.quorum_max_memory_bytes);
    }
    const amqp_table_t table{.num_entries = static_cast<int>(arguments.size()), .entries = arguments.data()};
    amqp_queue_declare(connection_.get(), channel, bytes(routing_key), 0, durable, 0, auto_delete, table);
    IMAGECACHE_CHECK(answer("queue " + routing_key));
    amqp_queue_bind(connection_.get(), channel, bytes(routing_key), bytes(options_.exchange), bytes(routing_key),
                    amqp_empty_table);
    IMAGECACHE_CHECK(answer("binding of queue " + routing_key));
    declared_.insert(routing_key);
    return {};
  }

  /// Also where heartbeats are sent and the broker's are missed.
  Result<void> read_frames(std::vector<Confirm>& confirms) {
    for (;;) {
      amqp_frame_t frame{};
      const timeval now{};
      const int status = amqp_simple_wait_frame_noblock(connection_.get(), &frame, &now);
      if (status == AMQP_STATUS_TIMEOUT) return {};
      IMAGECACHE_CHECK(check(status));
      if (frame.frame_type != AMQP_FRAME_METHOD) continue;
      const amqp_method_t& method = frame.payload.method;
      if (method.id == AMQP_BASIC_ACK_METHOD) {
        const auto* ack = static_cast<const amqp_basic_ack_t*>(method.decoded);
        confirms.push_back({.number = ack->delivery_tag, .and_all_before = ack->multiple != 0, .taken = true});
      } else if (method.id == AMQP_BASIC_NACK_METHOD) {
        const auto* nack = static_cast<const amqp_basic_nack_t*>(method.decoded);
        confirms.push_back({.number = nack->delivery_tag, .and_all_before = nack->multiple != 0, .taken = false});
      } else if (method.id == AMQP_CHANNEL_CLOSE_METHOD || method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        return fail(Errc::unavailable, closing_words(method));
      }
    }
  }

  void poll_until_something(std::chrono::milliseconds time) {
    if (heartbeat_.count() > 0) {
      time = std::min(time, std::chrono::duration_cast<std::chrono::milliseconds>(heartbeat_) / 4);
    }
    std::array<pollfd, 2> watched{{{.fd = amqp_get_sockfd(connection_.get()), .events = POLLIN, .revents = 0},
                                   {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
    static_cast<void>(::poll(watched.data(), watched.size(), static_cast<int>(time.count())));
    std::uint64_t count = 0;
    static_cast<void>(::read(wake_.get(), &count, sizeof count));
  }

  RabbitOptions options_;
  base::Fd wake_;
  std::set<std::string> declared_;  // on this connection
  std::chrono::seconds heartbeat_{0};

  mutable std::mutex mutex_;
  // Written under mutex_; the thread that connects reads its own without.
  Connection connection_;
  std::size_t host_ = 0;
  int socket_ = -1;
  bool aborted_ = false;
};

}  // namespace

std::unique_ptr<Broker> make_rabbit_broker(RabbitOptions options) {
  return std::make_unique<RabbitBroker>(std::move(options));
}

}  // namespace imagecache::events
