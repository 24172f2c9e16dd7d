// Requests that go on to the origin, and what their answers mean for the cache.

#include <fmt/format.h>

#include <utility>

#include "api/glance_answers.hpp"
#include "api/images.hpp"
#include "base/log.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view unreachable = "The image service cannot be reached.";

bool is_good(unsigned status) {
  return status >= 200 && status < 300;
}

base::Task<bool> mark_file(http::Response& head, std::string detail, events::Counters& counters) {
  head.headers.emplace_back("Cache-Status", "cinder-image-cache; fwd=bypass; detail=" + detail);
  if (is_good(head.status)) counters.image_passes.fetch_add(1);
  co_return true;
}

}  // namespace

http::Upstream ImageApi::upstream_for(const http::Exchange& exchange, const ImageRequest& request,
                                      const base::RequestContext& context) {
  http::Upstream upstream{.url = options_.upstream_urls[turn_++ % options_.upstream_urls.size()],
                          .target = options_.management_enabled ? request.upstream_target : std::string(),
                          .preserve_host = options_.preserve_host};
  if (context.global_request_id.empty()) upstream.extra.emplace_back("X-Openstack-Request-Id", context.request_id);
  if (options_.management_enabled && !request.upstream_accept.empty()) {
    upstream.extra.emplace_back("Accept", request.upstream_accept);
  }
  if (!options_.trust_identity_headers) upstream.drop = identity_headers(exchange.headers());
  return upstream;
}

base::Task<bool> ImageApi::pass(http::Exchange& exchange, const ImageRequest& request,
                                const base::RequestContext& context, http::Response otherwise, OnAnswer on_answer) {
  // A request that changes nothing may be put to the next server where one is away.
  const bool again = exchange.method() == "GET" || exchange.method() == "HEAD";
  std::size_t tries = options_.upstream_urls.empty() ? 0 : again ? options_.upstream_urls.size() : 1;
  for (; tries > 0; --tries) {
    http::Upstream upstream = upstream_for(exchange, request, context);
    upstream.on_answer = on_answer;
    const auto status = co_await exchange.pass_through(std::move(upstream));
    if (status) co_return exchange.answered();
    if (status.error().code == Errc::cancelled) co_return true;
    base::log::warning("api", &context, "{} {}: {}", exchange.method(), exchange.path(), status.error().message);
    if (exchange.answered()) co_return true;
  }
  co_await answer_short(exchange, std::move(otherwise));
  co_return true;
}

base::Task<void> ImageApi::pass_file(http::Exchange& exchange, const ImageRequest& request,
                                     const base::RequestContext& context, std::string detail,
                                     http::Response otherwise) {
  const auto mark = [&counters = counters_, detail = std::move(detail)](http::Response& head) {
    return mark_file(head, detail, counters);
  };
  co_await pass(exchange, request, context, std::move(otherwise), mark);
  counters_.image_pass_bytes.fetch_add(exchange.body_bytes_sent());
}

base::Task<void> ImageApi::pass_other(http::Exchange& exchange, const ImageRequest& request,
                                      const base::RequestContext& context) {
  OnAnswer on_answer;
  const std::string_view method = exchange.method();
  if (method != "GET" && method != "HEAD" && method != "OPTIONS") {
    on_answer = [this, method = std::string(method), path = request.path, context](http::Response& head) {
      return settle(method, path, head.status, context);
    };
  }
  co_await pass(exchange, request, context, glance_error(503, unreachable, exchange, context), std::move(on_answer));
}

base::Task<bool> ImageApi::settle(std::string method, std::string path, unsigned status, base::RequestContext context) {
  const std::string id = image_id_in(path);
  if (id.empty() || !is_good(status)) co_return true;
  // Whatever was changed, visibility, members, status, locations: who may have the image is asked anew. Other content
  // shows in what the origin says of the image.
  cache_.forget_admissions(id);
  const bool gone = method == "DELETE" && image_id_of(path, "") == id;
  const bool new_data = method == "PUT" && image_id_of(path, "/file") == id;
  if (gone || new_data) {
    if (auto removed = co_await cache_.remove(id); !removed) {
      base::log::warning("api", &context, "{}", removed.error().message);
    }
  }
  if (gone) {
    if (auto removed = co_await cache_.unqueue(id); !removed) {
      base::log::warning("api", &context, "{}", removed.error().message);
    }
  }
  co_return true;
}

}  // namespace imagecache::api
