// The image API port: a caching reverse proxy in front of glance-api. GET and HEAD of an image's file are answered from
// the cache, /v2/cache is the cache's own management, the list of versions gains what the cache adds, and every other
// request goes through to the origin untouched.
//
// Why it exists: the cache knows images and callers but no HTTP; http knows requests but no image. app makes one and
// hands its handle() to the image API's server, which calls it on all I/O threads. It never blocks: what asks a server
// about a token is done on a pool.
//
// Always true:
//   * no byte of an image leaves before the origin has said yes to this caller for this image (ImageCache::admit());
//   * a client that sends no Range and no conditional header sees what glance-api would have sent, and additional
//     headers;
//   * what the origin denies it denies in its own words: the request is passed on;
//   * what passes by and makes an image another one, or takes a right away, holds here before its answer is sent.
//
// Where the origin is a directory there is nobody to pass a request on to; the little that clients need to download
// from it (the version list and one image's record) is answered here.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "api/byte_range.hpp"
#include "api/cache_management.hpp"
#include "api/image_request.hpp"
#include "base/blocking_pool.hpp"
#include "events/counters.hpp"
#include "http/server.hpp"
#include "identity/identity.hpp"
#include "identity/policy.hpp"
#include "image_cache/image_cache.hpp"

namespace imagecache::api {

class ImageApi {
 public:
  struct Options {
    std::vector<std::string> upstream_urls;  ///< empty: the origin is no server
    bool cache_enabled = true;               ///< the pipeline has the filter "cache"; false: files pass through
    bool management_enabled = true;  ///< image_cache_dir is set: /v2/cache is ours, and the versions that have it
    bool legacy_management = false;  ///< the pipeline has the filter "cachemanage": /v2/cached_images and queued_images
    bool preserve_host = true;       ///< origin_preserve_host: links in the origin's answers lead back to us
    bool trust_identity_headers = false;  ///< X-User-Id and the like go on to the origin: only behind a trusted front
    bool log_image_send = false;          ///< image_send_log: one line of log for each image sent
    std::chrono::milliseconds range_wait{600'000};       ///< for a part of an image that must be fetched whole first
    std::uint64_t max_version_list_bytes = 1024 * 1024;  ///< a longer one of the origin's is an error
  };

  /// All references outlive it. `pool` is where an authenticator that asks a server is asked.
  ImageApi(Options options, image_cache::ImageCache& cache, const identity::Authenticator& authenticator,
           const identity::Policy& policy, base::BlockingPool& pool, events::Counters& counters);

  base::Task<void> handle(http::Exchange& exchange);

 private:
  using OnAnswer = http::OnAnswer;

  // image_file.cpp
  base::Task<void> file(http::Exchange& exchange, const ImageRequest& request, std::string image_id);
  base::Task<void> refuse_file(http::Exchange& exchange, const ImageRequest& request, Error error,
                               const base::RequestContext& context);
  base::Task<void> serve_file(http::Exchange& exchange, const ImageRequest& request, image_cache::Admission admission,
                              const base::RequestContext& context);
  base::Task<void> send_head(http::Exchange& exchange, image_cache::Admission admission,
                             const base::RequestContext& context);
  base::Task<void> send(http::Exchange& exchange, image_cache::Reader reader, std::chrono::seconds age, bool ranged,
                        const base::RequestContext& context);
  base::Task<void> answer_short(http::Exchange& exchange, http::Response response);
  void count_sent(const http::Exchange& exchange, image_cache::Outcome outcome, bool part, bool whole);

  // image_proxy.cpp
  /// To the origin as it is, or, where there is none or it cannot be reached, `otherwise`. `on_answer` as Upstream's.
  /// True if the client has been answered.
  base::Task<bool> pass(http::Exchange& exchange, const ImageRequest& request, const base::RequestContext& context,
                        http::Response otherwise, OnAnswer on_answer = {});
  /// The file of an image, in the origin's words; `detail` goes into Cache-Status.
  base::Task<void> pass_file(http::Exchange& exchange, const ImageRequest& request, const base::RequestContext& context,
                             std::string detail, http::Response otherwise);
  /// Everything that is no business of the cache's but for what it implies.
  base::Task<void> pass_other(http::Exchange& exchange, const ImageRequest& request,
                              const base::RequestContext& context);
  base::Task<bool> settle(std::string method, std::string path, unsigned status, base::RequestContext context);
  http::Upstream upstream_for(const http::Exchange& exchange, const ImageRequest& request,
                              const base::RequestContext& context);

  // image_versions.cpp
  base::Task<void> answer_versions(http::Exchange& exchange, const ImageRequest& request,
                                   const base::RequestContext& context);

  // image_directory.cpp
  base::Task<void> answer_as_directory(http::Exchange& exchange, const ImageRequest& request,
                                       const base::RequestContext& context);

  // image_send_log.cpp
  void log_sent(const http::Exchange& exchange, const origin::ImageInfo& info, bool whole,
                const base::RequestContext& context) const;

  const Options options_;
  image_cache::ImageCache& cache_;
  const identity::Authenticator& authenticator_;
  events::Counters& counters_;
  CacheManagement management_;
  std::atomic<std::size_t> turn_ = 0;
};

}  // namespace imagecache::api
