// The api room: what the service says over HTTP, one small file per resource.
//
// Why it exists: the rooms below know images and volumes but no JSON, no status codes and no callers; http knows
// connections but no resource. This room stands between them: it reads a request, asks who is calling, checks what it
// can without a disk or a backend, calls one room below and puts the answer into the words of that API. Only app calls
// it, once per listener, to put routes on a http::Router; after that its handlers run as Tasks on the I/O threads and
// never block: catalog calls go to ApiContext::pool.
//
// Always true:
//   * nothing is done for a caller before the Authenticator has named him;
//   * a failure is turned into an answer in one place per API (errors.hpp), never in a handler's own words for a code;
//   * every text from outside is checked before it is used and escaped before it is shown;
//   * a project sees its own volumes; only an admin sees others, and only where he asks for them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/blocking_pool.hpp"
#include "base/clock.hpp"
#include "events/counters.hpp"
#include "identity/identity.hpp"
#include "identity/policy.hpp"
#include "image_cache/image_cache.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {

struct Options {
  std::uint64_t osapi_max_limit = 1000;    ///< most items of one page
  std::string availability_zone = "nova";  ///< storage_availability_zone
  std::string public_endpoint;             ///< "https://volume.example:8776"; empty: from the request's Host
  std::string internal_project_id;         ///< owner of image-volumes; may be empty
  std::string internal_user_id;
  std::string default_volume_type;  ///< name; empty: the first enabled backend
  std::string version = IMAGECACHE_VERSION;
  std::string host;  ///< this node's name, for people
  // By which callers of the hook tell this service from another.
  std::string state_id;
  std::string machine;               ///< what the operating system calls it, whatever [DEFAULT] host says
  bool enable_force_upload = false;  ///< also volumes that are in use are made images of, where that is asked for
  std::chrono::milliseconds hook_default_deadline{600'000};
  std::chrono::milliseconds hook_max_deadline{3'600'000};
  std::uint64_t image_cache_max_size_bytes = 0;  ///< for the status page; 0: nothing is cached
};

/// Everything a handler may use. Made by app in place, outlives the servers; shared by all handlers.
struct ApiContext {
  volume_cache::VolumeCache& volumes;
  image_cache::ImageCache* images;  ///< null where no image cache is kept
  const identity::Authenticator& authenticator;
  const identity::Policy& policy;
  const events::Counters& counters;
  base::BlockingPool& pool;  ///< for catalog calls
  const base::Clock& clock;
  Options options;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::mutex row_maps{};  ///< held on a pool thread over a read-change-write of a row's maps, so that none is lost
  std::atomic<bool> draining{false};  ///< set by app when a stop begins: /healthcheck says 503 from then on
};

}  // namespace imagecache::api
