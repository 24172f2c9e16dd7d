#include "identity/keystone_http.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <thread>

#include "base/curl.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::identity {
namespace {

constexpr std::size_t max_head_bytes = 64 << 10;
constexpr std::size_t max_idle = 16;
constexpr std::chrono::milliseconds longest_delay{4000};
constexpr const char* user_agent = "cinder-image-cache/" IMAGECACHE_VERSION;

/// What libcurl hands to us of one answer, on the asker's thread.
struct Receiving {
  std::size_t max_body_bytes;
  KeystoneAnswer answer{};
  std::size_t head_bytes = 0;
  std::string refused{};

  bool header(std::string_view line) {
    head_bytes += line.size();
    if (head_bytes > max_head_bytes) {
      refused = "its headers do not end";
      return false;
    }
    if (line.starts_with("HTTP/")) answer.subject_token.clear();
    const auto colon = line.find(':');
    if (colon != std::string_view::npos && base::to_lower(line.substr(0, colon)) == "x-subject-token") {
      answer.subject_token = base::trim(line.substr(colon + 1));
    }
    return true;
  }
  bool body(std::string_view data) {
    if (answer.body.size() + data.size() > max_body_bytes) {
      refused = fmt::format("its answer is longer than {} bytes", max_body_bytes);
      return false;
    }
    answer.body += data;
    return true;
  }

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    return static_cast<Receiving*>(self)->header({data, size * count}) ? size * count : 0;
  }
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    return static_cast<Receiving*>(self)->body({data, size * count}) ? size * count : size * count + 1;
  }
};

/// Before anything of an answer has come: the network's doing, or a restarting server's.
bool worth_another_attempt(CURLcode code) {
  return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_GOT_NOTHING ||
         code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR;
}

}  // namespace

struct KeystoneHttp::Handle {
  base::CurlEasy easy{curl_easy_init()};
};

Result<std::string> keystone_base_url(const std::string& auth_url) {
  const base::CurlUrl url(curl_url());
  const auto bad = [&](const char* why) { return fail(Errc::invalid_argument, "auth_url " + auth_url + ": " + why); };
  if (!url || curl_url_set(url.get(), CURLUPART_URL, auth_url.c_str(), 0) != CURLUE_OK) {
    return bad("not a URL; write http://host:5000 or https://host/identity");
  }
  const auto has = [&](CURLUPart part) {
    char* text = nullptr;
    const bool there = curl_url_get(url.get(), part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return there;
  };
  // Not with the URL in the message: it may hold a password.
  if (has(CURLUPART_USER) || has(CURLUPART_PASSWORD)) {
    return fail(Errc::invalid_argument, "auth_url has a user name in it: write it as username and password");
  }
  if (has(CURLUPART_QUERY) || has(CURLUPART_FRAGMENT)) return bad("has a query or a fragment");
  const std::string lower = base::to_lower(auth_url);
  if (!lower.starts_with("http://") && !lower.starts_with("https://")) return bad("only http and https are spoken");
  std::string base = auth_url;
  while (base.ends_with('/')) base.pop_back();
  if (base.ends_with("/v2.0")) base.resize(base.size() - 5);
  return base.ends_with("/v3") ? base : base + "/v3";
}

KeystoneHttp::KeystoneHttp(const KeystoneCredentials& where)
    : where_(where), base_url_(keystone_base_url(where.auth_url)) {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(done);
}
KeystoneHttp::~KeystoneHttp() = default;

std::unique_ptr<KeystoneHttp::Handle> KeystoneHttp::acquire() {
  const std::scoped_lock lock(mutex_);
  if (idle_.empty()) return std::make_unique<Handle>();
  auto handle = std::move(idle_.back());  // the last used: its connection is the likeliest to be still open
  idle_.pop_back();
  return handle;
}

std::expected<KeystoneAnswer, KeystoneHttp::Failure> KeystoneHttp::ask_once(const KeystoneRequest& request) {
  auto handle = acquire();
  CURL* easy = handle->easy.get();
  if (easy == nullptr) return std::unexpected(Failure{.why = "libcurl has no memory for a connection"});
  Receiving receiving{.max_body_bytes = where_.max_answer_bytes};
  base::CurlList headers;
  const auto add_header = [&](const std::string& header) { static_cast<void>(base::append(headers, header)); };
  add_header("Accept: application/json");
  for (const auto& header : request.headers) add_header(header);
  const std::string url = *base_url_ + request.path;
  std::array<char, CURL_ERROR_SIZE> error_text{};

  curl_easy_reset(easy);  // options only: the connection stays
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  if (request.body) {
    add_header("Content-Type: application/json");
    add_header("Expect:");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body->size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body->data());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy, CURLOPT_USERAGENT, user_agent);
  base::set_caution(easy);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, std::max<long>(1, where_.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, std::max<long>(1, where_.request_timeout.count()));
  base::set_tls(easy, where_);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Receiving::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &receiving);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Receiving::on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiving);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text.data());
  const CURLcode code = curl_easy_perform(easy);
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &receiving.answer.status);
  curl_easy_reset(easy);  // what it points to ends with this call

  {
    const std::scoped_lock lock(mutex_);
    if (idle_.size() < max_idle) idle_.push_back(std::move(handle));
  }
  if (!receiving.refused.empty()) return std::unexpected(Failure{.why = std::move(receiving.refused), .away = false});
  if (code != CURLE_OK) {
    return std::unexpected(Failure{.why = error_text[0] != 0 ? error_text.data() : curl_easy_strerror(code),
                                   .again = worth_another_attempt(code)});
  }
  if (receiving.answer.status >= 500 || receiving.answer.status < 100) {
    const long status = receiving.answer.status;
    const bool overloaded = status > 501;
    return std::unexpected(
        Failure{.why = fmt::format("it answers with status {}", status), .again = overloaded, .away = overloaded});
  }
  return std::move(receiving.answer);
}

Result<KeystoneAnswer> KeystoneHttp::ask(const KeystoneRequest& request) {
  if (!base_url_) return std::unexpected(base_url_.error());
  const auto unavailable = [&](const std::string& why) {
    return fail(Errc::unavailable, "Keystone at " + *base_url_ + ": " + why);
  };
  bool probe = false;
  {
    const std::scoped_lock lock(mutex_);
    if (away_ && probing_) return unavailable("was away a moment ago, and another request is finding out if it back");
    probe = probing_ = away_;
  }
  auto answer = ask_once(request);
  auto delay = where_.retry_delay;
  for (unsigned left = probe ? 0 : where_.max_retries; left > 0 && !answer && answer.error().again; --left) {
    std::this_thread::sleep_for(std::min(delay, longest_delay));
    delay *= 2;
    answer = ask_once(request);
  }
  const bool away = !answer && answer.error().away;
  bool turned = false;
  {
    const std::scoped_lock lock(mutex_);
    turned = away_ != away;
    away_ = away;
    if (probe) probing_ = false;
  }
  if (turned) {
    base::log::warning("identity", nullptr, "Keystone at {} is {}", *base_url_,
                       away ? "away: " + answer.error().why : "back");
  }
  if (!answer) return unavailable(answer.error().why);
  return std::move(*answer);
}

}  // namespace imagecache::identity
