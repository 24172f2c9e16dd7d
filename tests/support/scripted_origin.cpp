#include "support/scripted_origin.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <list>
#include <stdexcept>
#include <thread>

#include "base/digest.hpp"
#include "base/fd.hpp"
#include "base/text.hpp"

namespace imagecache::test {
namespace {

constexpr std::size_t max_head_bytes = 64 << 10;
constexpr std::string_view authorization_range = "bytes=9223372036854775806-";

std::string reason_of(int status) {
  static const std::map<int, std::string> reasons = {{200, "OK"},
                                                     {201, "Created"},
                                                     {202, "Accepted"},
                                                     {204, "No Content"},
                                                     {206, "Partial Content"},
                                                     {302, "Found"},
                                                     {400, "Bad Request"},
                                                     {401, "Unauthorized"},
                                                     {403, "Forbidden"},
                                                     {404, "Not Found"},
                                                     {405, "Method Not Allowed"},
                                                     {409, "Conflict"},
                                                     {416, "Requested Range Not Satisfiable"},
                                                     {500, "Internal Server Error"},
                                                     {503, "Service Unavailable"}};
  const auto found = reasons.find(status);
  return found == reasons.end() ? "Scripted" : found->second;
}

/// Errors look like Glance's (webob's).
Answer html(int status, const std::string& text = "") {
  const std::string title = std::to_string(status) + " " + reason_of(status);
  return {.status = status,
          .headers = {{"Content-Type", "text/html; charset=UTF-8"}},
          .body = "<html>\n <head>\n  <title>" + title + "</title>\n </head>\n <body>\n  <h1>" + title + "</h1>\n  " +
                  (text.empty() ? "Scripted to answer so." : text) + "<br /><br />\n\n\n </body>\n</html>"};
}

/// "bytes=a-", "bytes=a-b", "bytes=-n" against a size; the status to answer with if it is none of these.
struct Range {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  int error = 0;
};
Range parse_range(std::string_view text, std::uint64_t size) {
  if (!text.starts_with("bytes=")) return {.error = 416};
  text.remove_prefix(6);
  const auto dash = text.find('-');
  if (text.contains(',') || dash == std::string_view::npos) return {.error = 400};
  const auto first = base::parse_unsigned(text.substr(0, dash));
  const auto last = base::parse_unsigned(text.substr(dash + 1));
  if (!first && !last) return {.error = 400};
  if (!first) return {.first = size - std::min(*last, size), .end = size, .error = size == 0 ? 416 : 0};
  if (*first >= size) return {.error = 416};
  return {.first = *first, .end = last ? std::min(*last + 1, size) : size, .error = last && *last < *first ? 400 : 0};
}

}  // namespace

class ScriptedOrigin::Impl {
 public:
  Impl() { listen(0); }
  ~Impl() { go_down(); }

  struct Image {
    ImageSpec spec;
    bool there = false;
    ImageScript script;
    std::vector<std::string> ranges;
    std::uint64_t body_bytes = 0;
  };
  /// One client's connection and the thread that serves it.
  struct Connection {
    base::Fd fd;         // closed by its own thread, with mutex_ held, so that nobody shuts down another's number
    std::string buffer;  // received and not used yet
    std::stop_token stop;
    bool done = false;  // protected by mutex_
    std::jthread thread;
  };

  void listen(std::uint16_t port);
  void go_down();
  void accept_loop();
  void serve(Connection& c);

  // Reading.
  bool fill(Connection& c);
  bool read_head(Connection& c, SeenRequest& request);
  bool read_body(Connection& c, SeenRequest& request);
  bool read_line(Connection& c, std::string& line);
  bool take(Connection& c, std::uint64_t count, SeenRequest& request, base::Digest& digest);

  // Answering; all return whether the connection goes on.
  bool respond(Connection& c, const SeenRequest& request);
  bool send(Connection& c, std::string_view bytes);
  bool send(Connection& c, const SeenRequest& request, Answer answer);
  bool send_endless_json(Connection& c);
  std::optional<bool> faults(Connection& c, const SeenRequest& request, const std::string& id, bool file);
  bool describe(Connection& c, const SeenRequest& request, const std::string& id);
  bool download(Connection& c, const SeenRequest& request, const std::string& id);
  bool send_file(Connection& c, const std::string& id, const Content& content, const FileScript& script, Range range,
                 bool chunked, bool wrong);
  Answer built_in(const SeenRequest& request, const std::string& path);

  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  // All below is protected by mutex_.
  std::map<std::string, Image> images_;
  std::map<std::string, int> tokens_;
  std::map<std::pair<std::string, std::string>, Answer> answers_;
  Responder responder_;
  std::map<std::pair<std::string, std::string>, std::size_t> counts_;
  std::map<std::string, std::size_t> asked_;  // by path: authorizations
  std::map<std::pair<std::string, std::string>, SeenRequest> last_by_path_;
  std::optional<SeenRequest> last_;
  std::size_t accepted_ = 0;
  std::size_t under_way_ = 0;
  std::size_t most_under_way_ = 0;
  std::uint16_t port_ = 0;
  base::Fd listener_;
  std::list<std::unique_ptr<Connection>> connections_;
  std::jthread acceptor_;
};

namespace {
std::string path_of(const SeenRequest& request) {
  return request.target.substr(0, request.target.find('?'));
}
}  // namespace

void ScriptedOrigin::Impl::listen(std::uint16_t port) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(fd.get(), generic, length) != 0 || ::listen(fd.get(), 1024) != 0 ||
      ::getsockname(fd.get(), generic, &length) != 0) {
    throw std::runtime_error("scripted origin: cannot listen on 127.0.0.1");
  }
  const std::scoped_lock lock(mutex_);
  port_ = ntohs(address.sin_port);
  listener_ = std::move(fd);
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

bool ScriptedOrigin::Impl::send(Connection& c, const SeenRequest& request, Answer answer) {
  std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " " + reason_of(answer.status) + "\r\n";
  answer.headers.try_emplace("Content-Length", std::to_string(answer.body.size()));
  answer.headers.try_emplace("X-Openstack-Request-Id", "req-00000000-0000-4000-8000-000000000000");
  for (const auto& [name, value] : answer.headers) head.append(name).append(": ").append(value).append("\r\n");
  head += "\r\n";
  if (request.method != "HEAD") head += answer.body;
  return send(c, head);
}

bool ScriptedOrigin::Impl::send_endless_json(Connection& c) {
  if (!send(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"name\": \""))
    return false;
  const std::string more(64 << 10, 'x');
  while (!c.stop.stop_requested() && send(c, more)) {
  }
  return false;
}

std::optional<bool> ScriptedOrigin::Impl::faults(Connection& c, const SeenRequest& request, const std::string& id,
                                                 bool file) {
  const bool asks = file && request.header("range") == authorization_range;
  std::shared_ptr<Gate> gate;
  {
    const std::scoped_lock lock(mutex_);
    const auto& script = images_[id].script;
    gate = asks ? script.file.hold_authorization : file ? script.file.hold_head : script.describe.hold_head;
  }
  if (gate && !gate->pass(c.stop)) return false;
  std::optional<Answer> answer;
  {
    const std::scoped_lock lock(mutex_);
    auto& script = images_[id].script;
    AnswerFaults& f = file ? static_cast<AnswerFaults&>(script.file) : script.describe;
    const auto token = f.tokens.find(request.header("x-auth-token"));
    if (f.hang_up_before_head_times > 0 && !asks) {
      --f.hang_up_before_head_times;
      return false;
    }
    if (f.refuse_times > 0 && !asks) {
      --f.refuse_times;
      answer = html(f.refuse_status);
      if (f.retry_after_s) answer->headers["Retry-After"] = std::to_string(*f.retry_after_s);
    } else if (token != f.tokens.end()) {
      answer = html(token->second);
    } else if (f.status) {
      answer = html(*f.status);
    } else if (!f.redirect_to.empty()) {
      answer = html(302);
      answer->headers["Location"] = f.redirect_to == "self" ? request.target : f.redirect_to;
    } else if (f.html_with_200) {
      answer = html(200, "Please log in.");
    }
  }
  if (!answer) return std::nullopt;
  return send(c, request, *std::move(answer));
}

bool ScriptedOrigin::Impl::respond(Connection& c, const SeenRequest& request) {
  const std::string path = path_of(request);
  std::optional<Answer> answer;
  Responder responder;
  {
    const std::scoped_lock lock(mutex_);
    responder = responder_;
  }
  if (responder) answer = responder(request, c.stop);
  if (answer) return send(c, request, *std::move(answer));
  bool known = false;
  std::string id;
  bool file = false;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto found = tokens_.find(request.header("x-auth-token")); found != tokens_.end()) {
      answer = html(found->second);
    } else if (const auto set = answers_.find({request.method, path}); set != answers_.end()) {
      answer = set->second;
    } else if (path.starts_with("/v2/images/")) {
      id = path.substr(std::string_view("/v2/images/").size());
      file = id.ends_with("/file");
      if (file) id.resize(id.size() - 5);
      const auto image = images_.find(id);
      known = image != images_.end() && image->second.there;
    }
  }
  if (answer) return send(c, request, *std::move(answer));
  if (file && request.method == "HEAD") {
    Answer refusal = html(405);
    refusal.headers["Allow"] = "GET, PUT";
    return send(c, request, std::move(refusal));
  }
  if (request.method == "GET" && known) return file ? download(c, request, id) : describe(c, request, id);
  return send(c, request, built_in(request, path));
}

Answer ScriptedOrigin::Impl::built_in(const SeenRequest& request, const std::string& path) {
  const auto parts = base::split(path, '/');  // "", "v2", "images", id, …
  const bool image_path = parts.size() >= 4 && parts[1] == "v2" && parts[2] == "images";
  const std::scoped_lock lock(mutex_);
  const auto image = image_path ? images_.find(parts[3]) : images_.end();
  const bool known = image != images_.end() && image->second.there;
  if (image_path && !known && request.method != "PUT") return html(404, "No image found with ID " + parts[3]);
  if (image_path && request.method == "DELETE" && parts.size() == 4) {
    image->second.there = false;
    return {.status = 204, .headers = {}, .body = ""};
  }
  if (image_path && request.method == "POST" && path.ends_with("/actions/deactivate")) {
    image->second.spec.status = "deactivated";
    return {.status = 204, .headers = {}, .body = ""};
  }
  if (image_path && request.method == "POST" && path.ends_with("/actions/reactivate")) {
    image->second.spec.status = "active";
    return {.status = 204, .headers = {}, .body = ""};
  }
  if (image_path && request.method == "PUT") return {.status = 204, .headers = {}, .body = ""};
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"}},
          .body = "{\"method\": " + json_string(request.method) + ", \"path\": " + json_string(request.target) +
                  ", \"body_size\": " + std::to_string(request.body_bytes) +
                  ", \"body_sha256\": " + json_string(request.body_sha256) + "}"};
}

bool ScriptedOrigin::Impl::describe(Connection& c, const SeenRequest& request, const std::string& id) {
  if (const auto done = faults(c, request, id, false)) return *done;
  ImageSpec spec;
  DescribeScript script;
  {
    const std::scoped_lock lock(mutex_);
    spec = images_[id].spec;
    script = images_[id].script.describe;
  }
  if (script.endless) return send_endless_json(c);
  std::map<std::string, std::string> json = spec.json;
  const auto text = [&](const std::string& key, const std::string& value) {
    json.try_emplace(key, value.empty() ? "null" : json_string(value));
  };
  text("id", spec.id);
  text("name", spec.name);
  text("status", spec.status);
  text("disk_format", spec.disk_format);
  text("container_format", spec.container_format);
  text("visibility", spec.visibility);
  text("owner", spec.owner);
  text("created_at", spec.created_at);
  text("updated_at", spec.updated_at);
  text("self", describe_path(id));
  text("file", file_path(id));
  text("schema", "/v2/schemas/image");
  json.try_emplace("tags", "[]");
  json.try_emplace("protected", "false");
  json.try_emplace("os_hidden", "false");
  json.try_emplace("virtual_size", "null");
  json.try_emplace("min_disk", std::to_string(spec.min_disk_gb));
  json.try_emplace("min_ram", std::to_string(spec.min_ram_mb));
  json.try_emplace("size", std::to_string(spec.content.size_bytes()));
  if (!json.contains("checksum")) {
    text("checksum", spec.content.size_bytes() <= 64 * base::mib ? spec.content.md5() : "");
  }
  text("os_hash_algo", "sha512");
  if (!json.contains("os_hash_value")) text("os_hash_value", spec.content.sha512());
  std::string body = "{";
  for (const auto& [key, value] : json) {
    if (body.size() > 1) body += ", ";
    body.append(json_string(key)).append(": ").append(value);
  }
  body += "}";
  return send(c, request,
              {.status = 200,
               .headers = {{"Content-Type", "application/json"}},
               .body = script.raw_body ? *script.raw_body : body});
}

bool ScriptedOrigin::Impl::download(Connection& c, const SeenRequest& request, const std::string& id) {
  struct UnderWay {
    Impl& impl;
    explicit UnderWay(Impl& i) : impl(i) {
      const std::scoped_lock lock(impl.mutex_);
      impl.most_under_way_ = std::max(impl.most_under_way_, ++impl.under_way_);
    }
    ~UnderWay() {
      const std::scoped_lock lock(impl.mutex_);
      --impl.under_way_;
      impl.changed_.notify_all();
    }
  };
  const std::string asked = request.header("range");
  const bool asks = asked == authorization_range;
  std::optional<UnderWay> under_way;
  if (!asks) under_way.emplace(*this);
  {
    const std::scoped_lock lock(mutex_);
    if (!asks) images_[id].ranges.push_back(asked);
  }
  if (const auto done = faults(c, request, id, true)) return *done;

  ImageSpec spec;
  FileScript script;
  bool wrong = false;
  {
    const std::scoped_lock lock(mutex_);
    Image& image = images_[id];
    spec = image.spec;
    script = image.script.file;
    if (script.hang_up_times == 0) script.hang_up_at.reset();
    wrong = image.script.file.wrong_bytes_times > 0 && !script.wrong_bytes.empty();
    if (wrong && !asks && image.script.file.wrong_bytes_times != UINT32_MAX) --image.script.file.wrong_bytes_times;
  }
  if (spec.status == "deactivated") {
    return send(c, request, html(403, "The requested image has been deactivated. Image data download is forbidden."));
  }
  if (script.no_data || spec.status == "queued") return send(c, request, {.status = 204, .headers = {}, .body = ""});

  const std::uint64_t size =
      script.end_at ? std::min(*script.end_at, spec.content.size_bytes()) : spec.content.size_bytes();
  const std::uint64_t announced = script.end_at_announced ? size : spec.content.size_bytes();
  Range range{.first = 0, .end = size, .error = 0};
  const bool partial = !asked.empty() && script.ranges == RangeSupport::yes;
  if (!asked.empty() && script.ranges == RangeSupport::refused) return send(c, request, html(400, "Range unsupported"));
  if (partial) range = parse_range(asked, announced);
  if (range.error != 0) return send(c, request, html(range.error));

  const bool chunked = script.chunked || script.endless;
  std::map<std::string, std::string> headers = {{"Content-Type", "application/octet-stream"},
                                                {"X-Openstack-Request-Id", "req-00000000-0000-4000-8000-000000000000"}};
  if (spec.content.size_bytes() <= 64 * base::mib) headers["Content-Md5"] = spec.content.md5();
  if (chunked) {
    headers["Transfer-Encoding"] = "chunked";
  } else if (script.until_close) {
    headers["Connection"] = "close";
  } else {
    headers["Content-Length"] = std::to_string((partial ? range.end : announced) - range.first);
  }
  if (partial) {
    const auto shifted = [&](std::uint64_t x) {
      return std::to_string(static_cast<std::int64_t>(x) + script.content_range_shift);
    };
    headers["Content-Range"] =
        "bytes " + shifted(range.first) + "-" + shifted(range.end - 1) + "/" + std::to_string(announced);
  }
  for (const auto& [name, value] : script.headers) headers[name] = value;
  std::string head = partial ? "HTTP/1.1 206 Partial Content\r\n" : "HTTP/1.1 200 OK\r\n";
  for (const auto& [name, value] : headers) head.append(name).append(": ").append(value).append("\r\n");
  range.end = script.endless ? UINT64_MAX : std::min(range.end, size);
  if (asks) {  // it leaves after the head
    static_cast<void>(send(c, head + "\r\n"));
    return false;
  }
  return send(c, head + "\r\n") && send_file(c, id, spec.content, script, range, chunked, wrong);
}

bool ScriptedOrigin::Impl::send_file(Connection& c, const std::string& id, const Content& content,
                                     const FileScript& script, Range range, bool chunked, bool wrong) {
  const std::uint64_t most = script.bytes_per_s == 0 ? 256 << 10 : std::max<std::uint64_t>(1, script.bytes_per_s / 20);
  std::string piece;
  for (std::uint64_t at = range.first;;) {
    for (const auto& gate : script.gates) {
      if (gate.offset == at && !gate.gate->pass(c.stop)) return false;
    }
    if (script.hang_up_at == at) {
      const std::scoped_lock lock(mutex_);
      auto& times = images_[id].script.file.hang_up_times;
      if (times > 0) {
        if (times != UINT32_MAX) --times;
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        if (script.hang_up_with_reset) ::setsockopt(c.fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        return false;
      }
    }
    if (at >= range.end) break;
    std::uint64_t end = std::min(range.end, at + most);
    for (const auto& gate : script.gates) {
      if (gate.offset > at) end = std::min(end, gate.offset);
    }
    if (script.hang_up_at && *script.hang_up_at > at) end = std::min(end, *script.hang_up_at);
    piece.resize(end - at);
    content.read(at, std::as_writable_bytes(std::span(piece)));
    for (const auto offset : script.wrong_bytes) {
      if (wrong && offset >= at && offset < end) piece[offset - at] = static_cast<char>(piece[offset - at] ^ 0x55);
    }
    char size_line[32] = {};
    const auto [size_end, error] = std::to_chars(size_line, size_line + sizeof(size_line), piece.size(), 16);
    // Counted before it is sent: who has all the bytes finds them counted.
    {
      const std::scoped_lock lock(mutex_);
      images_[id].body_bytes += piece.size();
    }
    if (chunked && !send(c, std::string(size_line, size_end) + "\r\n")) return false;
    if (!send(c, piece) || (chunked && !send(c, "\r\n"))) return false;
    if (script.bytes_per_s != 0) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, c.stop, std::chrono::milliseconds(50), [] { return false; });
    }
    if (c.stop.stop_requested()) return false;
    at = end;
  }
  if (!script.end_at_announced) {  // short, and silent: until the client gives up
    char nothing = 0;
    static_cast<void>(::recv(c.fd.get(), &nothing, 1, 0));
    return false;
  }
  return chunked ? send(c, "0\r\n\r\n") : !script.until_close;
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
