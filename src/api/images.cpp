#include "api/images.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/byte_range.hpp"
#include "api/image_view.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

using image_cache::Outcome;
using image_cache::Reader;

constexpr std::chrono::minutes range_wait{10};

/// "/v2.7/images/x" → "/v2/images/x": glance's version negotiation, seen from outside.
std::string normalized_path(std::string_view path) {
  if (!path.starts_with("/v2.")) return std::string(path);
  const auto slash = path.find('/', 1);
  const std::string_view minor = path.substr(4, slash == std::string_view::npos ? path.size() - 4 : slash - 4);
  if (!base::parse_unsigned(minor)) return std::string(path);
  return "/v2" + std::string(slash == std::string_view::npos ? "" : path.substr(slash));
}

/// The id of "/v2/images/{id}" + `suffix`, or empty.
std::string_view image_id_of(std::string_view path, std::string_view suffix) {
  constexpr std::string_view prefix = "/v2/images/";
  if (!path.starts_with(prefix) || !path.ends_with(suffix) || path.size() <= prefix.size() + suffix.size()) return {};
  const std::string_view id = path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
  return id.find('/') == std::string_view::npos && id != "detail" ? id : std::string_view();
}

std::string_view cache_status(Outcome outcome) {
  switch (outcome) {
    case Outcome::hit:
      return "cinder-image-cache; hit";
    case Outcome::collapsed:
      return "cinder-image-cache; fwd=miss; collapsed";
    case Outcome::miss:
      return "cinder-image-cache; fwd=miss; stored";
    case Outcome::pass:
      return "cinder-image-cache; fwd=bypass";
  }
  return "";
}

void count(events::Counters& counters, Outcome outcome, std::uint64_t bytes) {
  switch (outcome) {
    case Outcome::hit:
      counters.image_hit_bytes.fetch_add(bytes);
      break;
    case Outcome::collapsed:
      counters.image_collapsed_bytes.fetch_add(bytes);
      break;
    case Outcome::miss:
      counters.image_miss_bytes.fetch_add(bytes);
      break;
    case Outcome::pass:
      counters.image_pass_bytes.fetch_add(bytes);
      break;
  }
}

}  // namespace

base::RequestContext image_context(const http::Exchange& exchange) {
  base::RequestContext context;
  context.request_id = "req-" + base::new_uuid();
  const std::string_view given = exchange.header("X-Openstack-Request-Id");
  if (base::is_request_id(given)) context.global_request_id = given;
  context.auth_token = exchange.header("X-Auth-Token");
  return context;
}

unsigned glance_status(Errc code) {
  switch (code) {
    case Errc::invalid_argument:
    case Errc::unacceptable_image:
    case Errc::unsupported:
      return 400;
    case Errc::unauthenticated:
      return 401;
    case Errc::forbidden:
      return 403;
    case Errc::not_found:
      return 404;
    case Errc::conflict:
    case Errc::already_exists:
      return 409;
    case Errc::corrupt:
      return 502;
    case Errc::timeout:
      return 504;
    case Errc::no_space:
    case Errc::quota_exceeded:
    case Errc::busy:
    case Errc::unavailable:
    case Errc::cancelled:
      return 503;
    case Errc::internal:
      return 500;
  }
  return 500;
}

http::Response glance_error(unsigned status, std::string_view explanation, const base::RequestContext& context) {
  http::Response response{
      .status = status,
      .headers = {{"Content-Type", "text/plain; charset=UTF-8"}, {"X-Openstack-Request-Id", context.request_id}},
      .body = fmt::format("{}\n\n{}\n\n   ", status, explanation)};
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

ImageApi::ImageApi(Options options, image_cache::ImageCache& cache, const identity::Authenticator& authenticator,
                   events::Counters& counters)
    : options_(std::move(options)), cache_(cache), authenticator_(authenticator), counters_(counters) {}

base::Task<void> ImageApi::handle(http::Exchange& exchange) {
  const std::string path = normalized_path(exchange.path());
  if (options_.cache_enabled) {
    if (exchange.method() == "GET") {
      if (const auto id = image_id_of(path, "/file"); !id.empty()) {
        co_await get_file(exchange, std::string(id));
        co_return;
      }
    }
    if (co_await handle_cache_management(exchange, path, cache_, authenticator_)) co_return;
  }
  if (options_.upstream_urls.empty()) {
    co_await answer_as_directory(exchange, path);
    co_return;
  }
  const base::RequestContext context = image_context(exchange);
  const std::string url = options_.upstream_urls[turn_++ % options_.upstream_urls.size()];
  std::vector<http::Header> extra;
  if (context.global_request_id.empty()) extra.emplace_back("X-Openstack-Request-Id", context.request_id);
  const auto status = co_await exchange.pass_through({.url = url, .extra = std::move(extra)});
  if (!status) {
    base::log::warning("api", &context, "{} {}: {}", exchange.method(), exchange.path(), status.error().message);
    if (!exchange.answered()) {
      static_cast<void>(co_await exchange.respond(
          glance_error(glance_status(status.error().code), "The image service cannot be reached.", context)));
    }
    co_return;
  }
  // The file of an image that is no more, or may not be downloaded any more, goes at once.
  const bool good = *status >= 200 && *status < 300;
  std::string_view gone;
  if (good && exchange.method() == "DELETE") gone = image_id_of(path, "");
  if (good && exchange.method() == "PUT") gone = image_id_of(path, "/file");
  if (!gone.empty() && options_.cache_enabled) {
    if (auto removed = co_await cache_.remove(std::string(gone)); !removed) {
      base::log::warning("api", &context, "{}", removed.error().message);
    }
  }
}

base::Task<void> ImageApi::pass(http::Exchange& exchange, const base::RequestContext& context,
                                http::Response otherwise) {
  if (options_.upstream_urls.empty()) {
    if (!exchange.answered()) static_cast<void>(co_await exchange.respond(std::move(otherwise)));
    co_return;
  }
  const std::string url = options_.upstream_urls[turn_++ % options_.upstream_urls.size()];
  std::vector<http::Header> extra;
  if (context.global_request_id.empty()) extra.emplace_back("X-Openstack-Request-Id", context.request_id);
  const auto status = co_await exchange.pass_through({.url = url, .extra = std::move(extra)});
  if (!status && !exchange.answered()) static_cast<void>(co_await exchange.respond(std::move(otherwise)));
}

base::Task<void> ImageApi::get_file(http::Exchange& exchange, std::string image_id) {
  const base::RequestContext context = image_context(exchange);
  const std::string_view range_header = exchange.header("Range");
  // A legacy request header that Glance serves; nobody else should.
  const bool legacy_range = !exchange.header("Content-Range").empty();

  auto info = co_await cache_.describe(image_id, context);
  if (!info) {
    // What the origin denies it shall deny in its own words.
    const auto [code, message] = info.error();
    if (code == Errc::unavailable || code == Errc::timeout || code == Errc::busy) {
      counters_.image_errors.fetch_add(1);
      base::log::warning("api", &context, "image {}: {}", image_id, message);
      static_cast<void>(co_await exchange.respond(glance_error(503, "The image service cannot be reached.", context)));
      co_return;
    }
    co_await pass(exchange, context, glance_error(glance_status(code), message, context));
    co_return;
  }
  const std::uint64_t size = info->size_bytes.value_or(0);
  const RangeRequest range = parse_range(range_header, size);
  const bool ranges_from_here = cache_.is_cached(image_id) || options_.upstream_urls.empty();
  if (legacy_range || range.kind == RangeKind::other || range.kind == RangeKind::unsatisfiable ||
      (range.kind == RangeKind::one && !ranges_from_here)) {
    counters_.image_passes.fetch_add(1);
    http::Response refusal =
        glance_error(range.kind == RangeKind::unsatisfiable ? 416 : 400,
                     "The range cannot be served: one range of bytes within the image is.", context);
    refusal.headers.emplace_back("Content-Range", fmt::format("bytes */{}", size));
    co_await pass(exchange, context, std::move(refusal));
    co_return;
  }
  auto reader = co_await cache_.open_described(std::move(*info), context);
  if (!reader) {
    const auto& [code, message] = reader.error();
    const bool theirs = code == Errc::no_space || code == Errc::unsupported || code == Errc::conflict ||
                        code == Errc::busy || code == Errc::not_found || code == Errc::unauthenticated ||
                        code == Errc::forbidden || code == Errc::invalid_argument || code == Errc::internal;
    if (theirs && !options_.upstream_urls.empty()) {
      base::log::info("api", &context, "{}; passing it through", message);
      counters_.image_passes.fetch_add(1);
      co_await pass(exchange, context, glance_error(glance_status(code), message, context));
      co_return;
    }
    counters_.image_errors.fetch_add(1);
    base::log::warning("api", &context, "{}", message);
    static_cast<void>(co_await exchange.respond(glance_error(glance_status(code), message, context)));
    co_return;
  }
  co_await send(exchange, std::move(*reader), context);
}

base::Task<void> ImageApi::send(http::Exchange& exchange, Reader reader, base::RequestContext context) {
  const origin::ImageInfo& info = reader.info();
  const std::uint64_t size = reader.size_bytes().value_or(0);
  const Outcome outcome = reader.outcome();
  http::Response head{.status = 200,
                      .headers = {{"Content-Type", "application/octet-stream"},
                                  {"X-Openstack-Request-Id", context.request_id},
                                  {"Accept-Ranges", "bytes"},
                                  {"Cache-Status", std::string(cache_status(outcome))}},
                      .body = {}};
  if (!info.checksum.empty()) head.headers.emplace_back("Content-Md5", info.checksum);
  const RangeRequest range = parse_range(exchange.header("Range"), size);
  if (outcome != Outcome::hit && range.kind == RangeKind::one) {
    // A part that ends before the file's end would be complete before its digest is known: wait for the last byte,
    // which can be read only then.
    const auto whole = co_await reader.wait_available(size - 1, base::in(range_wait));
    if (!whole) {
      counters_.image_errors.fetch_add(1);
      static_cast<void>(
          co_await exchange.respond(glance_error(glance_status(whole.error().code), whole.error().message, context)));
      co_return;
    }
  }
  std::uint64_t first = 0;
  std::uint64_t length = size;
  if (range.kind == RangeKind::one) {
    head.status = 206;
    first = range.range.first;
    length = range.range.last - first + 1;
    head.headers.emplace_back("Content-Range", fmt::format("bytes {}-{}/{}", first, range.range.last, size));
    counters_.image_ranges.fetch_add(1);
  } else {
    auto& counter = outcome == Outcome::hit         ? counters_.image_hits
                    : outcome == Outcome::collapsed ? counters_.image_collapsed
                                                    : counters_.image_misses;
    counter.fetch_add(1);
  }
  http::WaitAvailable wait;
  if (outcome != Outcome::hit) {
    wait = [&reader](std::uint64_t offset, base::Deadline deadline) { return reader.wait_available(offset, deadline); };
  }
  const auto sent = co_await exchange.respond_file(std::move(head), reader.fd(), first, length, std::move(wait));
  if (!sent) {
    if (sent.error().code != Errc::cancelled) {
      counters_.image_errors.fetch_add(1);
      base::log::warning("api", &context, "image {}: {}", info.id, sent.error().message);
    }
    co_return;
  }
  count(counters_, outcome, length);
  if (outcome == Outcome::hit) cache_.touch(info.id);
}

base::Task<void> ImageApi::answer_as_directory(http::Exchange& exchange, std::string_view path) {
  const base::RequestContext context = image_context(exchange);
  http::Response response{
      .status = 200,
      .headers = {{"Content-Type", "application/json"}, {"X-Openstack-Request-Id", context.request_id}},
      .body = {}};
  if (exchange.method() == "GET" && (path == "/" || path == "/versions")) {
    response.status = path == "/" ? 300 : 200;
    const std::string self = fmt::format("http://{}/v2/", exchange.header("Host"));
    response.body =
        nlohmann::json{
            {"versions", {{{"id", "v2.9"}, {"status", "CURRENT"}, {"links", {{{"rel", "self"}, {"href", self}}}}}}}}
            .dump();
  } else if (const auto id = image_id_of(path, ""); exchange.method() == "GET" && !id.empty()) {
    const auto info = co_await cache_.describe(std::string(id), context);
    if (info) {
      response.body = dump(image_record(*info));
    } else {
      response = glance_error(glance_status(info.error().code), info.error().message, context);
    }
  } else {
    response = glance_error(
        404, "The origin is a directory of files: an image's record and its file can be had, no more.", context);
  }
  static_cast<void>(co_await exchange.respond(std::move(response)));
}

}  // namespace imagecache::api
