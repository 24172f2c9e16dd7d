// Glance over HTTP: which URL is asked, how often, and what its answers mean. How bytes travel is curl_client's.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <utility>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "origin/curl_client.hpp"
#include "origin/glance_http.hpp"
#include "origin/glance_uploads.hpp"
#include "origin/image_json.hpp"
#include "origin/origin.hpp"

namespace imagecache::origin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned max_redirects = 3;
constexpr std::size_t max_error_text_bytes = 4 << 10;    // of an error's body, kept for the reason in it
constexpr std::size_t max_error_body_bytes = 256 << 10;  // read before the connection is given up instead
constexpr int max_pauses_of_retry_after = 8;

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

HttpFailure nonsense(std::string message, Retry retry = Retry::other_url) {
  return {.error = {Errc::unavailable, std::move(message)}, .retry = retry};
}

/// "bytes 5-9/10"; total is absent for "*".
struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;
};
std::optional<ContentRange> parse_content_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const auto dash = text.find('-');
  const auto slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || dash > slash) return std::nullopt;
  const auto first = base::parse_unsigned(text.substr(0, dash));
  const auto last = base::parse_unsigned(text.substr(dash + 1, slash - dash - 1));
  const auto total = base::parse_unsigned(text.substr(slash + 1));
  if (!first || !last || *last < *first || (!total && text.substr(slash + 1) != "*")) return std::nullopt;
  if (total && *last >= *total) return std::nullopt;
  return ContentRange{.first = *first, .last = *last, .total = total};
}

/// An opaque tag in quotes, of the characters that RFC 9110 gives it. Not a weak one: those compare no bytes.
bool is_strong_etag(std::string_view text) {
  constexpr std::size_t longest = 1024;
  if (text.size() < 2 || text.size() > longest || text.front() != '"' || text.back() != '"') return false;
  const auto inner = text.substr(1, text.size() - 2);
  return std::ranges::all_of(inner, [](char c) { return c > 0x20 && c < 0x7f && c != '"'; });
}

std::string strong_etag_of(const HttpHead& head) {
  auto etag = head.header("etag");
  return is_strong_etag(etag) ? etag : std::string();
}

/// As Glance writes it: in hex, which RFC 1864's base64 of 24 characters cannot be mistaken for.
std::string hex_md5_of(const HttpHead& head) {
  constexpr std::size_t digits = 32;
  auto text = base::to_lower(head.header("content-md5"));
  const bool hex = text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  return hex ? text : std::string();
}

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '~';
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

/// "http://host:9292/v2/" → "http://host:9292", as cinder and glanceclient read glance_api_servers.
std::string base_url_of(std::string_view text) {
  std::string url(base::trim(text));
  if (!url.contains("://")) url = "http://" + url;
  const auto strip_slashes = [&] {
    while (url.ends_with('/')) url.pop_back();
  };
  strip_slashes();
  const auto slash = url.rfind('/');
  const std::string_view last = std::string_view(url).substr(slash + 1);
  const bool version = last.size() >= 2 && last[0] == 'v' && slash > url.find("://") + 2 &&
                       last.find_first_not_of("0123456789.", 1) == std::string_view::npos;
  if (version) url.resize(slash);
  strip_slashes();
  return url;
}

class GlanceOrigin final : public Origin {
 public:
  explicit GlanceOrigin(GlanceOptions options)
      : options_(std::move(options)),
        client_({.connect_timeout = options_.connect_timeout,
                 .low_speed_bytes_per_s = options_.low_speed_bytes_per_s,
                 .low_speed_time = options_.low_speed_time,
                 .max_streams = options_.max_connections,
                 .max_questions = options_.max_questions,
                 .insecure = options_.insecure,
                 .ca_file = options_.ca_file,
                 .cert_file = options_.cert_file,
                 .key_file = options_.key_file}),
        uploads_(options_, client_) {}

  Result<ImageInfo> describe(const std::string& image_id, const base::RequestContext& context,
                             std::stop_token stop) override;
  Result<void> authorize_download(const std::string& image_id, const base::RequestContext& context,
                                  std::stop_token stop) override;
  Result<void> stream(const std::string& image_id, const StreamFrom& from, const base::RequestContext& context,
                      const StreamBegin& begin, const ByteSink& sink, std::stop_token stop) override;

  Result<ImageInfo> create_image(const NewImage& image, const base::RequestContext& context,
                                 std::stop_token stop) override {
    return uploads_.create_image(image, context, stop);
  }
  Result<void> upload(const std::string& image_id, std::uint64_t size_bytes, const ByteSource& source,
                      const base::RequestContext& context, std::stop_token stop) override {
    return uploads_.upload(image_id, size_bytes, source, context, stop);
  }
  Result<void> protect_image(const std::string& image_id, const base::RequestContext& context) override {
    return uploads_.protect_image(image_id, context);
  }
  Result<void> delete_image(const std::string& image_id, const base::RequestContext& context) override {
    return uploads_.delete_image(image_id, context);
  }
  Result<std::vector<std::string>> find_marked(const ImageMark& mark, std::size_t limit,
                                               const base::RequestContext& context, std::stop_token stop) override;

  std::string name() const override {
    std::string names;
    for (const auto& url : options_.urls) names += (names.empty() ? "" : ", ") + url;
    return names;
  }
  std::vector<std::string> proxy_urls() const override { return options_.urls; }
  void reload() override { client_.reload(); }

 private:
  using Attempt = std::function<HttpResult<void>(const std::string& base_url)>;
  struct Exchange {
    std::string url;
    std::vector<std::string> headers;
    std::optional<Clock::time_point> deadline;
    bool long_lived = false;
    std::function<bool(const HttpHead&)> is_wanted;  ///< whose body goes to on_data
    std::function<Result<void>(const HttpHead&)> on_head;
    ByteSink on_data;
  };

  Result<void> with_retries(const std::string& image_id, const base::RequestContext& context,
                            std::optional<Clock::time_point> deadline, const std::stop_token& stop,
                            const Attempt& attempt);
  /// Asks, and goes after redirects on the same host. A status that is not wanted is a failure; `last` is its head.
  HttpResult<void> ask(Exchange exchange, const std::stop_token& stop, HttpHead& last);
  /// Asks for a JSON document, whole, and hands it to `take`; what that refuses is no good answer.
  HttpResult<void> ask_json(std::string url, std::vector<std::string> headers, Clock::time_point deadline,
                            const std::stop_token& stop, const std::function<Result<void>(const std::string&)>& take);
  /// Asks for an image's bytes and breaks off at the head; `head` tells what came.
  HttpResult<void> would_send(const std::string& url, std::vector<std::string> headers, Clock::time_point deadline,
                              const std::stop_token& stop, HttpHead& head);
  bool refuses_ranges(const std::string& base_url) const;
  void remember_refused_ranges(const std::string& base_url);

  const GlanceOptions options_;
  CurlClient client_;
  GlanceUploads uploads_;
  std::atomic<std::size_t> turn_ = 0;
  mutable std::mutex mutex_;
  std::set<std::string> refuses_ranges_;  // protected by mutex_; base URLs, for the life of the process
};

Result<void> GlanceOrigin::with_retries(const std::string& image_id, const base::RequestContext& context,
                                        std::optional<Clock::time_point> deadline, const std::stop_token& stop,
                                        const Attempt& attempt) {
  const std::size_t urls = options_.urls.size();
  const std::size_t first = turn_++;
  for (unsigned number = 0;; ++number) {
    const std::string& url = options_.urls[(first + number) % urls];
    auto result = attempt(url);
    if (result) return {};
    HttpFailure& failure = result.error();
    failure.error.message = fmt::format("image {} at {}: {}", image_id, url, failure.error.message);
    const bool again = failure.retry == Retry::yes || (failure.retry == Retry::other_url && urls > 1);
    if (!again || number >= options_.num_retries) return std::unexpected(std::move(failure.error));

    // Another URL is asked at once; a pause only when all have been asked.
    std::chrono::milliseconds pause{0};
    if ((number + 1) % urls == 0) {
      const std::chrono::milliseconds wished(failure.retry_after);
      pause = std::max(options_.retry_pause, std::min(wished, options_.retry_pause * max_pauses_of_retry_after));
    }
    if (deadline && Clock::now() + pause >= *deadline) return std::unexpected(std::move(failure.error));
    base::log::warning("origin", &context, "{}; attempt {} of {} follows", failure.error.message, number + 2,
                       options_.num_retries + 1);
    std::mutex mutex;
    std::condition_variable_any never_notified;
    std::unique_lock lock(mutex);
    never_notified.wait_for(lock, stop, pause, [] { return false; });
    if (stop.stop_requested()) return fail(Errc::cancelled, "image " + image_id + ": stopped");
  }
}

HttpResult<void> GlanceOrigin::ask(Exchange exchange, const std::stop_token& stop, HttpHead& last) {
  for (unsigned hops = 0; hops <= max_redirects; ++hops) {
    HttpGet get{.url = exchange.url,
                .headers = exchange.headers,
                .timeout = {},
                .long_lived = exchange.long_lived,
                .on_head = {},
                .on_data = {}};
    if (exchange.deadline) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*exchange.deadline - Clock::now());
      get.timeout = std::max(left, std::chrono::milliseconds(1));
    }
    last = {};
    bool wanted = false;
    std::size_t error_body_bytes = 0;
    std::string error_body;
    get.on_head = [&](const HttpHead& head) -> Result<void> {
      last = head;
      wanted = exchange.is_wanted(head);
      return wanted ? exchange.on_head(head) : Result<void>();
    };
    get.on_data = [&](std::span<const std::byte> data) -> Result<void> {
      if (wanted) return exchange.on_data(data);
      error_body_bytes += data.size();
      if (error_body_bytes > max_error_body_bytes) return fail(Errc::unavailable, "an error's text does not end");
      const auto kept = data.first(std::min(data.size(), max_error_text_bytes - error_body.size()));
      error_body.append(reinterpret_cast<const char*>(kept.data()), kept.size());
      return {};
    };
    auto result = client_.get(get, stop);
    if (wanted || last.status == 0) return result;
    // The status says what happened, also where the text that explains it broke off.
    if (!result && result.error().error.code == Errc::cancelled) return result;
    const std::string location = last.header("location");
    if (!is_redirect(last.status) || location.empty()) return std::unexpected(failure_of(last, error_body));
    const auto target = resolve_on_same_host(exchange.url, location);
    if (!target) {
      return std::unexpected(
          nonsense("redirects to another host, which must not see the token; if that is the image "
                   "service, configure its URL"));
    }
    exchange.url = *target;
  }
  return std::unexpected(nonsense(fmt::format("redirects more than {} times", max_redirects)));
}

Result<ImageInfo> GlanceOrigin::describe(const std::string& image_id, const base::RequestContext& context,
                                         std::stop_token stop) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  IMAGECACHE_TRY(const auto headers, glance_headers(context, "application/json"));
  const auto deadline = Clock::now() + options_.describe_timeout;
  ImageInfo info;
  IMAGECACHE_CHECK(with_retries(image_id, context, deadline, stop, [&](const std::string& base_url) {
    return ask_json(base_url + "/v2/images/" + image_id, headers, deadline, stop,
                    [&](const std::string& body) -> Result<void> {
                      IMAGECACHE_TRY(info, parse_image_json(body, image_id));
                      return {};
                    });
  }));
  return info;
}

HttpResult<void> GlanceOrigin::ask_json(std::string url, std::vector<std::string> headers, Clock::time_point deadline,
                                        const std::stop_token& stop,
                                        const std::function<Result<void>(const std::string&)>& take) {
  std::string body;
  HttpHead head;
  auto asked = ask({.url = std::move(url),
                    .headers = std::move(headers),
                    .deadline = deadline,
                    .long_lived = false,
                    .is_wanted = [](const HttpHead& h) { return h.status == 200; },
                    .on_head = [](const HttpHead&) -> Result<void> { return {}; },
                    .on_data = [&](std::span<const std::byte> data) -> Result<void> {
                      if (body.size() + data.size() > options_.max_describe_bytes) {
                        return fail(Errc::unavailable, fmt::format("describes it in more than {}",
                                                                   base::format_bytes(options_.max_describe_bytes)));
                      }
                      body.append(reinterpret_cast<const char*>(data.data()), data.size());
                      return {};
                    }},
                   stop, head);
  if (!asked) {
    // A description that broke off can be asked for again as a whole.
    if (head.status == 200 && asked.error().retry == Retry::no) asked.error().retry = Retry::other_url;
    return asked;
  }
  if (auto taken = take(body); !taken) {
    return std::unexpected(nonsense(is_html(head) ? "answered with an HTML page where the image's record should be"
                                                  : "its record makes no sense: " + taken.error().message));
  }
  return {};
}

// GET /v2/images takes tags and properties as filters; a list of several images is of the newest first by default.
Result<std::vector<std::string>> GlanceOrigin::find_marked(const ImageMark& mark, std::size_t limit,
                                                           const base::RequestContext& context, std::stop_token stop) {
  IMAGECACHE_TRY(const auto headers, glance_headers(context, "application/json"));
  const auto deadline = Clock::now() + options_.describe_timeout;
  const std::string query =
      fmt::format("status=active&limit={}&{}={}", std::max<std::size_t>(limit, 1),
                  mark.value ? percent_encoded(mark.name) : "tag", percent_encoded(mark.value.value_or(mark.name)));
  std::vector<std::string> ids;
  IMAGECACHE_CHECK(with_retries("list", context, deadline, stop, [&](const std::string& base_url) {
    return ask_json(base_url + "/v2/images?" + query, headers, deadline, stop,
                    [&](const std::string& body) -> Result<void> {
                      IMAGECACHE_TRY(ids, parse_image_ids(body));
                      return {};
                    });
  }));
  if (ids.size() > limit) ids.resize(limit);
  return ids;
}

// Glance decides who may download before it looks at the range, and looks at the range before it opens the store
// (glance/api/v2/image_data.py: the controller's download(), then the serializer's). So a range that no image can have
// is refused with 416 to those who may download, on every store, those without ranges included, and costs no byte. An
// origin that knows no ranges begins to send instead (200), which is a yes too and is broken off. Where a range is a
// bad request (400), that says nothing of the caller, so the image itself is asked for and broken off after the head;
// so too where the question fails (500), as glance-api does on an image that has no size yet.
Result<void> GlanceOrigin::authorize_download(const std::string& image_id, const base::RequestContext& context,
                                              std::stop_token stop) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  IMAGECACHE_TRY(const auto headers, glance_headers(context, "*/*"));
  const auto deadline = Clock::now() + options_.describe_timeout;
  return with_retries(image_id, context, deadline, stop, [&](const std::string& base_url) -> HttpResult<void> {
    const std::string url = base_url + "/v2/images/" + image_id + "/file";
    HttpHead head;
    bool refused = refuses_ranges(base_url);
    if (!refused) {
      auto asked_headers = headers;
      asked_headers.emplace_back("Range: bytes=9223372036854775806-");
      auto asked = would_send(url, std::move(asked_headers), deadline, stop, head);
      if (head.status != 400 && head.status != 500) return asked;
      refused = head.status == 400;
    }
    auto asked = would_send(url, headers, deadline, stop, head);
    if (asked && refused) remember_refused_ranges(base_url);
    return asked;
  });
}

HttpResult<void> GlanceOrigin::would_send(const std::string& url, std::vector<std::string> headers,
                                          Clock::time_point deadline, const std::stop_token& stop, HttpHead& head) {
  bool allowed = false;
  auto asked = ask({.url = url,
                    .headers = std::move(headers),
                    .deadline = deadline,
                    .is_wanted = [](const HttpHead& h) { return h.status >= 200 && h.status < 300; },
                    .on_head = [&](const HttpHead& h) -> Result<void> {
                      if (is_html(h)) return fail(Errc::unavailable, "answered with an HTML page");
                      // 204 is an image without data, which whoever may have it will find out.
                      allowed = h.status == 200 || h.status == 204 || h.status == 206;
                      return fail(Errc::unavailable, fmt::format("answered {}, which makes no sense here", h.status));
                    },
                    .on_data = [](std::span<const std::byte>) -> Result<void> { return {}; }},
                   stop, head);
  if (allowed || head.status == 416) return {};
  if (asked) return std::unexpected(nonsense("gave no answer to whether it would send the image"));
  const bool odd_success = head.status >= 200 && head.status < 300;
  if (odd_success && asked.error().retry == Retry::no) asked.error().retry = Retry::other_url;
  return asked;
}

bool GlanceOrigin::refuses_ranges(const std::string& base_url) const {
  const std::scoped_lock lock(mutex_);
  return refuses_ranges_.contains(base_url);
}

void GlanceOrigin::remember_refused_ranges(const std::string& base_url) {
  const std::scoped_lock lock(mutex_);
  if (!refuses_ranges_.insert(base_url).second) return;
  base::log::warning("origin", nullptr,
                     "{} answers 400 to a range that no image has; to know who may download, each image is asked for "
                     "and broken off, which costs it the opening of its store",
                     base_url);
}

/// One download: what its head promised, and whether the bytes keep to it.
struct Download {
  const StreamFrom& from;
  bool ranged = false;  // we sent a Range header
  const StreamBegin& begin;
  const ByteSink& sink;
  bool begun = false;
  std::optional<std::uint64_t> expected_bytes{};  // of this answer's body
  std::uint64_t received_bytes = 0;

  Result<void> on_head(const HttpHead& head);
  Result<void> on_data(std::span<const std::byte> data);
};

Result<void> Download::on_head(const HttpHead& head) {
  if (head.status == 204) return fail(Errc::not_found, "the image has no data");
  if (is_html(head)) return fail(Errc::unavailable, "answered with an HTML page where the image's bytes should be");
  if (const auto encoding = base::to_lower(head.header("content-encoding"));
      !encoding.empty() && encoding != "identity") {
    return fail(Errc::unavailable, "answered in the encoding " + encoding + ", which was not asked for");
  }
  const std::string etag = strong_etag_of(head);
  const std::string md5 = hex_md5_of(head);
  // Glance gives the whole image's checksum with every part of it.
  if (!md5.empty() && !from.content_md5.empty() && md5 != base::to_lower(from.content_md5)) {
    return fail(Errc::conflict, fmt::format("changed meanwhile: its checksum is {} and was {}", md5, from.content_md5));
  }
  if (head.status == 206 && !from.if_range.empty() && !etag.empty() && etag != from.if_range) {
    return fail(Errc::conflict, fmt::format("changed meanwhile: its etag is {} and was {}", etag, from.if_range));
  }
  StreamStart start{.etag = etag, .content_md5 = md5};
  std::optional<std::uint64_t> length;
  if (!head.headers.contains("transfer-encoding")) length = base::parse_unsigned(head.header("content-length"));
  if (head.status == 206) {
    const auto range = parse_content_range(head.header("content-range"));
    if (!ranged || !range || range->first != from.offset_bytes) {
      return fail(Errc::unavailable, "answered with a part that was not asked for: " + head.header("content-range"));
    }
    if (range->total && range->last + 1 != *range->total) {
      return fail(Errc::unavailable, "answered with less than was asked for: " + head.header("content-range"));
    }
    expected_bytes = range->last - range->first + 1;
    if (length && *length != *expected_bytes) {
      return fail(Errc::unavailable, "announced a part and a length that do not agree");
    }
    start.offset_bytes = from.offset_bytes;
    start.total_bytes = range->total;
  } else {
    expected_bytes = length;
    start.total_bytes = length;
  }
  begun = true;
  return begin(start);
}

Result<void> Download::on_data(std::span<const std::byte> data) {
  received_bytes += data.size();
  if (expected_bytes && received_bytes > *expected_bytes) {
    return fail(Errc::corrupt, fmt::format("sends more than the {} bytes that it announced", *expected_bytes));
  }
  return sink(data);
}

Result<void> GlanceOrigin::stream(const std::string& image_id, const StreamFrom& from,
                                  const base::RequestContext& context, const StreamBegin& begin, const ByteSink& sink,
                                  std::stop_token stop) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  if (!from.if_range.empty() && !is_strong_etag(from.if_range)) {
    return fail(Errc::invalid_argument, "image " + image_id + ": if_range is no etag that a stream began with");
  }
  IMAGECACHE_TRY(auto headers, glance_headers(context, "*/*"));
  std::optional<Error> of_the_caller;  // begin's or sink's: returned without a word of ours
  const StreamBegin our_begin = [&](const StreamStart& start) {
    auto taken = begin(start);
    if (!taken) of_the_caller = taken.error();
    return taken;
  };
  const ByteSink our_sink = [&](std::span<const std::byte> data) {
    auto taken = sink(data);
    if (!taken) of_the_caller = taken.error();
    return taken;
  };
  auto result =
      with_retries(image_id, context, std::nullopt, stop, [&](const std::string& base_url) -> HttpResult<void> {
        for (bool ranged = from.offset_bytes > 0;; ranged = false) {
          Download download{.from = from, .ranged = ranged, .begin = our_begin, .sink = our_sink};
          auto all_headers = headers;
          if (ranged) all_headers.push_back(fmt::format("Range: bytes={}-", from.offset_bytes));
          if (ranged && !from.if_range.empty()) all_headers.push_back("If-Range: " + from.if_range);
          HttpHead head;
          auto asked =
              ask({.url = base_url + "/v2/images/" + image_id + "/file",
                   .headers = std::move(all_headers),
                   .deadline = std::nullopt,
                   .long_lived = true,
                   .is_wanted = [](const HttpHead& h) { return h.status == 200 || h.status == 204 || h.status == 206; },
                   .on_head = [&](const HttpHead& h) { return download.on_head(h); },
                   .on_data = [&](std::span<const std::byte> data) { return download.on_data(data); }},
                  stop, head);
          // 400: a store without ranges. 416: the image is shorter than what was had of it. Both begin at the
          // beginning.
          if (!asked && ranged && !download.begun && (head.status == 400 || head.status == 416)) continue;
          if (!asked && !download.begun && asked.error().error.code == Errc::unavailable && head.status != 0 &&
              asked.error().retry == Retry::no) {
            asked.error().retry = Retry::other_url;  // a head that makes no sense
          }
          if (!asked || !download.expected_bytes || download.received_bytes == *download.expected_bytes) return asked;
          return std::unexpected(nonsense(
              fmt::format("sent {} of {} bytes", download.received_bytes, *download.expected_bytes), Retry::no));
        }
      });
  if (of_the_caller) return std::unexpected(std::move(*of_the_caller));
  return result;
}

Result<void> check_readable(const std::string& option, const std::string& path) {
  if (path.empty() || ::access(path.c_str(), R_OK) == 0) return {};
  return fail(Errc::invalid_argument,
              fmt::format("{}: cannot read {}: {}", option, path, std::generic_category().message(errno)));
}

}  // namespace

Result<std::unique_ptr<Origin>> make_glance_origin(GlanceOptions options) {
  if (options.urls.empty()) return fail(Errc::invalid_argument, "the image service has no URL: set glance_api_servers");
  for (auto& url : options.urls) {
    url = base_url_of(url);
    IMAGECACHE_CHECK(check_base_url(url));
  }
  if (options.connect_timeout.count() <= 0 || options.describe_timeout.count() <= 0 ||
      options.low_speed_bytes_per_s == 0 || options.low_speed_time.count() <= 0 ||
      options.upload_answer_timeout.count() <= 0 || options.max_describe_bytes == 0 || options.max_connections == 0 ||
      options.max_questions == 0 || options.retry_pause.count() < 0) {
    return fail(Errc::invalid_argument, "the image service's time-outs and limits must be greater than zero");
  }
  IMAGECACHE_CHECK(check_readable("glance_ca_certificates_file", options.ca_file));
  IMAGECACHE_CHECK(check_readable("glance_certfile", options.cert_file));
  IMAGECACHE_CHECK(check_readable("glance_keyfile", options.key_file));
  // Several services with the same list should not all begin with its first.
  std::ranges::shuffle(options.urls, std::mt19937(std::random_device{}()));
  return std::make_unique<GlanceOrigin>(std::move(options));
}

}  // namespace imagecache::origin
