// GET and HEAD of an image's file: asked for, admitted, and then from the cache, from a fill, or from the origin.

#include <fmt/format.h>

#include <utility>

#include "api/byte_range.hpp"
#include "api/conditional.hpp"
#include "api/glance_answers.hpp"
#include "api/images.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

using image_cache::Admission;
using image_cache::Outcome;
using image_cache::Reader;

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
  return "cinder-image-cache";
}

/// Of an answer that needs no byte of the file.
std::string_view known_here(bool cached) {
  return cached ? "cinder-image-cache; hit" : "cinder-image-cache; fwd=uri-miss";
}

/// What Glance sends with a file, and what says how it came to be here.
http::Response file_head(unsigned status, const origin::ImageInfo& info, std::string_view status_of_cache,
                         const base::RequestContext& context) {
  http::Response head{.status = status,
                      .headers = {{"Content-Type", "application/octet-stream"},
                                  {"X-Openstack-Request-Id", context.request_id},
                                  {"Accept-Ranges", "bytes"},
                                  {"Cache-Status", std::string(status_of_cache)}},
                      .body = {}};
  if (!info.checksum.empty()) head.headers.emplace_back("Content-Md5", info.checksum);
  if (std::string tag = entity_tag(info); !tag.empty()) head.headers.emplace_back("ETag", std::move(tag));
  return head;
}

http::Response not_satisfiable(std::uint64_t size, const http::Exchange& exchange,
                               const base::RequestContext& context) {
  const std::string detail = fmt::format(
      "Invalid start position in Range header. Start position MUST be in the inclusive range [0, {}].", size - 1);
  auto response = glance_error(416, "The Range requested is not available.", exchange, context, detail);
  response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", size));
  response.headers.emplace_back("Accept-Ranges", "bytes");
  return response;
}

/// Glance answers 400 to one good range where its store can give no part of an image.
base::Task<bool> unless_it_has_no_ranges(http::Response& head) {
  if (head.status == 400) co_return false;
  head.headers.emplace_back("Cache-Status", "cinder-image-cache; fwd=uri-miss");
  co_return true;
}

/// The origin itself may be asked where the cache cannot serve; not where its bytes are known to be wrong, and not
/// where it has just failed to answer.
bool origin_may_do_better(Errc code) {
  switch (code) {
    case Errc::corrupt:
    case Errc::unavailable:
    case Errc::timeout:
    case Errc::cancelled:
    case Errc::unacceptable_image:
    case Errc::quota_exceeded:
      return false;
    default:
      return true;
  }
}

}  // namespace

base::Task<void> ImageApi::file(http::Exchange& exchange, const ImageRequest& request, std::string image_id) {
  const base::RequestContext context = image_context(exchange);
  if (!exchange.header("Content-Range").empty()) {
    // A legacy way to ask for a part, which Glance serves and nobody else should.
    co_await pass_file(exchange, request, context, "content_range",
                       glance_error(400, "Content-Range says nothing in a request; use Range.", exchange, context));
    co_return;
  }
  auto admission = co_await cache_.admit(std::move(image_id), context);
  if (!admission) {
    co_await refuse_file(exchange, request, std::move(admission).error(), context);
    co_return;
  }
  const origin::ImageInfo& info = admission->info;
  const bool head = exchange.method() == "HEAD";
  if (info.status != "active") {
    // Deactivated and asked for by an admin; or without data as yet.
    if (!head) {
      const std::string why = fmt::format("Image {} has the status {}.", info.id, info.status);
      co_await pass_file(exchange, request, context, base::is_safe_name(info.status) ? info.status : "status",
                         glance_error(409, why, exchange, context));
      co_return;
    }
    if (info.status != "deactivated") {
      co_await answer_short(exchange, glance_empty(204, context));
      co_return;
    }
  }
  // Few ask conditionally: nothing is copied for those who do not.
  const bool conditional = !exchange.header("If-None-Match").empty() || !exchange.header("If-Match").empty();
  const Precondition condition =
      conditional ? check_preconditions(exchange.headers(), entity_tag(info)) : Precondition::none;
  if (condition != Precondition::none) {
    http::Response response = file_head(304, info, known_here(cache_.is_cached(info.id)), context);
    if (condition == Precondition::failed) {
      response = glance_error(412, "The image is not the one that If-Match names.", exchange, context);
    }
    co_await answer_short(exchange, std::move(response));
    co_return;
  }
  if (head) {
    co_await send_head(exchange, std::move(*admission), context);
  } else {
    co_await serve_file(exchange, request, std::move(*admission), context);
  }
}

base::Task<void> ImageApi::refuse_file(http::Exchange& exchange, const ImageRequest& request, Error error,
                                       const base::RequestContext& context) {
  const bool away = error.code == Errc::unavailable || error.code == Errc::timeout || error.code == Errc::busy;
  if (away) {
    counters_.image_errors.fetch_add(1);
    base::log::warning("api", &context, "{}", error.message);
    co_await answer_short(exchange, glance_error(503, "The image service cannot be reached.", exchange, context));
    co_return;
  }
  http::Response own = error.code == Errc::unauthenticated
                           ? glance_unauthorized(authenticator_.challenge(), exchange, context)
                           : glance_error(error, exchange, context);
  // What the origin denies it shall deny in its own words; to HEAD it would only say that it knows no HEAD.
  if (exchange.method() == "HEAD" || options_.upstream_urls.empty()) {
    co_await answer_short(exchange, std::move(own));
  } else {
    co_await pass_file(exchange, request, context, "denied", std::move(own));
  }
}

base::Task<void> ImageApi::send_head(http::Exchange& exchange, Admission admission,
                                     const base::RequestContext& context) {
  const bool cached = cache_.is_cached(admission.info.id);
  std::optional<std::uint64_t> size = admission.info.size_bytes;
  if (size.value_or(0) == 0 && cached) {
    // Glance need not know the size; the file has one.
    if (const auto reader = co_await cache_.open_described(admission.info, context)) size = reader->size_bytes();
  }
  http::Response head = file_head(200, admission.info, known_here(cached), context);
  if (cached) head.headers.emplace_back("Age", std::to_string(admission.age.count()));
  static_cast<void>(co_await exchange.respond_file(std::move(head), -1, 0, size, {}));
}

base::Task<void> ImageApi::serve_file(http::Exchange& exchange, const ImageRequest& request, Admission admission,
                                      const base::RequestContext& context) {
  const std::string_view header = exchange.header("Range");
  const std::string_view if_range = exchange.header("If-Range");
  const bool ranged = !header.empty() && (if_range.empty() || range_holds(if_range, entity_tag(admission.info)));
  const bool alone = options_.upstream_urls.empty();
  if (ranged) {
    const std::uint64_t claimed = admission.info.size_bytes.value_or(0);
    const bool whole = cache_.is_whole(admission.info.id);
    const RangeKind kind = parse_range(header, claimed == 0 ? UINT64_MAX : claimed).kind;
    if (kind == RangeKind::other || (claimed == 0 && !whole)) {
      const std::string_view words =
          header.find(',') != std::string_view::npos
              ? "Requests with multiple ranges are not supported in Glance. You may make multiple single-range "
                "requests instead."
              : "The Range header is not one range of bytes.";
      co_await pass_file(exchange, request, context, "range", glance_error(400, words, exchange, context));
      co_return;
    }
    if (kind == RangeKind::unsatisfiable) {
      co_await answer_short(exchange, not_satisfiable(claimed, exchange, context));
      co_return;
    }
    if (!whole && !alone) {
      // The origin has the part at once. Where its store has no ranges (400) the image is fetched whole, and the part
      // is served from it.
      const bool answered = co_await pass(exchange, request, context,
                                          glance_error(503, "The image service cannot be reached.", exchange, context),
                                          unless_it_has_no_ranges);
      if (answered) {
        counters_.image_ranges.fetch_add(1);
        counters_.image_pass_bytes.fetch_add(exchange.body_bytes_sent());
        counters_.image_range_bytes.fetch_add(exchange.body_bytes_sent());
        co_return;
      }
    }
  }
  const std::chrono::seconds age = admission.age;
  auto reader = co_await cache_.open_described(std::move(admission.info), context);
  if (reader) {
    co_await send(exchange, std::move(*reader), age, ranged, context);
    co_return;
  }
  const Error& error = reader.error();
  if (origin_may_do_better(error.code) && !alone) {
    base::log::info("api", &context, "{}; passing it through", error.message);
    co_await pass_file(exchange, request, context, std::string(to_string(error.code)),
                       glance_error(error, exchange, context));
    co_return;
  }
  counters_.image_errors.fetch_add(1);
  base::log::warning("api", &context, "{}", error.message);
  co_await answer_short(exchange, glance_error(error, exchange, context));
}

base::Task<void> ImageApi::send(http::Exchange& exchange, Reader reader, std::chrono::seconds age, bool ranged,
                                const base::RequestContext& context) {
  const origin::ImageInfo& info = reader.info();
  const Outcome outcome = reader.outcome();
  std::optional<std::uint64_t> size = reader.size_bytes();
  if (ranged && outcome != Outcome::hit) {
    // A part that ends before the file's end would be complete before the digest is known: wait for the end.
    const auto whole = co_await reader.wait_available(UINT64_MAX, base::in(options_.range_wait));
    if (!whole) {
      counters_.image_errors.fetch_add(1);
      co_await answer_short(exchange, glance_error(whole.error(), exchange, context));
      co_return;
    }
    size = *whole;
  }
  http::Response head = file_head(200, info, cache_status(outcome), context);
  if (outcome == Outcome::hit) head.headers.emplace_back("Age", std::to_string(age.count()));
  std::uint64_t first = 0;
  std::optional<std::uint64_t> length = size;
  const RangeRequest range = ranged && size ? parse_range(exchange.header("Range"), *size) : RangeRequest{};
  if (range.kind == RangeKind::unsatisfiable && *size > 0) {
    co_await answer_short(exchange, not_satisfiable(*size, exchange, context));
    co_return;
  }
  const bool part = range.kind == RangeKind::one;
  if (part) {
    head.status = 206;
    first = range.range.first;
    length = range.range.last - first + 1;
    head.headers.emplace_back("Content-Range", fmt::format("bytes {}-{}/{}", first, range.range.last, *size));
  }
  http::WaitAvailable wait;
  if (outcome != Outcome::hit) {
    wait = [&reader](std::uint64_t offset, base::Deadline deadline) { return reader.wait_available(offset, deadline); };
  }
  auto& requests = part                            ? counters_.image_ranges
                   : outcome == Outcome::hit       ? counters_.image_hits
                   : outcome == Outcome::collapsed ? counters_.image_collapsed
                                                   : counters_.image_misses;
  requests.fetch_add(1);
  const auto sent = co_await exchange.respond_file(std::move(head), reader.fd(), first, length, std::move(wait));
  count_sent(exchange, outcome, part, sent.has_value());
  if (options_.log_image_send) log_sent(exchange, info, sent.has_value(), context);
  if (!sent) {
    // A client that went away or reads nothing says nothing of the file: only what the file did puts it in doubt, for
    // doubt costs the next reader a digest of all of it.
    if (sent.error().code != Errc::cancelled && sent.error().code != Errc::timeout) {
      counters_.image_errors.fetch_add(1);
      base::log::warning("api", &context, "image {}: {}", info.id, sent.error().message);
      const bool of_the_file = sent.error().code == Errc::internal || sent.error().code == Errc::corrupt;
      if (outcome == Outcome::hit && of_the_file) cache_.doubt(info.id);
    }
    co_return;
  }
  if (outcome == Outcome::hit) cache_.touch(info.id);
}

void ImageApi::count_sent(const http::Exchange& exchange, Outcome outcome, bool part, bool whole) {
  const std::uint64_t bytes = exchange.body_bytes_sent();
  auto& counter = outcome == Outcome::hit         ? counters_.image_hit_bytes
                  : outcome == Outcome::collapsed ? counters_.image_collapsed_bytes
                  : outcome == Outcome::miss      ? counters_.image_miss_bytes
                                                  : counters_.image_pass_bytes;
  counter.fetch_add(bytes);
  if (part) counters_.image_range_bytes.fetch_add(bytes);
  if (!whole) counters_.image_error_bytes.fetch_add(bytes);
}

base::Task<void> ImageApi::answer_short(http::Exchange& exchange, http::Response response) {
  // A client that has gone away is told nothing.
  if (!exchange.answered()) static_cast<void>(co_await exchange.respond(std::move(response)));
}

}  // namespace imagecache::api
