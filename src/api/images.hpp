// The image API port: a caching reverse proxy in front of glance-api. GET of an image's file is answered from the
// cache, /v2/cache is the cache's own management, and every other request goes through to the origin untouched.
//
// Where the origin is a directory there is nobody to pass a request on to; the little that clients need to download
// from it (the version list and one image's record) is answered here.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/blocking_pool.hpp"
#include "events/counters.hpp"
#include "http/server.hpp"
#include "identity/identity.hpp"
#include "image_cache/image_cache.hpp"

namespace imagecache::api {

class ImageApi {
 public:
  struct Options {
    std::vector<std::string> upstream_urls;  ///< empty: the origin is no server
    bool cache_enabled = true;               ///< false: everything passes through
  };

  /// All references outlive it. Used from all I/O threads.
  ImageApi(Options options, image_cache::ImageCache& cache, const identity::Authenticator& authenticator,
           events::Counters& counters);

  base::Task<void> handle(http::Exchange& exchange);

 private:
  base::Task<void> get_file(http::Exchange& exchange, std::string image_id);
  base::Task<void> send(http::Exchange& exchange, image_cache::Reader reader, base::RequestContext context);
  /// To the origin as it is; or, where there is none, `otherwise`.
  base::Task<void> pass(http::Exchange& exchange, const base::RequestContext& context, http::Response otherwise);
  base::Task<void> answer_as_directory(http::Exchange& exchange, std::string_view path);

  const Options options_;
  image_cache::ImageCache& cache_;
  const identity::Authenticator& authenticator_;
  events::Counters& counters_;
  std::atomic<std::size_t> turn_ = 0;
};

/// /v2/cache in all its verbs, and the two newer calls; answers as glance-api 25.1 words them. False if the path is
/// none of these.
base::Task<bool> handle_cache_management(http::Exchange& exchange, std::string_view path,
                                         image_cache::ImageCache& cache, const identity::Authenticator& authenticator);

/// What both files start with: who asks, for the log and for the origin.
base::RequestContext image_context(const http::Exchange& exchange);
/// A short text as glance-api words its errors: "404 Not Found\n\nexplanation\n\n   ".
http::Response glance_error(unsigned status, std::string_view explanation, const base::RequestContext& context);
unsigned glance_status(Errc code);

}  // namespace imagecache::api
