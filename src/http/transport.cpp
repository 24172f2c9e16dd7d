#include "http/transport.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace imagecache::http {
namespace {

error_code from_errno(int number) {
  return {number, boost::system::system_category()};
}
/// What sendfile(2) fails with when the file cannot be read; a socket fails with none of these.
bool is_of_file(int number) {
  switch (number) {
    case EIO:
    case EINVAL:
    case EOVERFLOW:
    case EBADF:
    case ESPIPE:
    case EISDIR:
    case ENXIO:
    case ENODATA:
    case ESTALE:
    case EUCLEAN:
    case EREMOTEIO:
      return true;
    default:
      return false;
  }
}
const error_code timed_out = from_errno(ETIMEDOUT);

}  // namespace

Errc errc_of(const error_code& error) {
  return error == timed_out ? Errc::timeout : Errc::cancelled;
}

// Watchdog

void Watchdog::arm(Direction direction, base::Deadline deadline) {
  deadlines_[static_cast<unsigned>(direction)] = deadline;
  if (deadline < pending_) schedule(deadline);
}

void Watchdog::schedule(base::Deadline at) {
  pending_ = at;
  timer_.expires_at(at);
  timer_.async_wait([self = shared_from_this(), mine = ++generation_](error_code error) {
    if (!error && mine == self->generation_) self->ring();
  });
}

void Watchdog::ring() {
  pending_ = base::never;
  if (!socket_) return;
  const auto now = std::chrono::steady_clock::now();
  auto next = base::never;
  bool late = false;
  for (const auto deadline : deadlines_) {
    if (deadline <= now) {
      late = true;
    } else {
      next = std::min(next, deadline);
    }
  }
  // Whoever waits in the other direction sees that it is not his deadline, and waits on.
  if (late) {
    error_code ignored;
    socket_->cancel(ignored);
  }
  if (next != base::never) schedule(next);
}

void Watchdog::forget() {
  socket_ = nullptr;
  ++generation_;
  timer_.cancel();
}

// Transport

Transport::Transport(Socket socket, SslPtr ssl)
    : socket_(std::move(socket)), ssl_(std::move(ssl)), watchdog_(std::make_shared<Watchdog>(socket_)) {
  error_code ignored;
  if (socket_.is_open()) socket_.native_non_blocking(true, ignored);
}

Transport::~Transport() {
  watchdog_->forget();
}

void Transport::count(Direction direction, std::size_t bytes, const Patience& patience) {
  auto& moved = moved_[static_cast<unsigned>(direction)];
  moved += bytes;
  if (moved >= patience.min_bytes) {
    moved = 0;
    waited_[static_cast<unsigned>(direction)] = {};
  }
}

base::Task<error_code> Transport::wait(Want want, Direction direction, base::Deadline& deadline) {
  for (;;) {
    if (aborted_) co_return from_errno(ECONNABORTED);
    watchdog_->arm(direction, deadline);
    waiting_[static_cast<unsigned>(direction)] = true;
    auto [error] = co_await socket_.async_wait(want == Want::read ? Socket::wait_read : Socket::wait_write, use_tuple);
    waiting_[static_cast<unsigned>(direction)] = false;
    // hurry() may have brought it forward.
    deadline = std::min(deadline, watchdog_->deadline(direction));
    watchdog_->disarm(direction);
    if (aborted_) co_return from_errno(ECONNABORTED);
    if (error != asio::error::operation_aborted) co_return error;
    if (deadline <= std::chrono::steady_clock::now()) co_return timed_out;
  }
}

base::Task<error_code> Transport::wait(Want want, Direction direction, Patience patience) {
  auto& waited = waited_[static_cast<unsigned>(direction)];
  const auto begun = std::chrono::steady_clock::now();
  base::Deadline deadline = begun + std::max(patience.limit - waited, {});
  const auto error = co_await wait(want, direction, deadline);
  waited += std::chrono::steady_clock::now() - begun;
  co_return error;
}

Transport::Step Transport::ssl_step(int result, std::size_t bytes) {
  if (result > 0) return {.bytes = bytes};
  const int saved_errno = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return {.want = Want::read};
    case SSL_ERROR_WANT_WRITE:
      return {.want = Want::write};
    case SSL_ERROR_ZERO_RETURN:
      return {};
    case SSL_ERROR_SYSCALL:
      ssl_failed_ = true;
      ERR_clear_error();
      return {.error = from_errno(saved_errno != 0 ? saved_errno : ECONNRESET)};
    default:
      // The caller of a handshake asks the error queue for the reason.
      ssl_failed_ = true;
      return {.error = from_errno(EPROTO)};
  }
}

Transport::Step Transport::step_read(std::span<char> into) {
  if (aborted_) return {.error = from_errno(ECONNABORTED)};
  if (ssl_) {
    if (ssl_failed_) return {.error = from_errno(EPROTO)};
    ERR_clear_error();
    std::size_t bytes = 0;
    const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &bytes);
    return ssl_step(result, bytes);
  }
  for (;;) {
    const ssize_t n = ::recv(socket_.native_handle(), into.data(), into.size(), 0);
    if (n >= 0) return {.bytes = static_cast<std::size_t>(n)};
    if (errno == EAGAIN) return {.want = Want::read};
    if (errno != EINTR) return {.error = from_errno(errno)};
  }
}

Transport::Step Transport::step_write(std::string_view data, bool more) {
  if (aborted_) return {.error = from_errno(ECONNABORTED)};
  if (ssl_) {
    if (ssl_failed_) return {.error = from_errno(EPROTO)};
    ERR_clear_error();
    std::size_t bytes = 0;
    const int result = SSL_write_ex(ssl_.get(), data.data(), data.size(), &bytes);
    return ssl_step(result, bytes);
  }
  for (;;) {
    const ssize_t n = ::send(socket_.native_handle(), data.data(), data.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (n >= 0) return {.bytes = static_cast<std::size_t>(n)};
    if (errno == EAGAIN) return {.want = Want::write};
    if (errno != EINTR) return {.error = from_errno(errno)};
  }
}

bool Transport::sends_files() const {
  return !ssl_ || BIO_get_ktls_send(SSL_get_wbio(ssl_.get()));
}

Transport::Step Transport::step_sendfile(int fd, std::uint64_t offset, std::size_t count) {
  if (aborted_) return {.error = from_errno(ECONNABORTED)};
  if (ssl_) {
    if (ssl_failed_) return {.error = from_errno(EPROTO)};
    ERR_clear_error();
    errno = 0;
    const ossl_ssize_t n = SSL_sendfile(ssl_.get(), fd, static_cast<off_t>(offset), count, 0);
    const int saved_errno = errno;  // OpenSSL's own reason is the same for every failure
    if (n < 0 && is_of_file(saved_errno)) {
      ssl_failed_ = true;
      ERR_clear_error();
      return {.error = from_errno(saved_errno), .of_file = true};
    }
    return ssl_step(n > 0 ? 1 : static_cast<int>(n), n > 0 ? static_cast<std::size_t>(n) : 0);
  }
  for (;;) {
    auto position = static_cast<off_t>(offset);
    const ssize_t n = ::sendfile(socket_.native_handle(), fd, &position, count);
    if (n >= 0) {
      // Less than was asked: the socket is full, and a second call would only say so.
      const auto bytes = static_cast<std::size_t>(n);
      return {.bytes = bytes, .want = bytes > 0 && bytes < count ? Want::write : Want::nothing};
    }
    if (errno == EAGAIN) return {.want = Want::write};
    if (errno != EINTR) return {.error = from_errno(errno), .of_file = is_of_file(errno)};
  }
}

base::Task<error_code> Transport::connect(const Socket::endpoint_type& endpoint, base::Deadline deadline) {
  error_code error;
  socket_.close(error);
  socket_.open(endpoint.protocol(), error);
  if (!error) socket_.native_non_blocking(true, error);
  if (error) co_return error;
  const int yes = 1;
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (aborted_) co_return from_errno(ECONNABORTED);
  watchdog_->arm(Direction::write, deadline);
  auto [failed] = co_await socket_.async_connect(endpoint, use_tuple);
  watchdog_->disarm(Direction::write);
  if (aborted_) co_return from_errno(ECONNABORTED);
  if (failed == asio::error::operation_aborted) co_return timed_out;
  co_return failed;
}

base::Task<Result<void>> Transport::handshake(base::Deadline deadline) {
  if (SSL_set_fd(ssl_.get(), socket_.native_handle()) != 1) {
    co_return fail(Errc::internal, "TLS: " + take_ssl_reason());
  }
  for (;;) {
    ERR_clear_error();
    const Step step = ssl_step(SSL_do_handshake(ssl_.get()), 0);
    if (step.error || (step.want == Want::nothing && SSL_is_init_finished(ssl_.get()) != 1)) {
      ssl_failed_ = true;
      const long verified = SSL_get_verify_result(ssl_.get());
      const bool by_certificate = verified != X509_V_OK && (SSL_get_verify_mode(ssl_.get()) & SSL_VERIFY_PEER) != 0;
      const std::string reason = ERR_peek_error() != 0 ? take_ssl_reason() : step.error.message();
      co_return fail(Errc::unavailable, "TLS: " + (by_certificate ? X509_verify_cert_error_string(verified) : reason));
    }
    if (step.want == Want::nothing) co_return Result<void>();
    if (const auto error = co_await wait(step.want, Direction::read, deadline); error) {
      ssl_failed_ = true;
      co_return fail(Errc::unavailable, "TLS: the handshake did not end: " + error.message());
    }
  }
}

Moved Transport::try_read(std::span<char> into) {
  const Step step = step_read(into);
  if (step.error) return std::unexpected(step.error);
  if (step.want != Want::nothing) return std::unexpected(error_code(asio::error::would_block));
  return step.bytes;
}

base::Task<Moved> Transport::read_some(std::span<char> into, base::Deadline deadline) {
  for (;;) {
    const Step step = step_read(into);
    if (step.error) co_return std::unexpected(step.error);
    if (step.want == Want::nothing) co_return step.bytes;
    if (const auto error = co_await wait(step.want, Direction::read, deadline); error) co_return std::unexpected(error);
  }
}

base::Task<Moved> Transport::read_some(std::span<char> into, Patience patience) {
  for (;;) {
    const Step step = step_read(into);
    if (step.error) co_return std::unexpected(step.error);
    if (step.want == Want::nothing) {
      count(Direction::read, step.bytes, patience);
      co_return step.bytes;
    }
    if (const auto error = co_await wait(step.want, Direction::read, patience); error) co_return std::unexpected(error);
  }
}

base::Task<bool> Transport::wait_readable(base::Deadline deadline) {
  co_return !co_await wait(Want::read, Direction::read, deadline);
}

base::Task<error_code> Transport::write(std::string_view data, Patience patience, bool more, std::uint64_t* written) {
  while (!data.empty()) {
    const Step step = step_write(data, more);
    if (step.error) co_return step.error;
    if (step.want == Want::nothing) {
      if (step.bytes == 0) co_return from_errno(EPIPE);
      count(Direction::write, step.bytes, patience);
      data.remove_prefix(step.bytes);
      if (written) *written += step.bytes;
    } else if (const auto error = co_await wait(step.want, Direction::write, patience); error) {
      co_return error;
    }
  }
  co_return error_code();
}

void Transport::hurry(Direction direction, base::Deadline deadline) {
  if (waiting_[static_cast<unsigned>(direction)] && deadline < watchdog_->deadline(direction)) {
    watchdog_->arm(direction, deadline);
  }
}

void Transport::abort() {
  aborted_ = true;
  // Only the waits: the descriptor's number must not become another's while OpenSSL knows it.
  error_code ignored;
  socket_.cancel(ignored);
}

void Transport::shutdown_send() {
  if (ssl_ && !ssl_failed_ && !aborted_ && SSL_is_init_finished(ssl_.get()) == 1) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

base::Task<void> Transport::linger(std::uint64_t bytes, std::chrono::steady_clock::duration silence,
                                   base::Deadline deadline) {
  std::vector<char> scratch(16 << 10);
  while (bytes > 0 && !aborted_) {
    const ssize_t n = ::recv(socket_.native_handle(), scratch.data(), scratch.size(), 0);
    if (n == 0) co_return;
    if (n > 0) {
      bytes -= std::min<std::uint64_t>(bytes, static_cast<std::uint64_t>(n));
      if (std::chrono::steady_clock::now() >= deadline) co_return;
    } else if (errno == EAGAIN) {
      base::Deadline until = std::min(deadline, base::in(silence));
      if (co_await wait(Want::read, Direction::read, until)) co_return;
    } else if (errno != EINTR) {
      co_return;
    }
  }
}

void Transport::reset_on_close() {
  // Not by Asio's option, which its destructor takes back.
  const ::linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

bool Transport::has_unread() {
  char byte = 0;
  return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

bool Transport::is_quiet() {
  if (aborted_ || !socket_.is_open()) return false;
  if (ssl_) {
    // Session tickets may lie there; content may not.
    if (ssl_failed_) return false;
    char byte = 0;
    const Step step = step_read({&byte, 1});
    return step.want == Want::read;
  }
  char byte = 0;
  return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

}  // namespace imagecache::http
