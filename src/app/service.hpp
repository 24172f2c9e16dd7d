// The program put together: the only place that knows every room. It makes each room's options from the configuration,
// starts them lowest first, and stops them in the other order, so that nothing that was promised to a client is lost.
//
// Start and stop block; call them on the main thread. Tests start it on port 0 with a scripted origin.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "events/counters.hpp"
#include "image_cache/image_cache.hpp"
#include "imagecache/error.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::app {

/// Listening sockets that the service manager made for us, by what they are for: "image_api", "volume_api", "status",
/// "hook". They outlive a restart, so connections wait for the next process instead of being refused. The caller's.
using InheritedSockets = std::map<std::string, int, std::less<>>;

class Service {
 public:
  /// Everything up, recovered and listening, or an error that says what to do. Refuses a state_path that another
  /// process holds, and auth_strategy = noauth on an address that others can reach.
  static Result<std::unique_ptr<Service>> start(const config::Config& config, const InheritedSockets& sockets = {});
  ~Service();

  /// Accepts no more, lets what is in flight end for at most drain_timeout, writes what is unwritten.
  void stop();
  /// Reads the certificates and keys of our listeners and of our connections to the origin anew. Blocks.
  Result<void> reload_certificates();
  /// Says 503 on /healthcheck from now on, so that a balancer looks elsewhere; stop() does it too.
  void begin_draining();

  std::uint16_t image_api_port() const;
  std::uint16_t volume_api_port() const;
  std::uint16_t status_port() const;
  std::uint16_t hook_port() const;  ///< 0 where hook_bind is unset or a Unix socket

  events::Counters& counters();
  image_cache::ImageCache& images();
  volume_cache::VolumeCache& volumes();

 private:
  struct Parts;
  explicit Service(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

/// `serve`: loads the configuration, runs the service until SIGTERM or SIGINT, reopens the log and reads the
/// certificates anew at SIGHUP, tells systemd. Returns the exit status: 0 after a clean stop, 1 with the reason on
/// standard error.
int serve(const config::LoadRequest& request);

}  // namespace imagecache::app
