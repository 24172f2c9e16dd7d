// The cache's own management, at the image API's address: /v2/cache in all its verbs, its two newer calls, and, where
// the pipeline has the filter "cachemanage", the older /v2/cached_images and /v2/queued_images. Order of checks, status
// codes and words are glance-api's; what needs which policy is in identity::image_cache_policies().
#pragma once

#include <string>
#include <string_view>

#include "api/json.hpp"
#include "base/blocking_pool.hpp"
#include "http/server.hpp"
#include "identity/identity.hpp"
#include "identity/policy.hpp"
#include "image_cache/image_cache.hpp"

namespace imagecache::api {

class CacheManagement {
 public:
  struct Options {
    bool enabled = true;  ///< false: there is no cache to manage here
    bool legacy = false;
    bool answers_when_disabled = false;  ///< there is no origin that could say that there is no cache
  };

  /// All references outlive it. `pool` is where an authenticator that blocks is asked.
  CacheManagement(Options options, image_cache::ImageCache& cache, const identity::Authenticator& authenticator,
                  const identity::Policy& policy, base::BlockingPool& pool);

  /// Answers the request if `path` (as ImageRequest has it) is one of its own; false otherwise.
  base::Task<bool> handle(http::Exchange& exchange, std::string path);

 private:
  /// One request on its way.
  struct Call {
    http::Exchange& exchange;
    base::RequestContext who;
  };
  using Answer = base::Task<http::Response>;

  Answer refuse_stranger(const Error& error, const http::Exchange& exchange) const;

  // cache_management.cpp
  Answer answer(Call& call, std::string path);
  Answer answer_whole(Call& call);
  Answer answer_one(Call& call, std::string id);
  Answer run(Call& call, std::string_view policy, std::string_view what);
  Answer list(Call& call);
  /// So that a glance-api on the same directory lists the same.
  base::Task<void> catch_up(const Call& call);
  Answer clear(Call& call);
  Answer queue(Call& call, std::string id);
  Answer remove(Call& call, std::string id);
  bool is_known(const std::string& id);
  http::Response forbidden(const Call& call, std::string_view policy) const;
  http::Response disabled(const Call& call) const;

  // cache_legacy.cpp
  /// Is it a route of the filter "cachemanage"? Other methods on the same paths are not.
  static bool is_legacy(std::string_view method, std::string_view path);
  Answer answer_legacy(Call& call, std::string path);
  Answer legacy_change(Call& call, std::string list, std::string id);

  const Options options_;
  image_cache::ImageCache& cache_;
  const identity::Authenticator& authenticator_;
  const identity::Policy& policy_;
  base::BlockingPool& pool_;
};

/// [{"image_id", "hits", "last_accessed", "last_modified", "size"}]: one listing, by both generations of the API.
Json cached_images_view(const image_cache::ImageCache& cache);
/// An image's id that may be acted upon: Glance's are UUIDs, and names such as "cache.db" are files of the cache's own.
bool is_image_id(std::string_view id);

}  // namespace imagecache::api
