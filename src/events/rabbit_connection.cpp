#include "events/rabbit_connection.hpp"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <system_error>

#include "base/try.hpp"

namespace imagecache::events {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int frame_max_bytes = 131072;

std::string text_of(amqp_bytes_t from) {
  return {static_cast<const char*>(from.bytes), from.len};
}

timeval to_timeval(milliseconds time) {
  return {.tv_sec = static_cast<time_t>(time.count() / 1000),
          .tv_usec = static_cast<suseconds_t>(time.count() % 1000 * 1000)};
}

Result<void> check(const amqp_rpc_reply_t& reply) {
  switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
      return {};
    case AMQP_RESPONSE_SERVER_EXCEPTION:
      return fail(Errc::unavailable, rabbit_closing_words(reply.reply));
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
      return rabbit_check(reply.library_error);
    case AMQP_RESPONSE_NONE:
      break;
  }
  return fail(Errc::unavailable, "no answer");
}

void clear(const base::Fd& event) {
  std::uint64_t count = 0;
  static_cast<void>(::read(event.get(), &count, sizeof count));
}

std::string words_of(int error) {
  return std::generic_category().message(error);
}

/// Waits until the connection that was begun is there; looks up at each wake.
Result<void> wait_connected(const base::Fd& socket, const base::Fd& wake, steady_clock::time_point until,
                            const std::function<bool()>& is_aborted) {
  for (;;) {
    if (is_aborted()) return fail(Errc::cancelled, "the service ends");
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) return fail(Errc::timeout, "no connection in time");
    std::array<pollfd, 2> watched{
        {{.fd = socket.get(), .events = POLLOUT, .revents = 0}, {.fd = wake.get(), .events = POLLIN, .revents = 0}}};
    static_cast<void>(::poll(watched.data(), watched.size(), static_cast<int>(left.count())));
    if (watched[1].revents != 0) clear(wake);
    if (watched[0].revents == 0) continue;
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return fail(Errc::unavailable, words_of(error));
    return {};
  }
}

/// A TCP connection, as the library's own but that it can be called off.
Result<base::Fd> dial(const BrokerHost& host, const base::Fd& wake, milliseconds timeout,
                      const std::function<bool()>& is_aborted) {
  const addrinfo wanted{.ai_flags = AI_NUMERICSERV, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int status = ::getaddrinfo(host.host.c_str(), std::to_string(host.port).c_str(), &wanted, &found);
      status != 0)
    return fail(Errc::unavailable, ::gai_strerror(status));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  const auto until = steady_clock::now() + timeout;
  Result<base::Fd> result = fail(Errc::unavailable, "it has no address");
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    base::Fd socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (::connect(socket.get(), address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
      result = fail(Errc::unavailable, words_of(errno));
      continue;
    }
    if (Result<void> there = wait_connected(socket, wake, until, is_aborted); there)
      return socket;
    else
      result = std::unexpected(there.error());
    if (result.error().code != Errc::unavailable) break;
  }
  return result;
}

}  // namespace

amqp_table_entry_t rabbit_entry(const char* key, const char* value) {
  amqp_table_entry_t made{};
  made.key = amqp_cstring_bytes(key);
  made.value.kind = AMQP_FIELD_KIND_UTF8;
  made.value.value.bytes = amqp_cstring_bytes(value);
  return made;
}

amqp_bytes_t rabbit_bytes(std::string_view text) {
  return {.len = text.size(), .bytes = const_cast<char*>(text.data())};
}

Result<void> rabbit_check(int status) {
  if (status == AMQP_STATUS_OK) return {};
  return fail(Errc::unavailable, amqp_error_string2(status));
}

std::string rabbit_closing_words(const amqp_method_t& method) {
  // The layouts of the two are alike.
  if (method.id == AMQP_CHANNEL_CLOSE_METHOD)
    return text_of(static_cast<const amqp_channel_close_t*>(method.decoded)->reply_text);
  if (method.id == AMQP_CONNECTION_CLOSE_METHOD)
    return text_of(static_cast<const amqp_connection_close_t*>(method.decoded)->reply_text);
  return fmt::format("unexpected {}", amqp_method_name(method.id));
}

RabbitConnection::RabbitConnection(RabbitOptions options) : options_(std::move(options)) {
  // As oslo.messaging: many services with the same URL do not all choose the same host.
  std::ranges::shuffle(options_.url.hosts, std::minstd_rand(std::random_device()()));
  wake_ = base::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

RabbitConnection::~RabbitConnection() {
  drop();
}

Result<void> RabbitConnection::connect(const std::function<Result<void>()>& set_up) {
  drop();
  Result<void> result = fail(Errc::cancelled, "the service ends");
  for (std::size_t i = 0; i < options_.url.hosts.size(); ++i) {
    if (is_aborted()) return fail(Errc::cancelled, name() + ": the service ends");
    result = connect_to(options_.url.hosts[host_]);
    if (result) result = set_up();
    if (result) return result;
    result = fail(result.error().code, fmt::format("RabbitMQ at {}: {}", name(), result.error().message));
    drop();
    const std::lock_guard lock(mutex_);
    host_ = (host_ + 1) % options_.url.hosts.size();
  }
  return result;
}

void RabbitConnection::disconnect() {
  if (!connection_) return;
  const timeval time = to_timeval(std::chrono::seconds(1));
  amqp_set_rpc_timeout(connection_.get(), &time);
  static_cast<void>(amqp_connection_close(connection_.get(), AMQP_REPLY_SUCCESS));
  drop();
}

void RabbitConnection::drop() {
  const std::lock_guard lock(mutex_);
  socket_ = base::Fd();
  connection_.reset();
}

Result<void> RabbitConnection::connect_to(const BrokerHost& host) {
  std::unique_ptr<amqp_connection_state_t_, Closer> connection(amqp_new_connection());
  if (!connection) return fail(Errc::internal, "out of memory");
  const timeval timeout = to_timeval(options_.connect_timeout);
  amqp_set_handshake_timeout(connection.get(), &timeout);
  amqp_set_rpc_timeout(connection.get(), &timeout);
  amqp_socket_t* socket = options_.tls ? amqp_ssl_socket_new(connection.get()) : amqp_tcp_socket_new(connection.get());
  if (socket == nullptr) return fail(Errc::internal, "out of memory");
  if (options_.tls) {
    IMAGECACHE_CHECK(set_up_tls(socket, host.host));
    // An abort() comes through once there is a TCP connection.
    IMAGECACHE_CHECK(rabbit_check(amqp_socket_open_noblock(socket, host.host.c_str(), host.port, &timeout)));
  } else {
    IMAGECACHE_TRY(base::Fd dialled, dial(host, wake_, options_.connect_timeout, [this] { return is_aborted(); }));
    amqp_tcp_socket_set_sockfd(socket, dialled.release());
  }
  take_socket(amqp_get_sockfd(connection.get()));
  {
    const std::lock_guard lock(mutex_);
    connection_ = std::move(connection);
    if (aborted_) return fail(Errc::cancelled, "the service ends");
  }
  IMAGECACHE_CHECK(check(login(host)));
  IMAGECACHE_CHECK(open_channel());
  heartbeat_ = std::chrono::seconds(amqp_get_heartbeat(connection_.get()));
  return {};
}

Result<void> RabbitConnection::set_up_tls(amqp_socket_t_* socket, const std::string& host) {
  amqp_ssl_socket_set_verify_peer(socket, options_.ca_file.empty() ? 0 : 1);
  // librabbitmq's own check knows no certificates for addresses; OpenSSL's does.
  amqp_ssl_socket_set_verify_hostname(socket, 0);
  auto* context = static_cast<SSL_CTX*>(amqp_ssl_socket_get_context(socket));
  // The library keeps to itself the socket that it waits for in a handshake.
  SSL_CTX_set_app_data(context, this);
  SSL_CTX_set_info_callback(context, [](const SSL* connection, int where, int) {
    if ((where & SSL_CB_HANDSHAKE_START) == 0) return;
    static_cast<RabbitConnection*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)))
        ->take_socket(SSL_get_fd(connection));
  });
  if (!options_.ca_file.empty() && options_.verify_hostname) {
    X509_VERIFY_PARAM* wanted = SSL_CTX_get0_param(context);
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

amqp_rpc_reply_t RabbitConnection::login(const BrokerHost& host) {
  std::array entries{rabbit_entry("product", "cinder-image-cache"),
                     rabbit_entry("connection_name", "cinder-image-cache")};
  const amqp_table_t properties{.num_entries = static_cast<int>(entries.size()), .entries = entries.data()};
  const char* virtual_host = options_.url.virtual_host.c_str();
  const auto heartbeat = static_cast<int>(options_.heartbeat.count());
  if (options_.login_external)
    return amqp_login_with_properties(connection_.get(), virtual_host, 0, frame_max_bytes, heartbeat, &properties,
                                      AMQP_SASL_METHOD_EXTERNAL, host.user.c_str());
  return amqp_login_with_properties(connection_.get(), virtual_host, 0, frame_max_bytes, heartbeat, &properties,
                                    AMQP_SASL_METHOD_PLAIN, host.user.c_str(), host.password.c_str());
}

void RabbitConnection::take_socket(int socket) {
  const std::lock_guard lock(mutex_);
  socket_ = base::Fd(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (aborted_) ::shutdown(socket_.get(), SHUT_RDWR);
}

Result<void> RabbitConnection::open_channel() {
  amqp_channel_open(connection_.get(), rabbit_channel);
  return check(amqp_get_rpc_reply(connection_.get()));
}

Result<void> RabbitConnection::answer(std::string_view what) const {
  Result<void> made = check(amqp_get_rpc_reply(connection_.get()));
  if (made) return made;
  return fail(made.error().code, fmt::format("{}: {}", what, made.error().message));
}

Result<void> RabbitConnection::declare_exchange(const std::string& name) {
  const amqp_boolean_t durable = options_.durable || options_.quorum_queue ? 1 : 0;
  const amqp_boolean_t auto_delete = options_.auto_delete ? 1 : 0;
  amqp_exchange_declare(connection_.get(), rabbit_channel, rabbit_bytes(name), rabbit_bytes("topic"), 0, durable,
                        auto_delete, 0, amqp_empty_table);
  return answer("exchange " + name);
}

Result<amqp_frame_t> RabbitConnection::next_frame() {
  amqp_frame_t frame{};
  const timeval now{};
  const int status = amqp_simple_wait_frame_noblock(connection_.get(), &frame, &now);
  if (status == AMQP_STATUS_TIMEOUT) return fail(Errc::not_found, "nothing has come");
  IMAGECACHE_CHECK(rabbit_check(status));
  if (frame.frame_type == AMQP_FRAME_METHOD &&
      (frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD || frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD))
    return fail(Errc::unavailable, rabbit_closing_words(frame.payload.method));
  return frame;
}

void RabbitConnection::wait(milliseconds time) {
  if (heartbeat_.count() > 0) time = std::min(time, std::chrono::duration_cast<milliseconds>(heartbeat_) / 4);
  std::array<pollfd, 2> watched{{{.fd = amqp_get_sockfd(connection_.get()), .events = POLLIN, .revents = 0},
                                 {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
  static_cast<void>(::poll(watched.data(), watched.size(), static_cast<int>(time.count())));
  clear(wake_);
}

void RabbitConnection::wake() {
  const std::uint64_t one = 1;
  static_cast<void>(::write(wake_.get(), &one, sizeof one) == sizeof one);  // full: it is awake
}

void RabbitConnection::abort() {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
  wake();
}

bool RabbitConnection::is_aborted() const {
  const std::lock_guard lock(mutex_);
  return aborted_;
}

std::string RabbitConnection::name() const {
  const std::lock_guard lock(mutex_);
  const BrokerHost& host = options_.url.hosts[host_];
  return fmt::format("{}:{}{}{}", host.host, host.port, options_.url.virtual_host.starts_with('/') ? "" : "/",
                     options_.url.virtual_host);
}

}  // namespace imagecache::events
