#include "api/images.hpp"

#include <utility>

#include "api/glance_answers.hpp"

namespace imagecache::api {

ImageApi::ImageApi(Options options, image_cache::ImageCache& cache, const identity::Authenticator& authenticator,
                   const identity::Policy& policy, base::BlockingPool& pool, events::Counters& counters)
    : options_(std::move(options)),
      cache_(cache),
      authenticator_(authenticator),
      counters_(counters),
      management_({.enabled = options_.management_enabled,
                   .legacy = options_.legacy_management,
                   .answers_when_disabled = options_.upstream_urls.empty()},
                  cache, authenticator, policy, pool) {}

base::Task<void> ImageApi::handle(http::Exchange& exchange) {
  const ImageRequest request = read_image_request(exchange.target(), exchange.header("Accept"));
  const std::string_view method = exchange.method();
  if (options_.cache_enabled && (method == "GET" || method == "HEAD")) {
    if (std::string id = image_id_of(request.path, "/file"); !id.empty()) {
      co_await file(exchange, request, std::move(id));
      co_return;
    }
  }
  if (co_await management_.handle(exchange, request.path)) co_return;
  const base::RequestContext context = image_context(exchange);
  if (options_.upstream_urls.empty()) {
    co_await answer_as_directory(exchange, request, context);
  } else if (request.asks_versions && method == "GET" && options_.management_enabled) {
    co_await answer_versions(exchange, request, context);
  } else {
    co_await pass_other(exchange, request, context);
  }
}

}  // namespace imagecache::api
