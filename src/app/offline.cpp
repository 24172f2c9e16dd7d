#include "app/offline.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "app/identities.hpp"
#include "app/room_options.hpp"
#include "app/state_lock.hpp"
#include "base/io_threads.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::app {
namespace {

using cli::ImagesAction;
using cli::ImagesReport;
using cli::ImagesRequest;
using image_cache::ImageCache;

/// What root makes here, the service's user could not write to afterwards.
Result<void> check_user(const std::string& directory) {
  struct stat info{};
  if (::geteuid() != 0 || ::stat(directory.c_str(), &info) != 0 || info.st_uid == 0) return {};
  const passwd* owner = ::getpwuid(info.st_uid);  // the program has one thread yet
  const std::string name = owner != nullptr ? owner->pw_name : fmt::format("#{}", info.st_uid);
  return fail(Errc::invalid_argument,
              fmt::format("{}: belongs to user {}; run this as that user (sudo -u '{}' …), or the service could not "
                          "write to what is made here",
                          directory, name, name));
}

/// The parts of the service that an image cache needs. In the order of construction; destroyed the other way round.
struct Cache {
  explicit Cache(image_cache::Options opts, std::unique_ptr<origin::Origin> from)
      : options(std::move(opts)), origin(std::move(from)) {}
  ~Cache() {
    if (images && recovered) io.run(images->stop(base::in(std::chrono::seconds(60))));
    io.stop();
    for (auto* threads : {&fill_pool, &digest_pool, &pool}) threads->reset();
  }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  Result<void> open() {
    const auto make = [](const char* name, unsigned threads) {
      return std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = name, .threads = threads});
    };
    pool = make("work", 4);
    fill_pool = make("fill", 1);
    digest_pool = make("digest", 1);
    images = std::make_unique<ImageCache>(options, *origin, *pool, *fill_pool, *digest_pool, clock, counters);
    IMAGECACHE_CHECK(images->recover());
    recovered = true;
    return {};
  }

  const image_cache::Options options;
  std::unique_ptr<origin::Origin> origin;
  base::SystemClock clock;
  events::Counters counters{};
  std::unique_ptr<ImageCache> images;
  std::unique_ptr<base::BlockingPool> pool, fill_pool, digest_pool;
  base::IoThreads io{1};
  bool recovered = false;
};

ImagesReport list(const ImageCache& images) {
  ImagesReport report;
  std::set<std::string> pinned;
  for (auto& id : images.pinned()) pinned.insert(std::move(id));
  for (auto& image : images.list()) {
    report.images.push_back({.image_id = image.image_id,
                             .state = "cached",
                             .size_bytes = image.size_bytes,
                             .hits = image.hits,
                             .last_accessed = image.last_accessed,
                             .last_modified = image.last_modified,
                             .pinned = pinned.erase(image.image_id) != 0});
  }
  for (auto& id : images.queued()) {
    const bool kept = pinned.erase(id) != 0;
    report.images.push_back({.image_id = std::move(id), .state = "queued", .pinned = kept});
  }
  for (const auto& id : pinned) report.images.push_back({.image_id = id, .state = "pinned", .pinned = true});
  return report;
}

/// Glance's layout: an empty file of the image's name. Not ImageCache::queue(), which would set to work on it.
Result<void> mark_queued(const Cache& cache, const std::string& id) {
  if (!base::is_uuid(id)) return fail(Errc::invalid_argument, "image " + id + ": not an image id");
  if (cache.images->is_cached(id)) return {};
  return base::write_file_atomically((std::filesystem::path(cache.options.directory) / "queue" / id).native(), "");
}

/// Reads along to the end of the fill, telling how far it is.
base::Task<Result<void>> follow(ImageCache& images, std::string id, base::RequestContext context,
                                const ImagesRequest& request) {
  constexpr auto interval = std::chrono::milliseconds(100);  // for people's eyes
  IMAGECACHE_CO_TRY(image_cache::Reader reader, co_await images.open(id, std::move(context)));
  auto told = std::chrono::steady_clock::time_point{};
  for (std::uint64_t done = 0;;) {
    const auto total = reader.size_bytes();
    const auto now = std::chrono::steady_clock::now();
    if (request.on_progress && reader.outcome() != image_cache::Outcome::hit && now - told >= interval) {
      told = now;
      request.on_progress(id, done, total.value_or(0));
    }
    if (total && done >= *total) break;
    IMAGECACHE_CO_TRY(done, co_await reader.wait_available(done, base::never));
  }
  // The last byte is readable a moment before the file is published.
  const auto fills = [&] {
    return std::ranges::any_of(images.fills(), [&](const auto& fill) { return fill.image_id == id; });
  };
  while (fills()) co_await base::sleep_until(base::in(std::chrono::milliseconds(10)));
  if (!images.is_cached(id)) co_return fail(Errc::no_space, "image " + id + ": came whole, but could not be kept");
  co_return Result<void>();
}

Result<void> fetch(Cache& cache, const std::string& id, const ImagesRequest& request) {
  auto context = base::internal_context();
  if (cache.options.service_context) {
    IMAGECACHE_TRY(context, cache.options.service_context());
  }
  IMAGECACHE_CHECK(cache.io.run(follow(*cache.images, id, std::move(context), request)));
  return cache.io.run(cache.images->unqueue(id));
}

Result<void> remove(Cache& cache, const std::string& id) {
  IMAGECACHE_CHECK(cache.io.run(cache.images->remove(id)));
  return cache.io.run(cache.images->unqueue(id));
}

ImagesReport for_each(const std::vector<std::string>& ids, const std::function<Result<void>(const std::string&)>& act) {
  ImagesReport report;
  for (const auto& id : ids) {
    auto done = act(id);
    report.outcomes.push_back({id, done ? std::nullopt : std::optional(std::move(done).error())});
  }
  return report;
}

Result<ImagesReport> removed(const Result<image_cache::Removed>& result) {
  if (!result) return std::unexpected(result.error());
  return ImagesReport{.files = result->files, .bytes = result->bytes};
}

Result<ImagesReport> act(Cache& cache, const ImagesRequest& request) {
  ImageCache& images = *cache.images;
  switch (request.action) {
    case ImagesAction::list:
      return list(images);
    case ImagesAction::queue:
      return for_each(request.ids, [&](const std::string& id) { return mark_queued(cache, id); });
    case ImagesAction::prefetch:
      return for_each(request.ids.empty() ? images.queued() : request.ids,
                      [&](const std::string& id) { return fetch(cache, id, request); });
    case ImagesAction::remove:
      return for_each(request.ids, [&](const std::string& id) { return remove(cache, id); });
    case ImagesAction::clear_all: {
      IMAGECACHE_TRY(auto report, removed(cache.io.run(images.remove_all())));
      IMAGECACHE_TRY(const auto queue, removed(cache.io.run(images.unqueue_all())));
      *report.files += *queue.files;
      return report;
    }
    case ImagesAction::clear_cache:
      return removed(cache.io.run(images.remove_all()));
    case ImagesAction::clear_queue:
      return removed(cache.io.run(images.unqueue_all()));
    case ImagesAction::prune:
      return removed(cache.io.run(images.prune()));
    case ImagesAction::clean:
      return removed(cache.io.run(images.clean()));
    case ImagesAction::pin:
      return for_each(request.ids, [&](const std::string& id) { return cache.io.run(images.pin(id)); });
    case ImagesAction::unpin:
      return for_each(request.ids, [&](const std::string& id) { return cache.io.run(images.unpin(id)); });
  }
  return fail(Errc::internal, "an action that nobody knows");
}

}  // namespace

Result<ImagesReport> work_offline(const config::Config& config, const ImagesRequest& request) {
  auto log = log_options(config);
  if (log.level == base::log::Level::info) log.level = base::log::Level::warning;  // cron mails what is written
  log.log_file.clear();
  IMAGECACHE_CHECK(base::log::setup(log));
  auto options = image_cache_options(config);
  options.service_context = service_context(config);
  const auto state_path = config.get_string(config::own_section, "state_path");
  IMAGECACHE_CHECK(check_user(state_path));
  IMAGECACHE_CHECK(check_user(options.directory));
  IMAGECACHE_TRY(const auto lock, lock_state(state_path));
  IMAGECACHE_TRY(auto origin, make_origin(config));
  Cache cache(std::move(options), std::move(origin));
  IMAGECACHE_CHECK(cache.open());
  return act(cache, request);
}

}  // namespace imagecache::app
