// What the scripted origin answers: Glance's answers, and how they go wrong.
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

#include "base/text.hpp"
#include "support/scripted_origin_impl.hpp"

namespace imagecache::test {
namespace {

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

}  // namespace imagecache::test
