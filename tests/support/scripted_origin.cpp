// The network of the scripted origin and its public face.
#include "support/scripted_origin.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/text.hpp"
#include "support/loopback.hpp"
#include "support/scripted_origin_impl.hpp"

namespace imagecache::test {

void ScriptedOrigin::Impl::listen(std::uint16_t port) {
  auto listener = listen_on_loopback(port);
  const std::scoped_lock lock(mutex_);
  port_ = listener.port;
  listener_ = std::move(listener.fd);
  acceptor_ = std::jthread([this] { accept_loop(); });
}

void ScriptedOrigin::Impl::go_down() {
  std::list<std::unique_ptr<Connection>> old;
  {
    const std::scoped_lock lock(mutex_);
    if (listener_) ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept()
  }
  if (acceptor_.joinable()) acceptor_.join();
  {
    const std::scoped_lock lock(mutex_);
    listener_.reset();
    old.swap(connections_);
    for (auto& c : old) {
      c->thread.request_stop();
      if (c->fd) ::shutdown(c->fd.get(), SHUT_RDWR);
    }
  }
  old.clear();  // joins
}

void ScriptedOrigin::Impl::accept_loop() {
  for (;;) {
    base::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    auto connection = std::make_unique<Connection>();
    connection->fd = std::move(fd);
    const std::scoped_lock lock(mutex_);
    ++accepted_;
    std::erase_if(connections_, [](const auto& c) { return c->done; });
    auto& c = *connections_.emplace_back(std::move(connection));
    c.thread = std::jthread([this, &c](std::stop_token stop) {
      c.stop = std::move(stop);
      serve(c);
      const std::scoped_lock done_lock(mutex_);
      c.fd.reset();
      c.done = true;
      changed_.notify_all();
    });
  }
}

void ScriptedOrigin::Impl::serve(Connection& c) {
  for (;;) {
    SeenRequest request;
    if (!read_head(c, request)) return;
    const std::string path = path_of(request);
    {
      const std::scoped_lock lock(mutex_);
      ++counts_[{request.method, path}];
      if (request.method == "GET" && request.header("range") == authorization_range) ++asked_[path];
      changed_.notify_all();
    }
    if (!read_body(c, request)) return;
    {
      const std::scoped_lock lock(mutex_);
      last_ = request;
      last_by_path_[{request.method, path}] = request;
    }
    if (!respond(c, request) || base::to_lower(request.header("connection")) == "close") return;
  }
}

bool ScriptedOrigin::Impl::fill(Connection& c) {
  char piece[64 << 10];
  ssize_t n = 0;
  do {
    n = ::recv(c.fd.get(), piece, sizeof(piece), 0);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return false;
  c.buffer.append(piece, static_cast<std::size_t>(n));
  return true;
}

bool ScriptedOrigin::Impl::read_line(Connection& c, std::string& line) {
  std::size_t end = 0;
  while ((end = c.buffer.find("\r\n")) == std::string::npos) {
    if (c.buffer.size() > max_head_bytes || !fill(c)) return false;
  }
  line = c.buffer.substr(0, end);
  c.buffer.erase(0, end + 2);
  return true;
}

bool ScriptedOrigin::Impl::read_head(Connection& c, SeenRequest& request) {
  std::string line;
  if (!read_line(c, line)) return false;
  const auto words = base::split(line, ' ');
  if (words.size() != 3) return false;
  request.method = words[0];
  request.target = words[1];
  for (;;) {
    if (!read_line(c, line)) return false;
    if (line.empty()) return true;
    const auto colon = line.find(':');
    if (colon == std::string::npos) return false;
    request.headers[base::to_lower(line.substr(0, colon))] = base::trim(std::string_view(line).substr(colon + 1));
  }
}

bool ScriptedOrigin::Impl::take(Connection& c, std::uint64_t count, SeenRequest& request, base::Digest& digest) {
  while (count > 0) {
    if (c.buffer.empty() && !fill(c)) return false;
    const std::size_t n = std::min<std::uint64_t>(count, c.buffer.size());
    digest.update(std::as_bytes(std::span(c.buffer).first(n)));
    if (request.body_start.size() < max_head_bytes) {
      request.body_start.append(c.buffer, 0, std::min(n, max_head_bytes - request.body_start.size()));
    }
    c.buffer.erase(0, n);
    request.body_bytes += n;
    count -= n;
  }
  return true;
}

bool ScriptedOrigin::Impl::read_body(Connection& c, SeenRequest& request) {
  request.chunked = base::to_lower(request.header("transfer-encoding")) == "chunked";
  request.expected_continue = base::to_lower(request.header("expect")) == "100-continue";
  const auto length = base::parse_unsigned(request.header("content-length")).value_or(0);
  if (request.expected_continue && !send(c, "HTTP/1.1 100 Continue\r\n\r\n")) return false;
  auto digest = base::Digest::of("sha256");
  if (!digest) return false;
  if (!request.chunked) {
    if (!take(c, length, request, *digest)) return false;
  } else {
    std::string line;
    for (;;) {
      if (!read_line(c, line)) return false;
      std::uint64_t size = 0;
      const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), size, 16);
      if (error != std::errc()) return false;
      if (size == 0) break;
      if (!take(c, size, request, *digest) || !read_line(c, line) || !line.empty()) return false;
    }
    do {  // trailers
      if (!read_line(c, line)) return false;
    } while (!line.empty());
  }
  if (request.body_bytes > 0) request.body_sha256 = digest->hex();
  return true;
}

bool ScriptedOrigin::Impl::send(Connection& c, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(c.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// The public face.

ScriptedOrigin::ScriptedOrigin() : impl_(std::make_unique<Impl>()) {}
ScriptedOrigin::~ScriptedOrigin() = default;

std::string ScriptedOrigin::url() const {
  return "http://127.0.0.1:" + std::to_string(port());
}

std::uint16_t ScriptedOrigin::port() const {
  const std::scoped_lock lock(impl_->mutex_);
  return impl_->port_;
}

std::string ScriptedOrigin::add(ImageSpec image) {
  if (image.id.empty()) image.id = base::new_uuid();
  const std::scoped_lock lock(impl_->mutex_);
  auto& entry = impl_->images_[image.id];
  entry.there = true;
  entry.spec = std::move(image);
  return entry.spec.id;
}

void ScriptedOrigin::remove(const std::string& image_id) {
  const std::scoped_lock lock(impl_->mutex_);
  impl_->images_[image_id].there = false;
}

void ScriptedOrigin::script(const std::string& image_id, const std::function<void(ImageScript&)>& change) {
  const std::scoped_lock lock(impl_->mutex_);
  change(impl_->images_[image_id].script);
}

void ScriptedOrigin::change(const std::string& image_id, const std::function<void(ImageSpec&)>& change) {
  const std::scoped_lock lock(impl_->mutex_);
  change(impl_->images_[image_id].spec);
}

void ScriptedOrigin::answer_token(const std::string& token, int status) {
  const std::scoped_lock lock(impl_->mutex_);
  if (status == 0) {
    impl_->tokens_.erase(token);
  } else {
    impl_->tokens_[token] = status;
  }
}

void ScriptedOrigin::answer(const std::string& method, const std::string& path, Answer answer) {
  const std::scoped_lock lock(impl_->mutex_);
  impl_->answers_[{method, path}] = std::move(answer);
}

void ScriptedOrigin::answer_with(Responder responder) {
  const std::scoped_lock lock(impl_->mutex_);
  impl_->responder_ = std::move(responder);
}

void ScriptedOrigin::go_down() {
  impl_->go_down();
}
void ScriptedOrigin::come_back() {
  impl_->listen(port());
}

std::size_t ScriptedOrigin::requests() const {
  const std::scoped_lock lock(impl_->mutex_);
  std::size_t sum = 0;
  for (const auto& [key, count] : impl_->counts_) sum += count;
  return sum;
}

std::size_t ScriptedOrigin::requests(const std::string& path) const {
  const std::scoped_lock lock(impl_->mutex_);
  std::size_t sum = 0;
  for (const auto& [key, count] : impl_->counts_) sum += key.second == path ? count : 0;
  return sum;
}

std::size_t ScriptedOrigin::requests(const std::string& method, const std::string& path) const {
  const std::scoped_lock lock(impl_->mutex_);
  const auto found = impl_->counts_.find({method, path});
  return found == impl_->counts_.end() ? 0 : found->second;
}

std::size_t ScriptedOrigin::describes(const std::string& image_id) const {
  return requests("GET", describe_path(image_id));
}
std::size_t ScriptedOrigin::downloads(const std::string& image_id) const {
  return requests("GET", file_path(image_id)) - authorizations(image_id);
}
std::size_t ScriptedOrigin::authorizations(const std::string& image_id) const {
  const std::scoped_lock lock(impl_->mutex_);
  const auto found = impl_->asked_.find(file_path(image_id));
  return found == impl_->asked_.end() ? 0 : found->second;
}

std::uint64_t ScriptedOrigin::body_bytes(const std::string& image_id) const {
  const std::scoped_lock lock(impl_->mutex_);
  const auto found = impl_->images_.find(image_id);
  return found == impl_->images_.end() ? 0 : found->second.body_bytes;
}

std::vector<std::string> ScriptedOrigin::ranges(const std::string& image_id) const {
  const std::scoped_lock lock(impl_->mutex_);
  const auto found = impl_->images_.find(image_id);
  return found == impl_->images_.end() ? std::vector<std::string>{} : found->second.ranges;
}

std::optional<SeenRequest> ScriptedOrigin::last_request() const {
  const std::scoped_lock lock(impl_->mutex_);
  return impl_->last_;
}

std::optional<SeenRequest> ScriptedOrigin::last_request(const std::string& method, const std::string& path) const {
  const std::scoped_lock lock(impl_->mutex_);
  const auto found = impl_->last_by_path_.find({method, path});
  if (found == impl_->last_by_path_.end()) return std::nullopt;
  return found->second;
}

std::size_t ScriptedOrigin::connections() const {
  const std::scoped_lock lock(impl_->mutex_);
  return impl_->accepted_;
}

std::size_t ScriptedOrigin::max_concurrent() const {
  const std::scoped_lock lock(impl_->mutex_);
  return impl_->most_under_way_;
}

std::size_t ScriptedOrigin::downloads_under_way() const {
  const std::scoped_lock lock(impl_->mutex_);
  return impl_->under_way_;
}

bool ScriptedOrigin::wait_requests(const std::string& path, std::size_t count, std::chrono::seconds timeout) const {
  std::unique_lock lock(impl_->mutex_);
  return impl_->changed_.wait_for(lock, timeout, [&] {
    std::size_t sum = 0;
    for (const auto& [key, n] : impl_->counts_) sum += key.second == path ? n : 0;
    return sum >= count;
  });
}

bool ScriptedOrigin::wait_idle(std::chrono::seconds timeout) const {
  std::unique_lock lock(impl_->mutex_);
  return impl_->changed_.wait_for(lock, timeout, [&] { return impl_->under_way_ == 0; });
}

}  // namespace imagecache::test
