// One image-volume: who waits for it, and how it is made.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/crash_point.hpp"
#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr int source_attempts = 3;

/// Failures that say something about who asked first, not about the image: others try for themselves.
bool is_of_the_asker(Errc code) {
  return code == Errc::unauthenticated || code == Errc::forbidden || code == Errc::not_found ||
         code == Errc::cancelled || code == Errc::timeout;
}

}  // namespace

Task<Result<VolumeCache::Impl::Source>> VolumeCache::Impl::take_source(Wanted wanted, std::stop_token stop,
                                                                       Deadline deadline,
                                                                       std::function<void(BuildPtr)> waiting_on) {
  const std::string& backend_name = wanted.backend->options().name;
  const std::string place = place_of(backend_name, wanted.pool);
  const std::string host_and_pool = wanted.backend->options().host_and_pool(wanted.pool);
  const std::string key = key_of(wanted.image);
  const unsigned clones_limit = wanted.backend->capabilities().clones_per_source;
  bool counted = false;
  for (int attempt = 0; attempt < source_attempts; ++attempt) {
    BasePtr ready, worn_out;
    BuildPtr build;
    bool started = false;
    {
      const std::lock_guard lock(mutex);
      if (wanted.ahead && stopping) co_return fail(Errc::unavailable, "the service is stopping");
      ready = index.use(place, key);
      if (ready && clones_limit != 0 && index.living_clones(ready) > clones_limit) {
        index.release(ready, nullptr);
        worn_out = std::exchange(ready, nullptr);
      } else if (ready) {
        if (!counted) ++counters.volume_hits;
      } else if (const auto running = builds.find({place, key}); running != builds.end()) {
        build = running->second;
        if (!counted) ++counters.volume_collapsed;
      } else {
        build = std::make_shared<Build>();
        build->backend = wanted.backend;
        build->pool = wanted.pool;
        build->image = wanted.image;
        build->key = key;
        build->context = wanted.context;
        build->is_repair = wanted.is_repair;
        build->ahead = true;
        builds[{place, key}] = build;
        started = true;
        if (!counted) ++counters.volume_misses;
      }
      if (build) {
        ++build->waiters;
        build->ahead = build->ahead && wanted.ahead;
        build->largest_wanted_gb = std::max(build->largest_wanted_gb, wanted.size_gb);
      }
    }
    if (ready) {
      if (!counted)
        tell_of_cache("hit", ready->image_id, host_and_pool, wanted.context, {{"image_volume_id", ready->volume_id}});
      co_return Source{.image_volume = std::move(ready), .outcome = Outcome::hit};
    }
    if (build && !counted)
      tell_of_cache("miss", wanted.image.id, host_and_pool, wanted.context,
                    {{"result", started ? "miss" : "collapsed"}});
    counted = true;
    if (worn_out) {
      IMAGECACHE_CO_CHECK(co_await evict(std::move(worn_out), "it has as many clones as its backend allows"));
      continue;
    }
    if (waiting_on) waiting_on(build);
    if (started) {
      const base::Executor executor = co_await base::asio::this_coro::executor;
      group.spawn(executor, run_build(build));
      group.spawn(executor, stop_at(build, create_deadline()));
    }

    std::optional<Result<BasePtr>> result;
    std::string refusal;
    bool used_up = false;
    bool was_ahead = false;
    bool in_time = true;
    const std::stop_callback wake(stop, [build] { build->changed.notify(); });
    for (;;) {
      const std::uint64_t seen = build->changed.version();
      {
        const std::lock_guard lock(mutex);
        result = build->result;
        refusal = build->refusal;
        was_ahead = build->refused_ahead;
        if (!result && (!in_time || stop.stop_requested())) --build->waiters;
        used_up = result && *result && **result && build->uses == 0;
        if (result && *result && **result && !used_up) --build->uses;
      }
      if (result || !in_time || stop.stop_requested()) break;
      in_time = co_await build->changed.wait_past(seen, deadline);
    }
    if (waiting_on) waiting_on(nullptr);
    if (!result && in_time) co_return fail(Errc::cancelled, "image " + wanted.image.id + ": no longer wanted");
    if (!result)
      co_return fail(Errc::timeout, fmt::format("image {}: its image-volume on {} was not ready in time",
                                                wanted.image.id, backend_name));
    if (used_up || (was_ahead && !wanted.ahead)) continue;
    if (*result && !**result)
      co_return Source{.image_volume = nullptr, .outcome = Outcome::uncached, .refusal = std::move(refusal)};
    if (*result)
      co_return Source{.image_volume = std::move(**result), .outcome = started ? Outcome::miss : Outcome::collapsed};
    const Error& error = result->error();
    const bool for_others_only =
        error.code == Errc::unacceptable_image && build->refused_gb != 0 && wanted.size_gb > build->refused_gb;
    if (started || !(is_of_the_asker(error.code) || for_others_only) || stop.stop_requested())
      co_return std::unexpected(error);
  }
  // It is evicted, used up or fails for others as often as it is made. The user gets the volume all the same.
  co_return Source{.image_volume = nullptr,
                   .outcome = Outcome::uncached,
                   .refusal = "its image-volume went to others each time it was made"};
}

Task<void> VolumeCache::Impl::stop_at(BuildPtr build, Deadline deadline) {
  for (;;) {
    const std::uint64_t seen = build->changed.version();
    {
      const std::lock_guard lock(mutex);
      if (build->result) co_return;
    }
    if (!co_await build->changed.wait_past(seen, deadline)) break;
  }
  build->stop.request_stop();
}

Task<void> VolumeCache::Impl::run_build(BuildPtr build) {
  ++counters.volume_builds_started;
  Result<BasePtr> result = fail(Errc::internal, "the build ended without a result");
  try {
    result = co_await build_image_volume(build);
  } catch (const std::exception& problem) {
    result = fail(Errc::internal, fmt::format("image {}: {}", build->image.id, problem.what()));
  }
  if (result && *result) {
    ++counters.volume_builds_completed;
  } else {
    ++counters.volume_builds_failed;
  }
  {
    const std::lock_guard lock(mutex);
    // In one step with the end of the build: whoever comes now finds either the one or the other.
    if (result && *result) {
      const unsigned limit = build->backend->capabilities().clones_per_source;
      build->uses = limit == 0 ? build->waiters : std::min(build->waiters, limit);
      index.add(*result, build->uses, true);
    }
    build->steps.phase = Phase::done;
    build->result = std::move(result);
    builds.erase({build->place(), build->key});
  }
  build->changed.notify();
}

Task<Result<BasePtr>> VolumeCache::Impl::build_image_volume(BuildPtr build) {
  const auto started = std::chrono::steady_clock::now();
  const BackendOptions& place = build->backend->options();
  const std::stop_token stop = build->stop.get_token();
  if (BasePtr former = index.find(build->place(), build->key)) {
    if (Result<void> gone = co_await evict(std::move(former), "it is made anew"); !gone) {
      base::log::warning(room_name, &build->context, "image {} is not kept on {} now: {}", build->image.id, place.name,
                         gone.error().message);
      const std::lock_guard lock(mutex);
      build->refusal = gone.error().message;
      co_return BasePtr();
    }
  }
  IMAGECACHE_CO_TRY(Opened opened,
                    co_await fetch_and_inspect(build->image, build->context, stop, create_deadline(), build->steps));
  const std::uint64_t virtual_size_bytes = opened.inspection.virtual_size_bytes;
  {
    const std::lock_guard lock(mutex);
    Result<void> fits = convert::check_fits(build->image.id, virtual_size_bytes, build->largest_wanted_gb);
    if (!fits) {
      build->refused_gb = build->largest_wanted_gb;
      co_return std::unexpected(std::move(fits).error());
    }
  }
  std::optional<KeyedTurns::Turn> slot = co_await build_slots.take("", stop);
  if (!slot) co_return fail(Errc::cancelled, "image " + build->image.id + ": the build was stopped");

  auto image_volume = std::make_shared<Base>();
  image_volume->volume_id = base::new_uuid();
  image_volume->name = fill_template(options.volume_name_template, image_volume->volume_id);
  image_volume->backend = place.name;
  image_volume->pool = build->pool;
  image_volume->volume_type = place.volume_backend_name;
  image_volume->content_key = build->key;
  image_volume->image_id = build->image.id;
  image_volume->image_content = build->image.content_key();
  image_volume->size_gb = base::to_gib_ceil(virtual_size_bytes);
  image_volume->virtual_size_bytes = virtual_size_bytes;
  image_volume->is_repair = build->is_repair;
  image_volume->last_used = clock.now();
  IMAGECACHE_CO_TRY(const bool reserved, co_await reserve(build, image_volume));
  if (!reserved) co_return BasePtr();

  bool touched = false;
  Result<void> written;
  {
    base::Fd file;
    const convert::Format format = opened.inspection.format;
    if (may_import(*build->backend, opened)) file = base::Fd(::fcntl(opened.fd.get(), F_DUPFD_CLOEXEC, 0));
    Result<std::unique_ptr<ImageFile>> disk = co_await open_disk(std::move(opened), stop, build->steps);
    Result<bool> imported = false;
    if (disk && file)
      imported = co_await import_image_volume(build, image_volume, std::move(file), format, **disk, touched);
    if (!imported) {
      written = std::unexpected(std::move(imported).error());
    } else if (disk && !*imported) {
      written = co_await write_image_volume(build, image_volume, **disk, touched);
    } else if (disk) {
      written = Result<void>();
    } else {
      written = std::unexpected(std::move(disk).error());
    }
  }
  const auto build_time =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started);
  image_volume->build_ms = static_cast<std::uint64_t>(build_time.count());
  if (written) {
    // For the report; nobody's volume depends on it.
    const auto used = co_await build->backend->used_bytes(VolumeId{image_volume->name});
    if (!used)
      base::log::warning(room_name, &build->context, "image-volume {}: how much it holds is not known: {}",
                         image_volume->volume_id, used.error().message);
    const Catalog::ImageVolumeUpdate done{
        .state = "ready", .build_ms = image_volume->build_ms, .used_bytes = used ? *used : std::nullopt};
    auto finish = [id = image_volume->volume_id, done](Catalog& to) -> Result<void> {
      IMAGECACHE_CHECK(to.update_volume(id, {.status = "available"}));
      return to.update_image_volume(id, done);
    };
    written = co_await in_catalog(std::move(finish));
  }
  if (!written) {
    base::log::warning(room_name, &build->context, "image {} could not be built on {}: {}", build->image.id, place.name,
                       written.error().message);
    co_await drop_failed_build(build, std::move(image_volume), touched);
    co_return std::unexpected(std::move(written).error());
  }
  if (!image_volume->held_file.empty())
    group.spawn(co_await base::asio::this_coro::executor, run_import(image_volume, false));
  co_await tell_of("create.end", image_volume->volume_id, build->context);
  base::log::info(room_name, &build->context, "image {} is kept on {} as image-volume {} of {} GiB, made in {} ms",
                  build->image.id, place.name, image_volume->volume_id, image_volume->size_gb, build_time.count());
  co_return image_volume;
}

Task<Result<void>> VolumeCache::Impl::write_image_volume(BuildPtr build, BasePtr image_volume, const ImageFile& disk,
                                                         bool& touched) {
  Backend& to = *build->backend;
  const VolumeId name{image_volume->name};
  const std::stop_token stop = build->stop.get_token();
  for (bool may_make_room = true;; may_make_room = false) {
    touched = true;
    Result<void> done = co_await to.create_volume(name, image_volume->size_gb * base::gib);
    if (!done && done.error().code == Errc::already_exists) touched = false;
    if (done) {
      base::crash_point("build.created");
      done = co_await to.copy_image_to_volume(disk, name, stop);
    }
    if (done) {
      base::crash_point("build.copied");
      done = co_await to.seal(name);
    }
    if (done) {
      base::crash_point("build.sealed");
      co_return done;
    }
    if (done.error().code != Errc::no_space || !may_make_room) co_return done;
    if (!may_evict_for(*build)) {
      give_up_ahead(*build);
      co_return done;
    }
    // The storage is full. As many of the least recently used go as hold what this one may need.
    std::uint64_t freed_bytes = 0;
    std::vector<BasePtr> victims =
        index.take_oldest(build->place(), [&freed_bytes, needed = build->steps.total_bytes.load()](const Base& victim) {
          freed_bytes += victim.virtual_size_bytes;
          return freed_bytes >= needed;
        });
    if (victims.empty()) co_return done;
    IMAGECACHE_CO_CHECK(co_await to.delete_volume(name));
    IMAGECACHE_CO_CHECK(co_await evict_all(std::move(victims), "the backend is full"));
    build->steps.enter(Phase::convert, build->steps.total_bytes.load());
  }
}

Task<void> VolumeCache::Impl::drop_failed_build(BuildPtr build, BasePtr image_volume, bool touched) {
  Result<void> dropped;
  if (touched) dropped = co_await build->backend->delete_volume(VolumeId{image_volume->name});
  if (dropped) {
    auto remove_row = [id = image_volume->volume_id](Catalog& from) { return from.remove_volume(id); };
    dropped = co_await in_catalog(std::move(remove_row));
  }
  if (dropped) {
    co_await let_go_of(image_volume->held_file);
    index.unreserve(image_volume->place(), image_volume->size_gb);
    co_return;
  }
  // It goes on taking space and quota until the next build of this content, an eviction or the next start removes it.
  base::log::error(room_name, &build->context, "image-volume {} on {} failed and could not be removed: {}",
                   image_volume->volume_id, image_volume->backend, dropped.error().message);
  index.add_stuck(image_volume, true);
  if (!image_volume->held_file.empty())
    group.spawn(co_await base::asio::this_coro::executor, drop_import(image_volume, "its build failed"));
}

}  // namespace imagecache::volume_cache
