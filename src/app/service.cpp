#include "app/service.hpp"

#include <algorithm>
#include <boost/asio/detached.hpp>
#include <thread>

#include "api/api.hpp"
#include "api/images.hpp"
#include "api/import_file.hpp"
#include "app/identities.hpp"
#include "app/image_hints.hpp"
#include "app/notifications.hpp"
#include "app/room_options.hpp"
#include "app/start_extension.hpp"
#include "app/state_lock.hpp"
#include "base/io_threads.hpp"
#include "base/log.hpp"
#include "base/try.hpp"
#include "config/serving.hpp"
#include "http/router.hpp"

namespace imagecache::app {
namespace {

constexpr std::string_view own = config::own_section;

unsigned io_thread_count(const config::Config& config) {
  const auto threads = static_cast<unsigned>(config.get_unsigned(own, "io_threads"));
  return threads != 0 ? threads : std::max(1U, std::thread::hardware_concurrency());
}

/// A client that waits for a slow fill shall not keep a stop beyond its deadline.
base::Task<void> end_fills_at(image_cache::ImageCache* images, base::Deadline deadline) {
  co_await base::sleep_until(deadline);
  images->end_fills();
}

}  // namespace

// In the order of construction; destroyed the other way round.
struct Service::Parts {
  base::Fd lock;
  base::SystemClock clock;
  events::Counters counters{};
  std::unique_ptr<events::Notifier> notifier;
  std::chrono::seconds drain_timeout{60};
  bool stopped = false;

  std::unique_ptr<base::BlockingPool> pool;
  std::unique_ptr<base::BlockingPool> image_pool;  // apart, so that a slow origin keeps no catalog call waiting
  std::unique_ptr<base::BlockingPool> read_pool;
  std::unique_ptr<base::BlockingPool> fill_pool;
  std::unique_ptr<base::BlockingPool> digest_pool;
  std::unique_ptr<base::BlockingPool> load_pool;
  std::unique_ptr<origin::Origin> origin;
  std::unique_ptr<catalog::Catalog> catalog;
  std::unique_ptr<Identities> identities;
  std::unique_ptr<image_cache::ImageCache> images;
  std::unique_ptr<volume_cache::VolumeCache> volumes;
  std::unique_ptr<identity::Authenticator> cinder_volume;
  std::unique_ptr<api::ApiContext> api;
  std::unique_ptr<api::ApiContext> hook_api;  // as api, for callers that need no token
  std::unique_ptr<api::ImageApi> image_api;
  http::Router volume_router;
  http::Router status_router;
  http::Router hook_router;
  std::unique_ptr<base::IoThreads> io;
  std::unique_ptr<http::Server> image_server;
  std::unique_ptr<http::Server> volume_server;
  std::unique_ptr<http::Server> status_server;
  std::unique_ptr<http::Server> hook_server;
  std::unique_ptr<ImageHints> image_hints;
  std::unique_ptr<events::ImageListener> image_listener;

  // The event loops end first, so that no Task runs any more; then the threads, whose last jobs may still refer to
  // Tasks; then the Tasks, before anything that they refer to.
  ~Parts() {
    image_listener.reset();
    if (io) io->stop();
    if (images) images->end_fills();  // a start that failed is not to wait for the load
    volumes.reset();                  // with the drivers' threads
    for (auto* threads : {&load_pool, &fill_pool, &digest_pool, &read_pool, &image_pool, &pool}) threads->reset();
    io.reset();
  }

  Result<void> start(const config::Config& config, const InheritedSockets& sockets);
  Result<void> listen(const config::Config& config, const InheritedSockets& sockets);
};

Result<void> Service::Parts::start(const config::Config& config, const InheritedSockets& sockets) {
  const std::string state_path = config.get_string(own, "state_path");
  IMAGECACHE_TRY(lock, lock_state(state_path));
  IMAGECACHE_TRY(const config::Serving serving, config::check_serving(config));
  for (const auto& warning : serving.warnings) base::log::warning("config", nullptr, "{}", warning);
  const config::Pipeline& pipeline = serving.pipeline;
  if (pipeline.known) base::log::info("app", nullptr, "image API: pipeline {} ({})", pipeline.name, pipeline.source);
  IMAGECACHE_TRY(identities, Identities::load(config, pipeline));
  drain_timeout = config.get_seconds(own, "drain_timeout");

  // Each question to the origin keeps a thread until it is answered.
  const auto questions = static_cast<unsigned>(config.get_unsigned(own, "origin_max_questions"));
  const auto fills = static_cast<unsigned>(config.get_unsigned(own, "max_fills"));
  const auto threads = static_cast<unsigned>(config.get_unsigned(own, "blocking_threads"));
  pool = std::make_unique<base::BlockingPool>(
      base::BlockingPool::Options{.name = "work", .threads = threads, .queue_limit = 65536});
  image_pool = std::make_unique<base::BlockingPool>(
      base::BlockingPool::Options{.name = "images", .threads = questions, .queue_limit = 65536});
  read_pool = std::make_unique<base::BlockingPool>(
      base::BlockingPool::Options{.name = "read", .threads = 4, .queue_limit = 65536});
  fill_pool = std::make_unique<base::BlockingPool>(
      base::BlockingPool::Options{.name = "fill", .threads = fills, .queue_limit = 1024});
  digest_pool = std::make_unique<base::BlockingPool>(
      base::BlockingPool::Options{.name = "digest", .threads = fills, .queue_limit = 1024});
  load_pool = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "load"});

  IMAGECACHE_TRY(notifier, make_notifier(config, clock, counters));
  IMAGECACHE_TRY(origin, make_origin(config));
  IMAGECACHE_TRY(catalog, catalog::open_sqlite_catalog(state_path + "/catalog.sqlite", quota_defaults(config), clock));
  images = std::make_unique<image_cache::ImageCache>(image_cache_options(config), *origin, *image_pool, *fill_pool,
                                                     *digest_pool, clock, counters);
  IMAGECACHE_CHECK(images->recover_in_background(*load_pool));

  IMAGECACHE_TRY(const auto volume_options, volume_cache_options(config));
  IMAGECACHE_CHECK(base::make_directories(volume_options.convert.conversion_dir));
  IMAGECACHE_CHECK(convert::remove_leftovers(volume_options.convert.conversion_dir));
  if (auto found = convert::check_qemu_img(volume_options.convert); !found) {
    base::log::warning("app", nullptr, "{}", found.error().message);
  }
  IMAGECACHE_TRY(auto backends, make_backends(config));
  volumes = std::make_unique<volume_cache::VolumeCache>(volume_options, *catalog, *images, std::move(backends), *pool,
                                                        clock, counters, *notifier);
  {
    const StartExtension extension;
    IMAGECACHE_CHECK(volumes->recover());
  }

  api.reset(new api::ApiContext{.volumes = *volumes,
                                .images = images.get(),
                                .authenticator = identities->volume_api(),
                                .policy = identities->policy(),
                                .counters = counters,
                                .pool = *pool,
                                .clock = clock,
                                .options = api_options(config)});
  IMAGECACHE_TRY(api->options.state_id, state_id(state_path));
  cinder_volume = identity::make_trusting();
  hook_api.reset(new api::ApiContext{.volumes = *volumes,
                                     .images = images.get(),
                                     .authenticator = *cinder_volume,
                                     .policy = identities->policy(),
                                     .counters = counters,
                                     .pool = *pool,
                                     .clock = clock,
                                     .options = api->options});
  api::add_hook_api(hook_router, *hook_api);
  api::add_volume_api(volume_router, *api);
  api::add_status_api(status_router, *api);
  const bool has_directory = !config.get_string("DEFAULT", "image_cache_dir").empty();
  image_api = std::make_unique<api::ImageApi>(
      api::ImageApi::Options{.upstream_urls = origin->proxy_urls(),
                             .cache_enabled = has_directory && (!pipeline.known || pipeline.caches),
                             .management_enabled = has_directory,
                             .legacy_management = has_directory && (!pipeline.known || pipeline.manages_cache),
                             .preserve_host = config.get_bool(own, "origin_preserve_host"),
                             .log_image_send = config.get_bool(own, "image_send_log")},
      *images, identities->image_api(), identities->policy(), *pool, counters);
  io = std::make_unique<base::IoThreads>(io_thread_count(config));
  images->start(io->next());
  volumes->start(io->next());
  image_hints = std::make_unique<ImageHints>(*images, *volumes, io->next(),
                                             config.get_unsigned(own, "image_notifications_limit"), counters);
  IMAGECACHE_TRY(image_listener, make_image_listener(config, counters, [this](const events::ImageHint& hint) {
                   image_hints->take(hint);
                 }));
  return listen(config, sockets);
}

Result<void> Service::Parts::listen(const config::Config& config, const InheritedSockets& sockets) {
  const auto serve = [&](std::string name, http::Handler handler) {
    return std::make_unique<http::Server>(std::move(name), http_limits(config), upstream_tls(config),
                                          std::move(handler), *io, *read_pool, counters);
  };
  image_server = serve("image_api", [this](http::Exchange& exchange) {
    return api::is_import_request(exchange) ? api::serve_import(exchange, *images, *pool) : image_api->handle(exchange);
  });
  volume_server = serve("volume_api", [this](http::Exchange& exchange) { return volume_router.handle(exchange); });
  status_server = serve("status", [this](http::Exchange& exchange) { return status_router.handle(exchange); });
  const auto address = [&](std::string_view name) {
    http::BindAddress bind = bind_address(config, std::string(name) + "_bind");
    if (const auto found = sockets.find(name); found != sockets.end()) bind.inherited_fd = found->second;
    return bind;
  };
  const auto tls = server_tls(config);
  IMAGECACHE_CHECK(image_server->listen(address("image_api"), tls));
  IMAGECACHE_CHECK(volume_server->listen(address("volume_api"), tls));
  IMAGECACHE_CHECK(status_server->listen(address("status")));
  if (config.section(own).find_string("hook_bind")) {
    hook_server = serve("hook", [this](http::Exchange& exchange) { return hook_router.handle(exchange); });
    IMAGECACHE_CHECK(hook_server->listen(address("hook")));
  }
  return {};
}

Service::Service(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<Service>> Service::start(const config::Config& config, const InheritedSockets& sockets) {
  std::unique_ptr<Service> service(new Service(std::make_unique<Parts>()));
  if (auto started = service->parts_->start(config, sockets); !started) {
    service->stop();
    return std::unexpected(std::move(started).error());
  }
  return service;
}

Service::~Service() {
  stop();
}

Result<void> Service::reload_certificates() {
  parts_->origin->reload();
  for (auto* server : {&parts_->image_server, &parts_->volume_server}) {
    if (*server) IMAGECACHE_CHECK((*server)->reload_tls());
  }
  return {};
}

void Service::begin_draining() {
  for (auto* api : {&parts_->api, &parts_->hook_api}) {
    if (*api) (*api)->draining = true;
  }
}

void Service::stop() {
  Parts& parts = *parts_;
  if (parts.stopped || !parts.io) return;
  parts.stopped = true;
  begin_draining();
  const auto deadline = base::in(parts.drain_timeout);
  if (parts.image_listener) parts.image_listener->stop();
  // The doors first; then what clients no longer wait for; the status page last, so that the stop can be watched.
  if (parts.images) {
    base::asio::co_spawn(parts.io->next(), end_fills_at(parts.images.get(), deadline), base::asio::detached);
  }
  // But for where an import is on: what is still done to volumes may have to read its file at the image API.
  const bool is_read_from = parts.images && !parts.images->held().empty();
  if (parts.image_server && !is_read_from) parts.io->run(parts.image_server->stop(deadline));
  if (parts.volume_server) parts.io->run(parts.volume_server->stop(deadline));
  if (parts.hook_server) parts.io->run(parts.hook_server->stop(deadline));
  if (parts.image_hints) parts.io->run(parts.image_hints->stop());
  if (parts.volumes) parts.io->run(parts.volumes->stop(deadline));
  if (parts.image_server && is_read_from) parts.io->run(parts.image_server->stop(deadline));
  if (parts.images) parts.io->run(parts.images->stop(deadline));
  if (parts.notifier) parts.notifier->stop();
  if (parts.status_server) parts.io->run(parts.status_server->stop(base::in(std::chrono::seconds(1))));
}

std::uint16_t Service::image_api_port() const {
  return parts_->image_server->port();
}
std::uint16_t Service::volume_api_port() const {
  return parts_->volume_server->port();
}
std::uint16_t Service::status_port() const {
  return parts_->status_server->port();
}
std::uint16_t Service::hook_port() const {
  return parts_->hook_server ? parts_->hook_server->port() : 0;
}
events::Counters& Service::counters() {
  return parts_->counters;
}
image_cache::ImageCache& Service::images() {
  return *parts_->images;
}
volume_cache::VolumeCache& Service::volumes() {
  return *parts_->volumes;
}

}  // namespace imagecache::app
