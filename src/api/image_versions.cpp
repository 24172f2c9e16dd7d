// The list of versions: the origin's, and what the cache adds to it.

#include <utility>

#include "api/glance_answers.hpp"
#include "api/images.hpp"
#include "api/version_list.hpp"
#include "base/log.hpp"
#include "http/head.hpp"

namespace imagecache::api {

base::Task<void> ImageApi::answer_versions(http::Exchange& exchange, const ImageRequest& request,
                                           const base::RequestContext& context) {
  for (std::size_t tries = options_.upstream_urls.size(); tries > 0; --tries) {
    http::Upstream upstream = upstream_for(exchange, request, context);
    const auto url = http::parse_url(upstream.url);
    auto answer = co_await exchange.ask_upstream(std::move(upstream), options_.max_version_list_bytes);
    if (!answer) {
      base::log::warning("api", &context, "{} {}: {}", exchange.method(), exchange.path(), answer.error().message);
      continue;
    }
    if (auto more = with_cache_versions(answer->body, url ? url->authority : "", exchange.header("Host"),
                                        exchange.scheme() == "https")) {
      answer->body = std::move(*more);
    }
    co_await answer_short(exchange, std::move(*answer));
    co_return;
  }
  co_await answer_short(exchange, glance_error(503, "The image service cannot be reached.", exchange, context));
}

}  // namespace imagecache::api
