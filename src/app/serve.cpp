#include <systemd/sd-daemon.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "app/room_options.hpp"
#include "app/service.hpp"
#include "base/log.hpp"

namespace imagecache::app {
namespace {

/// What systemd's socket units made: FileDescriptorName= says which is which.
Result<InheritedSockets> inherited_sockets() {
  InheritedSockets sockets;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  if (count < 0) return base::fail_errno("the sockets from systemd", -count);
  Result<InheritedSockets> result = std::move(sockets);
  for (int i = 0; i < count; ++i) {
    const std::string name = names[i];
    const bool known = name == "image_api" || name == "volume_api" || name == "status" || name == "hook";
    if (result && !known) {
      result = fail(Errc::invalid_argument, "a socket from systemd is named " + name +
                                                ": FileDescriptorName must be image_api, volume_api, "
                                                "status or hook");
    }
    if (result && !result->emplace(name, SD_LISTEN_FDS_START + i).second) {
      result = fail(Errc::invalid_argument, "two sockets from systemd are named " + name + ": one ListenStream each");
    }
    std::free(names[i]);
  }
  std::free(static_cast<void*>(names));
  return result;
}

int complain(const Error& error) {
  std::fprintf(stderr, "cinder-image-cache: %s\n", error.message.c_str());
  return 1;
}

/// The address as it is, not as it was asked for: port 0 is any free one.
std::string listening(const config::Config& config, std::string_view option, std::uint16_t port) {
  auto address = config.get_bind_address(config::own_section, option);
  if (!address.is_unix()) address.port = port;
  return address.to_string();
}

}  // namespace

int serve(const config::LoadRequest& request) {
  // Blocked before the first thread starts, so that every thread has them blocked and they come to sigwait() alone.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  const auto config = config::load(request);
  if (!config) return complain(config.error());
  if (auto ready = base::log::setup(log_options(*config)); !ready) return complain(ready.error());
  for (const auto& warning : config->warnings()) base::log::warning("config", nullptr, "{}", warning);

  const auto sockets = inherited_sockets();
  if (!sockets) return complain(sockets.error());
  auto service = Service::start(*config, *sockets);
  if (!service) {
    base::log::error("app", nullptr, "{}", service.error().message);
    return config->log_file().empty() ? 1 : complain(service.error());
  }
  base::log::info("app", nullptr, "version {} is serving: image API {}, volume API {}, status {}", IMAGECACHE_VERSION,
                  listening(*config, "image_api_bind", (*service)->image_api_port()),
                  listening(*config, "volume_api_bind", (*service)->volume_api_port()),
                  listening(*config, "status_bind", (*service)->status_port()));
  sd_notify(0, "READY=1");

  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) {
      base::log::info("app", nullptr, "stopping: requests in flight may end");
      break;
    }
    if (auto reopened = base::log::reopen(); !reopened) {
      base::log::error("app", nullptr, "{}", reopened.error().message);
    }
    if (auto reloaded = (*service)->reload_certificates(); !reloaded) {
      base::log::error("app", nullptr, "{}; those loaded before stay in use", reloaded.error().message);
    }
    base::log::info("app", nullptr, "log reopened, certificates read anew");
  }
  sd_notify(0, "STOPPING=1");
  (*service)->stop();
  base::log::info("app", nullptr, "stopped");
  return 0;
}

}  // namespace imagecache::app
