#include "cli/http_client.hpp"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/curl.hpp"
#include "base/text.hpp"

namespace imagecache::cli {
namespace {

using nlohmann::json;

struct Body {
  std::string text;
  std::size_t limit = 0;
};

// curl calls this from C: nothing may be thrown through it.
std::size_t take(char* data, std::size_t size, std::size_t count, void* user) noexcept {
  auto& body = *static_cast<Body*>(user);
  if (size * count > body.limit - body.text.size()) return 0;
  try {
    body.text.append(data, size * count);
  } catch (const std::exception&) {
    return 0;
  }
  return size * count;
}

std::string without_tags(std::string_view html) {
  std::string text;
  bool in_tag = false;
  for (const char c : html) {
    if (c == '<') in_tag = true;
    if (!in_tag) text += c;
    if (c == '>') in_tag = false;
  }
  return text;
}

// Glance puts HTML's ends of lines into its JSON too.
std::string on_one_line(std::string_view text) {
  std::string line;
  for (const auto& piece : base::split(without_tags(text), '\n')) {
    const auto words = base::trim(piece);
    if (!words.empty()) line += (line.empty() ? "" : " ") + std::string(words);
  }
  return line;
}

// {"itemNotFound": {"code": 404, "message": …}}, {"error": {"message": …}}, {"error": "…"}.
std::string json_message(const std::string& body) {
  const auto parsed = json::parse(body, nullptr, false);
  if (!parsed.is_object()) return {};
  for (const auto& [name, value] : parsed.items()) {
    if (value.is_object() && value.contains("message") && value["message"].is_string()) return value["message"];
    if ((name == "error" || name == "message") && value.is_string()) return value;
  }
  return {};
}

// "404 Not Found\n\nImage x not found.\n\n   ": the last line that says something, on one line.
std::string text_message(const std::string& body) {
  constexpr std::size_t longest = 300;
  std::string last;
  for (const auto& line : base::split(without_tags(body), '\n')) {
    if (const auto trimmed = base::trim(line); !trimmed.empty()) last = trimmed;
  }
  if (last.size() > longest) last.resize(longest);
  return last;
}

// Who is asked, and how he is known; `reason` gets curl's own words.
void set_up(CURL* handle, const Endpoint& endpoint, const HttpLimits& limits, char* reason) {
  base::set_caution(handle);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits.connect_timeout.count()));
  curl_easy_setopt(handle, CURLOPT_TIMEOUT, static_cast<long>(limits.timeout.count()));
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, reason);
  if (!endpoint.unix_path.empty()) {
    curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, endpoint.unix_path.c_str());
  }
  base::set_tls(handle, endpoint.tls);
}

Error error_of(CURLcode code, const char* reason) {
  const Errc errc = code == CURLE_OPERATION_TIMEDOUT ? Errc::timeout
                    : code == CURLE_WRITE_ERROR      ? Errc::corrupt
                                                     : Errc::unavailable;
  return {errc, reason[0] != '\0' ? reason : curl_easy_strerror(code)};
}

}  // namespace

Result<bool> somebody_listens(const Endpoint& endpoint, const HttpLimits& limits) {
  const base::CurlEasy owner(curl_easy_init());
  CURL* handle = owner.get();
  if (handle == nullptr) return fail(Errc::internal, "cannot start libcurl");
  char reason[CURL_ERROR_SIZE] = "";
  set_up(handle, endpoint, limits, reason);
  // Over plain TCP, whatever is spoken there: a certificate that is not liked is somebody's.
  std::string url = endpoint.base_url;
  if (url.starts_with("https://")) url.erase(4, 1);
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_CONNECT_ONLY, 1L);
  const CURLcode code = curl_easy_perform(handle);
  if (code == CURLE_OK) return true;
  if (code == CURLE_COULDNT_CONNECT) return false;
  return std::unexpected(error_of(code, reason));
}

Result<HttpResponse> exchange(const Endpoint& endpoint, const HttpRequest& request, const HttpLimits& limits) {
  const base::CurlEasy owner(curl_easy_init());
  CURL* handle = owner.get();
  if (handle == nullptr) return fail(Errc::internal, "cannot start libcurl");
  base::CurlList headers;
  bool complete = base::append(headers, "Accept: application/json") && base::append(headers, "Expect:");
  if (!request.body.empty()) complete = complete && base::append(headers, "Content-Type: application/json");
  for (const auto& header : request.headers) complete = complete && base::append(headers, header);
  if (!complete) return fail(Errc::internal, "no memory for the request's headers");

  const std::string url = endpoint.base_url + request.path;
  Body body{.text = {}, .limit = limits.max_body_bytes};
  char reason[CURL_ERROR_SIZE] = "";
  set_up(handle, endpoint, limits, reason);
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &take);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, static_cast<void*>(&body));
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request.body.c_str());
  }
  const CURLcode code = curl_easy_perform(handle);
  if (code != CURLE_OK) return std::unexpected(error_of(code, reason));
  HttpResponse response{.status = 0, .body = std::move(body.text)};
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &response.status);
  return response;
}

std::string explain(const HttpResponse& response) {
  auto message = on_one_line(json_message(response.body));
  if (message.empty() && !response.body.starts_with('{')) message = text_message(response.body);
  if (message.empty()) return fmt::format("HTTP {}", response.status);
  return fmt::format("{} (HTTP {})", message, response.status);
}

std::string encode(std::string_view text) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string encoded;
  for (const char c : text) {
    if (plain.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace imagecache::cli
