// Room for image-volumes, on the backend and in the internal tenant's quota: made by letting the least recently used
// go, and only where that helps.
#include <fmt/format.h>

#include <algorithm>

#include "base/crash_point.hpp"
#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr int quota_attempts = 4;  // others may take what was just freed

/// By how much a use of `more` would pass the limit.
std::uint64_t excess(const std::map<std::string, catalog::QuotaUsage>& quota, const std::string& resource,
                     std::uint64_t more) {
  const auto found = quota.find(resource);
  if (found == quota.end() || found->second.limit < 0) return 0;
  const std::uint64_t wanted = found->second.in_use + found->second.reserved + more;
  const auto limit = static_cast<std::uint64_t>(found->second.limit);
  return wanted > limit ? wanted - limit : 0;
}

Volume image_volume_row(const Build& build, const Base& image_volume, const Options& options) {
  Volume row;
  row.id = image_volume.volume_id;
  row.name = image_volume.name;
  row.project_id = options.internal_project_id;
  row.user_id = options.internal_user_id;
  row.display_name = "image-" + image_volume.image_id;
  row.backend = image_volume.backend;
  row.host = build.backend->options().host_and_pool(build.pool);
  row.volume_type = image_volume.volume_type;
  row.status = "creating";
  row.size_gb = image_volume.size_gb;
  row.image_id = image_volume.image_id;
  row.content_key = build.image.content_key();
  row.availability_zone = options.availability_zone;
  row.metadata = {{"readonly", "True"}};
  row.request_id = build.context.request_id;
  return row;
}

}  // namespace

bool VolumeCache::Impl::may_evict_for(const Build& build) const {
  const std::lock_guard lock(mutex);
  return !build.ahead;
}

void VolumeCache::Impl::give_up_ahead(Build& build) {
  const std::lock_guard lock(mutex);
  build.refused_ahead = true;
}

Task<Result<bool>> VolumeCache::Impl::reserve(BuildPtr build, BasePtr image_volume) {
  const BackendOptions& place = build->backend->options();
  const bool may_evict = may_evict_for(*build);
  // Ahead no further than to the high mark: else the marks would put it out again, or for it what others use.
  const Limits limits = limits_of(place, may_evict ? 100 : options.high_percent);
  const std::unique_ptr<std::vector<BasePtr>> victims =
      index.reserve(build->place(), image_volume->size_gb, limits, may_evict);
  if (!victims) {
    if (!may_evict) give_up_ahead(*build);
    co_await refuse(build, image_volume, "limit",
                    "it does not fit image_volume_cache_max_size_gb or image_volume_cache_max_count");
    co_return false;
  }
  Result<bool> reserved = true;
  if (Result<void> gone = co_await evict_all(*victims, "there is room for others only without it"); !gone) {
    co_await refuse(build, image_volume, "limit", "no room could be made: " + gone.error().message);
    reserved = false;
  }
  if (*reserved) reserved = co_await write_rows(build, image_volume);
  if (!reserved || !*reserved) index.unreserve(build->place(), image_volume->size_gb);
  co_return reserved;
}

Task<Result<bool>> VolumeCache::Impl::write_rows(BuildPtr build, BasePtr image_volume) {
  const Volume row = image_volume_row(*build, *image_volume, options);
  std::string refusal;
  bool may_evict = true;
  for (int attempt = 0; attempt < quota_attempts; ++attempt) {
    std::map<std::string, catalog::QuotaUsage> quota;
    auto insert = [this, &build, &image_volume, &row, &quota](Catalog& to) -> Result<void> {
      if (Result<void> inserted = to.create_volume(row); !inserted) {
        if (inserted.error().code == Errc::quota_exceeded) {
          IMAGECACHE_TRY(quota, to.quota(row.project_id));
        }
        return inserted;
      }
      const catalog::ImageVolume entry{.volume_id = row.id,
                                       .backend = row.backend,
                                       .pool = build->pool,
                                       .content_key = image_volume->content_key,
                                       .image_id = row.image_id,
                                       .image_updated_at = build->image.updated_at,
                                       .requesting_project = build->context.project_id,
                                       .state = "building",
                                       .size_gb = row.size_gb,
                                       .virtual_size_bytes = image_volume->virtual_size_bytes,
                                       .created_at = clock.now(),
                                       .last_used = image_volume->last_used};
      Result<void> inserted = to.create_image_volume(entry);
      if (!inserted) static_cast<void>(to.remove_volume(row.id));  // else the next start does
      return inserted;
    };
    Result<void> inserted = co_await in_catalog(std::move(insert));
    if (inserted) {
      co_await tell_of("create.start", row.id, build->context);
      co_return true;
    }
    if (inserted.error().code != Errc::quota_exceeded) co_return std::unexpected(std::move(inserted).error());
    refusal = inserted.error().message;
    may_evict = may_evict_for(*build);
    if (!may_evict) break;
    std::optional<std::vector<BasePtr>> victims = victims_for_quota(row, quota);
    if (!victims) break;
    if (Result<void> gone = co_await evict_all(std::move(*victims), "the internal tenant's quota is needed"); !gone) {
      refusal += "; " + gone.error().message;
      break;
    }
  }
  if (may_evict) ++counters.image_volume_quota_refusals;
  if (!may_evict) give_up_ahead(*build);
  co_await refuse(
      build, image_volume, "quota",
      fmt::format("the quota of the internal tenant {} refuses it: {}", options.internal_project_id, refusal));
  co_return false;
}

Task<void> VolumeCache::Impl::refuse(BuildPtr build, BasePtr image_volume, std::string kind, std::string reason) {
  {
    const std::lock_guard lock(mutex);
    build->refusal = reason;
    if (build->ahead || build->refused_ahead) co_return;
  }
  base::log::warning(room_name, &build->context, "image {} of {} GiB is not kept on {}: {}", build->image.id,
                     image_volume->size_gb, image_volume->backend, reason);
  const catalog::Refusal refusal{.backend = image_volume->backend,
                                 .image_id = build->image.id,
                                 .kind = std::move(kind),
                                 .reason = std::move(reason),
                                 .project_id = build->context.project_id,
                                 .size_gb = image_volume->size_gb};
  auto write = [refusal](Catalog& to) { return to.record_refusal(refusal); };
  if (Result<void> written = co_await in_catalog(std::move(write)); !written)
    base::log::warning(room_name, &build->context, "that is missing in the report: {}", written.error().message);
}

std::optional<std::vector<BasePtr>> VolumeCache::Impl::victims_for_quota(
    const Volume& row, const std::map<std::string, catalog::QuotaUsage>& quota) {
  const auto per_volume = quota.find("per_volume_gigabytes");
  if (per_volume != quota.end() && per_volume->second.limit >= 0 &&
      row.size_gb > static_cast<std::uint64_t>(per_volume->second.limit))
    return std::nullopt;
  std::uint64_t count = excess(quota, "volumes", 1);
  std::uint64_t size = excess(quota, "gigabytes", row.size_gb);
  std::uint64_t type_count = excess(quota, "volumes_" + row.volume_type, 1);
  std::uint64_t type_size = excess(quota, "gigabytes_" + row.volume_type, row.size_gb);
  const auto type_is_met = [&] { return type_count == 0 && type_size == 0; };
  const auto rest_is_met = [&] { return count == 0 && size == 0; };
  if (type_is_met() && rest_is_met()) return std::vector<BasePtr>();  // somebody has freed it meanwhile
  const auto is_of_type = [&row](const Base& victim) { return victim.volume_type == row.volume_type; };
  const auto take = [](std::uint64_t& from, std::uint64_t amount) { from -= std::min(from, amount); };
  // The type's first: they make room in both.
  std::vector<BasePtr> victims = index.take_for({{.helps = is_of_type, .is_met = type_is_met},
                                                 {.helps = [](const Base&) { return true; }, .is_met = rest_is_met}},
                                                [&](const Base& victim) {
                                                  take(count, 1);
                                                  take(size, victim.size_gb);
                                                  if (!is_of_type(victim)) return;
                                                  take(type_count, 1);
                                                  take(type_size, victim.size_gb);
                                                });
  if (victims.empty()) return std::nullopt;
  return victims;
}

Task<bool> VolumeCache::Impl::free_space(const std::string& place, std::uint64_t bytes) {
  std::uint64_t freed_bytes = 0;
  std::vector<BasePtr> victims = index.take_oldest(
      place,
      [&freed_bytes, bytes](const Base& victim) {
        freed_bytes += victim.virtual_size_bytes;
        return freed_bytes >= bytes;
      },
      true);
  if (victims.empty()) co_return false;
  co_return (co_await evict_all(std::move(victims), "the backend is full")).has_value();
}

Task<Result<void>> VolumeCache::Impl::evict_all(std::vector<BasePtr> image_volumes, std::string why) {
  Result<void> all;
  for (const BasePtr& image_volume : image_volumes) {
    Result<void> gone = co_await evict(image_volume, why);
    if (!gone) all = std::move(gone);
  }
  co_return all;
}

Result<void> VolumeCache::Impl::check_may_go(const BasePtr& image_volume) const {
  const Base::Import import = index.import(image_volume);
  if (import != Base::Import::copying && import != Base::Import::source_kept) return {};
  return fail(Errc::conflict,
              fmt::format("image-volume {} on {} cannot go yet: {}", image_volume->volume_id, image_volume->backend,
                          import == Base::Import::copying
                              ? "its bytes are still being imported"
                              : "clients that opened volumes of it during its import still read its image file; "
                                "detach those volumes"));
}

Task<Result<void>> VolumeCache::Impl::evict(BasePtr image_volume, std::string why) {
  IMAGECACHE_CO_CHECK(check_may_go(image_volume));
  index.mark_evicting(image_volume);
  const KeyedTurns::Turn turn = co_await volume_turns.take(image_volume->volume_id);
  if (index.state(image_volume) == Base::State::gone) co_return Result<void>();
  index.mark_evicting(image_volume);  // again, where another has just failed at it
  Result<void> gone = co_await evict_marked(image_volume, std::move(why));
  if (!gone) {
    index.mark_stuck(image_volume);
    base::log::error(room_name, nullptr, "image-volume {} on {} could not be evicted: {}", image_volume->volume_id,
                     image_volume->backend, gone.error().message);
    auto write = [id = image_volume->volume_id, reason = gone.error().message](Catalog& to) {
      return to.update_volume(id, {.status = "error_deleting", .status_reason = reason});
    };
    static_cast<void>(co_await in_catalog(std::move(write)));
  }
  co_return gone;
}

Task<Result<void>> VolumeCache::Impl::evict_marked(BasePtr image_volume, std::string why) {
  const Deadline deadline = create_deadline();
  for (;;) {
    const std::uint64_t seen = image_volume->idle.version();
    if (index.users(image_volume) == 0) break;
    if (!co_await image_volume->idle.wait_past(seen, deadline))
      co_return fail(Errc::timeout, "image-volume " + image_volume->volume_id + ": its clones in flight do not end");
  }
  Backend* of = backend(image_volume->backend);
  if (of == nullptr)
    co_return fail(Errc::unavailable, fmt::format("image-volume {}: its backend {} is not enabled",
                                                  image_volume->volume_id, image_volume->backend));
  const std::string id = image_volume->volume_id;
  auto mark = [id](Catalog& to) -> Result<void> {
    IMAGECACHE_CHECK(to.update_image_volume(id, {.state = "evicting"}));
    return to.update_volume(id, {.status = "deleting"});
  };
  Result<void> marked = co_await in_catalog(std::move(mark));
  if (!marked && marked.error().code != Errc::not_found) co_return marked;
  base::crash_point("evict.marked");
  const base::RequestContext context = base::internal_context();
  std::optional<Volume> told;
  if (notifier.enabled() && marked) {
    if (Result<Volume> row = co_await find_volume(id)) told = std::move(*row);
  }
  if (told) co_await tell("delete.start", *told, context);
  IMAGECACHE_CO_CHECK(co_await of->delete_volume(VolumeId{image_volume->name}));
  auto remove_row = [id](Catalog& from) { return from.remove_volume(id); };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(remove_row)));
  index.mark_gone(image_volume);
  co_await let_go_of(image_volume->held_file);
  ++counters.image_volume_evictions;
  base::log::info(room_name, nullptr, "image-volume {} of image {} on {} is evicted: {}", id, image_volume->image_id,
                  image_volume->backend, why);
  tell_of_cache("evict", image_volume->image_id, of->options().host_and_pool(image_volume->pool), context,
                {{"image_volume_id", id}, {"reason", why}});
  if (told) {
    told->status = "deleted";
    co_await tell("delete.end", std::move(*told), context);
  }
  co_return Result<void>();
}

Task<void> VolumeCache::Impl::note_use() {
  {
    const std::lock_guard lock(mutex);
    if (flush_planned || stopping) co_return;  // a stop writes all there is
    flush_planned = true;
  }
  group.spawn(co_await base::asio::this_coro::executor, flush_later());
}

Task<void> VolumeCache::Impl::flush_later() {
  const std::uint64_t seen = stop_signal.version();
  if (check_open()) co_await stop_signal.wait_past(seen, base::in(options.flush_interval));
  {
    const std::lock_guard lock(mutex);
    flush_planned = false;
  }
  co_await flush();
}

Task<void> VolumeCache::Impl::flush() {
  std::vector<Catalog::Use> uses = index.take_uses();
  if (uses.empty()) co_return;
  auto write = [uses](Catalog& to) { return to.record_uses(uses); };
  if (Result<void> written = co_await in_catalog(std::move(write)); !written) {
    base::log::warning(room_name, nullptr, "the use of {} image-volumes could not be written down yet: {}", uses.size(),
                       written.error().message);
    index.put_back(uses);
  }
}

}  // namespace imagecache::volume_cache
