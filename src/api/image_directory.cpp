// What clients need of glance-api to download an image, where the origin is a directory of files and there is no
// Glance.

#include <fmt/format.h>

#include "api/glance_answers.hpp"
#include "api/image_view.hpp"
#include "api/images.hpp"
#include "api/version_list.hpp"

namespace imagecache::api {

base::Task<void> ImageApi::answer_as_directory(http::Exchange& exchange, const ImageRequest& request,
                                               const base::RequestContext& context) {
  const bool read = exchange.method() == "GET" || exchange.method() == "HEAD";
  if (read && request.asks_versions) {
    const std::string self = fmt::format("{}://{}/v2/", exchange.scheme(), exchange.header("Host"));
    const Json version{{"id", "v2.9"}, {"status", "CURRENT"}, {"links", {{{"rel", "self"}, {"href", self}}}}};
    http::Response response = glance_json(Json{{"versions", Json::array({version})}}, context);
    if (options_.management_enabled) {
      if (auto more = with_cache_versions(response.body, "", "")) response.body = std::move(*more);
    }
    if (!request.path.starts_with("/versions")) response.status = 300;
    co_await answer_short(exchange, std::move(response));
    co_return;
  }
  if (const std::string id = image_id_of(request.path, ""); read && !id.empty()) {
    const auto info = co_await cache_.describe(id, context);
    co_await answer_short(
        exchange, info ? glance_json(image_record(*info), context) : glance_error(info.error(), exchange, context));
    co_return;
  }
  co_await answer_short(
      exchange,
      glance_error(404, "The origin is a directory of files: an image's record and its file can be had, no more.",
                   exchange, context));
}

}  // namespace imagecache::api
