#include "origin/curl_client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/curl.hpp"
#include "base/text.hpp"

namespace imagecache::origin {
namespace {

constexpr std::size_t max_head_bytes = 64 << 10;
constexpr long receive_buffer_bytes = 512L << 10;  // the most that libcurl takes
constexpr std::size_t piece_bytes = 256 << 10;     // handed on at once while more is there
constexpr const char* user_agent = "cinder-image-cache/" IMAGECACHE_VERSION;

struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};

void init_curl_once() {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(done);
}

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
  std::string copy(text);
  curl_free(text);
  return copy;
}

std::string place_of(CURLU* url) {
  return url_part(url, CURLUPART_SCHEME) + "://" + base::to_lower(url_part(url, CURLUPART_HOST)) + ":" +
         url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

}  // namespace

std::string HttpHead::header(const std::string& lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? "" : found->second;
}

std::optional<std::string> resolve_on_same_host(const std::string& base, const std::string& location) {
  const base::CurlUrl url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) != CURLUE_OK) return std::nullopt;
  const std::string place = place_of(url.get());
  if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) return std::nullopt;
  if (place_of(url.get()) != place || !url_part(url.get(), CURLUPART_USER).empty()) return std::nullopt;
  return url_part(url.get(), CURLUPART_URL);
}

Result<void> check_base_url(const std::string& text) {
  const base::CurlUrl url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return fail(Errc::invalid_argument, text + ": not a URL; write http://host:9292 or https://host/path");
  }
  if (const auto scheme = url_part(url.get(), CURLUPART_SCHEME); scheme != "http" && scheme != "https") {
    return fail(Errc::invalid_argument, text + ": only http and https are spoken to the image service");
  }
  if (!url_part(url.get(), CURLUPART_USER).empty() || !url_part(url.get(), CURLUPART_PASSWORD).empty()) {
    return fail(Errc::invalid_argument,
                "the image service's URL has a user name in it: leave it out, the token says who asks");
  }
  if (!url_part(url.get(), CURLUPART_QUERY).empty() || !url_part(url.get(), CURLUPART_FRAGMENT).empty()) {
    return fail(Errc::invalid_argument, text + ": a base URL has no query and no fragment");
  }
  return {};
}

/// An easy handle and the multi handle that drives it and keeps its connections. One call at a time uses it.
struct CurlClient::Handle {
  std::unique_ptr<CURLM, FreeMulti> multi{curl_multi_init()};
  base::CurlEasy easy{curl_easy_init()};
  std::uint64_t generation = 0;
};

/// Is a body slower than it may be? libcurl's own low-speed limit looks at an average over several seconds, and counts
/// the time that our sink takes; this counts what came in each window of time, less the sink's time.
class CurlClient::SpeedWatch {
 public:
  using Clock = std::chrono::steady_clock;
  SpeedWatch(std::uint64_t bytes_per_s, std::chrono::seconds window)
      : window_(window), least_bytes_(bytes_per_s * static_cast<std::uint64_t>(window.count())) {}

  void received(std::uint64_t bytes, Clock::duration taken_by_sink) {
    bytes_ += bytes;
    begun_ += taken_by_sink;
  }
  void restart() {
    begun_ = Clock::now();
    bytes_ = 0;
  }
  /// Time left in this window; zero or less when it was too slow.
  std::chrono::milliseconds left() {
    const auto passed = Clock::now() - begun_;
    if (passed >= window_ && bytes_ >= least_bytes_) restart();
    return std::chrono::ceil<std::chrono::milliseconds>(window_ - (Clock::now() - begun_));
  }

 private:
  const std::chrono::seconds window_;
  const std::uint64_t least_bytes_;
  Clock::time_point begun_ = Clock::now();
  std::uint64_t bytes_ = 0;
};

/// One GET under way; libcurl calls back into it on the caller's thread.
struct CurlClient::Transfer {
  const HttpGet& get;
  const std::stop_token& stop;
  SpeedWatch speed;
  std::uint64_t sent_bytes = 0;
  SpeedWatch::Clock::time_point sent_at{};
  HttpHead head{};
  std::size_t head_bytes = 0;
  bool head_done = false;
  std::vector<std::byte> collected{};  // libcurl hands out 16 KiB at a time, which is little for a write(2)
  std::optional<Error> refused{};      // by on_head, on_data, or us
  std::array<char, CURL_ERROR_SIZE> error_text{};

  bool refuse(Error error) {
    refused = std::move(error);
    return false;
  }

  bool header_line(std::string_view line) {
    if (head_done) return true;  // a trailer
    head_bytes += line.size();
    if (head_bytes > max_head_bytes) {
      return refuse({Errc::unavailable, "the answer's headers do not end"});
    }
    if (line.starts_with("HTTP/")) {
      head = {};
      const auto words = base::split(base::trim(line), ' ');
      if (words.size() >= 2) head.status = static_cast<long>(base::parse_unsigned(words[1]).value_or(0));
      return true;
    }
    if (const auto colon = line.find(':'); colon != std::string_view::npos) {
      head.headers[base::to_lower(base::trim(line.substr(0, colon)))] = base::trim(line.substr(colon + 1));
      return true;
    }
    if (!base::trim(line).empty() || head.status < 200) return true;  // 1xx: the real head comes later
    head_done = true;
    if (auto taken = get.on_head(head); !taken) return refuse(std::move(taken).error());
    speed.restart();
    return true;
  }

  bool body(std::span<const std::byte> data) {
    // Between any two pieces: a body that comes without pause would never let the loop below look.
    if (stop.stop_requested()) return refuse({Errc::cancelled, "stopped"});
    collected.insert(collected.end(), data.begin(), data.end());
    return collected.size() < piece_bytes || flush();
  }

  /// Hands on what has come; false if it was refused, now or before.
  bool flush() {
    if (refused) return false;
    if (collected.empty()) return true;
    const auto before = SpeedWatch::Clock::now();
    if (auto taken = get.on_data(collected); !taken) return refuse(std::move(taken).error());
    speed.received(collected.size(), SpeedWatch::Clock::now() - before);
    collected.clear();
    return true;
  }

  /// libcurl asks for more of our body.
  std::size_t next_of_body(std::span<std::byte> into) {
    if (stop.stop_requested()) {
      refuse({Errc::cancelled, "stopped"});
      return CURL_READFUNC_ABORT;
    }
    auto got = get.source(into);
    if (!got) {
      refuse(std::move(got).error());
      return CURL_READFUNC_ABORT;
    }
    // What has been taken of us has moved; and what it took to come is not the far side's slowness.
    speed.restart();
    sent_bytes += *got;
    sent_at = SpeedWatch::Clock::now();
    return *got;
  }

  /// All is sent, and the far side may take its time to put it away.
  bool is_being_stored() const { return get.answer_timeout && !head_done && sent_bytes == get.source_bytes; }

  /// Time left; zero or less when the far side was too slow.
  std::chrono::milliseconds left() {
    if (!is_being_stored()) return speed.left();
    return std::chrono::ceil<std::chrono::milliseconds>(*get.answer_timeout - (SpeedWatch::Clock::now() - sent_at));
  }

  static std::size_t on_read(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    return static_cast<Transfer*>(self)->next_of_body(std::as_writable_bytes(std::span(data, size * count)));
  }
  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    return static_cast<Transfer*>(self)->header_line({data, size * count}) ? size * count : 0;
  }
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    const auto bytes = std::as_bytes(std::span(data, size * count));
    return static_cast<Transfer*>(self)->body(bytes) ? bytes.size() : bytes.size() + 1;
  }
};

CurlClient::CurlClient(Options options) : options_(std::move(options)) {
  init_curl_once();
  streams_.most = std::max(1U, options_.max_streams);
  streams_.most_idle = streams_.most;
  questions_.most = std::max(1U, options_.max_questions);
  // A herd's connections are many times what is needed on average, and each holds a green thread of glance-api's.
  questions_.most_idle = std::max(4U, questions_.most / 4);
}
CurlClient::~CurlClient() = default;

HttpResult<std::unique_ptr<CurlClient::Handle>> CurlClient::acquire(const HttpGet& get, const std::stop_token& stop) {
  const auto patience =
      get.timeout.value_or(std::chrono::duration_cast<std::chrono::milliseconds>(options_.low_speed_time));
  Pool& pool = get.long_lived ? streams_ : questions_;
  std::unique_lock lock(mutex_);
  const bool free = freed_.wait_for(lock, stop, patience, [&] { return pool.in_use < pool.most; });
  if (stop.stop_requested()) return std::unexpected(HttpFailure{.error = {Errc::cancelled, "stopped"}});
  if (!free) {
    return std::unexpected(
        HttpFailure{.error = {Errc::busy, fmt::format("all {} connections for {} from the image service are in use",
                                                      pool.most, get.long_lived ? "downloads" : "questions")}});
  }
  std::unique_ptr<Handle> handle;
  if (!pool.idle.empty()) {
    handle = std::move(pool.idle.back());  // the last used: its connection is the likeliest to be still open
    pool.idle.pop_back();
  } else {
    handle = std::make_unique<Handle>();
    if (!handle->easy || !handle->multi) {
      return std::unexpected(HttpFailure{.error = {Errc::internal, "libcurl has no memory for a connection"}});
    }
    handle->generation = generation_;
  }
  ++pool.in_use;
  return handle;
}

void CurlClient::release(std::unique_ptr<Handle> handle, bool long_lived) {
  {
    const std::scoped_lock lock(mutex_);
    Pool& pool = long_lived ? streams_ : questions_;
    if (handle->generation == generation_ && pool.idle.size() < pool.most_idle) pool.idle.push_back(std::move(handle));
    --pool.in_use;
  }
  freed_.notify_all();
  // A handle that is not kept is closed here, without the lock.
}

// libcurl reads certificates and keys when it connects, but keeps what it has read of authorities for a day with the
// handle, and an open connection for as long as it is used.
void CurlClient::reload() {
  std::vector<std::unique_ptr<Handle>> closed;
  const std::scoped_lock lock(mutex_);
  ++generation_;
  for (Pool* pool : {&streams_, &questions_}) {
    for (auto& handle : pool->idle) closed.push_back(std::move(handle));
    pool->idle.clear();
  }
}

namespace {

/// Before a head has come, what is worth another attempt; all of it is the network's or a restarting server's doing.
Retry retry_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
      return Retry::yes;
    default:
      return Retry::other_url;
  }
}

}  // namespace

HttpResult<void> CurlClient::get(const HttpGet& get, const std::stop_token& stop) {
  auto acquired = acquire(get, stop);
  if (!acquired) return std::unexpected(std::move(acquired).error());
  struct Release {
    CurlClient& client;
    std::unique_ptr<Handle> handle;
    bool long_lived;
    ~Release() { client.release(std::move(handle), long_lived); }
  };
  const Release lease{*this, std::move(*acquired), get.long_lived};
  CURL* easy = lease.handle->easy.get();
  CURLM* multi = lease.handle->multi.get();

  Transfer transfer{
      .get = get, .stop = stop, .speed = SpeedWatch(options_.low_speed_bytes_per_s, options_.low_speed_time)};
  base::CurlList headers;
  for (const auto& header : get.headers) static_cast<void>(base::append(headers, header));
  curl_easy_reset(easy);  // options only: connections stay with the multi handle
  curl_easy_setopt(easy, CURLOPT_URL, get.url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy, CURLOPT_USERAGENT, user_agent);
  base::set_caution(easy);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, receive_buffer_bytes);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
  if (get.timeout) {
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, std::max<long>(1, static_cast<long>(get.timeout->count())));
  }
  base::set_tls(easy, options_);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Transfer::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Transfer::on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error_text.data());

  if (get.source) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, receive_buffer_bytes);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(get.source_bytes));
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, &Transfer::on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &transfer);
  }
  if (get.method != "GET") curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, get.method.c_str());

  curl_multi_add_handle(multi, easy);
  CURLcode code = CURLE_OK;
  bool done = false;
  bool too_slow = false;
  CURLMcode driven = CURLM_OK;
  {
    const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });
    while (!done && driven == CURLM_OK && !stop.stop_requested()) {
      int running = 0;
      driven = curl_multi_perform(multi, &running);
      if (!transfer.flush()) break;  // nothing waits here for more to come; what came before a break is kept
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
        if (message->msg == CURLMSG_DONE) {
          done = true;
          code = message->data.result;
        }
      }
      if (done || driven != CURLM_OK) break;
      const auto patience = transfer.left();
      if (patience.count() <= 0) {
        too_slow = true;
        break;
      }
      const int wait_ms = static_cast<int>(std::min<std::int64_t>(patience.count(), 1000));
      driven = curl_multi_poll(multi, nullptr, 0, wait_ms, nullptr);
    }
  }
  curl_multi_remove_handle(multi, easy);                 // closes the connection if the exchange is not at its end
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);  // the buffer ends with this call

  if (transfer.refused) return std::unexpected(HttpFailure{.error = std::move(*transfer.refused)});
  if (!done && stop.stop_requested()) return std::unexpected(HttpFailure{.error = {Errc::cancelled, "stopped"}});
  if (driven != CURLM_OK) {
    return std::unexpected(HttpFailure{.error = {Errc::internal, curl_multi_strerror(driven)}});
  }
  if (too_slow && transfer.is_being_stored()) {
    return std::unexpected(
        HttpFailure{.error = {Errc::timeout, fmt::format("it had all bytes, and no answer came for {} ms",
                                                         get.answer_timeout->count())}});
  }
  if (too_slow) {
    const auto text =
        fmt::format("slower than {} bytes/s for {} s", options_.low_speed_bytes_per_s, options_.low_speed_time.count());
    if (transfer.head_done) {
      return std::unexpected(HttpFailure{.error = {Errc::unavailable, "the answer broke off: " + text}});
    }
    return std::unexpected(HttpFailure{.error = {Errc::timeout, text}, .retry = Retry::yes});
  }
  if (code == CURLE_OK && !transfer.head_done) code = CURLE_WEIRD_SERVER_REPLY;
  if (code == CURLE_OK) return {};
  const std::string text = transfer.error_text[0] != 0 ? transfer.error_text.data() : curl_easy_strerror(code);
  if (transfer.head_done) {
    return std::unexpected(HttpFailure{.error = {Errc::unavailable, "the answer broke off: " + text}});
  }
  const Errc kind = code == CURLE_OPERATION_TIMEDOUT ? Errc::timeout : Errc::unavailable;
  return std::unexpected(HttpFailure{.error = {kind, text}, .retry = retry_of(code)});
}

}  // namespace imagecache::origin
