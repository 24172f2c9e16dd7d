// What is done to a volume that is there: remove, cancel, extend, pin, evict by hand.
#include <fmt/format.h>

#include "base/crash_point.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

const std::vector<std::string>& deletable() {
  static const std::vector<std::string> states{"available",       "error",          "error_restoring",
                                               "error_extending", "error_managing", "error_deleting"};
  return states;
}

constexpr std::chrono::hours fence_life{24};

}  // namespace

Task<Result<void>> VolumeCache::Impl::remove(std::string id) {
  if (BasePtr image_volume = index.find_by_id(id)) {
    IMAGECACHE_CO_CHECK(check_may_go(image_volume));
    index.mark_evicting(image_volume);
    constexpr auto run = [](Impl* self, BasePtr what) -> Task<void> {
      static_cast<void>(co_await self->evict(std::move(what), "it was deleted by its id"));
    };
    group.spawn(co_await base::asio::this_coro::executor, run(this, std::move(image_volume)));
    co_return Result<void>();
  }
  auto mark = [id](Catalog& to) -> Result<Volume> {
    IMAGECACHE_TRY(std::optional<Volume> volume, to.find_volume(id));
    if (!volume) return fail(Errc::not_found, volume_not_found(id));
    Result<void> marked = volume->attachment
                              ? fail(Errc::conflict, "attached")
                              : to.update_volume(id, {.from = deletable(), .status = "deleting", .status_reason = ""});
    if (!marked && marked.error().code == Errc::conflict)
      return fail(Errc::conflict,
                  fmt::format("Volume status must be available or error or error_restoring or error_extending or "
                              "error_managing and must not be migrating, attached, belong to a group, have snapshots, "
                              "awaiting a transfer, or be disassociated from snapshots after volume transfer. Volume "
                              "{} is {}.",
                              id, volume->status));
    if (!marked && marked.error().code == Errc::not_found) return fail(Errc::not_found, volume_not_found(id));
    if (!marked) return std::unexpected(std::move(marked).error());
    return std::move(*volume);
  };
  IMAGECACHE_CO_TRY(Volume volume, co_await in_catalog(std::move(mark)));
  base::crash_point("delete.marked");
  group.spawn(co_await base::asio::this_coro::executor, delete_in_background(std::move(volume)));
  co_return Result<void>();
}

Task<void> VolumeCache::Impl::delete_in_background(Volume volume) {
  const KeyedTurns::Turn turn = co_await volume_turns.take(volume.id);
  static_cast<void>(co_await delete_now(std::move(volume)));
}

/// In its turn. Of a row that says `deleting`, unless the storage is not to be touched.
Task<Result<void>> VolumeCache::Impl::delete_now(Volume volume, bool from_storage) {
  const base::RequestContext context = base::internal_context();
  volume.status = "deleting";
  co_await tell("delete.start", volume, context);
  Result<void> gone;
  if (from_storage && !volume.name.empty()) {
    if (Backend* of = backend(volume.backend)) {
      gone = co_await of->delete_volume(VolumeId{volume.name});
    } else {
      gone =
          fail(Errc::unavailable, fmt::format("volume {}: its backend {} is not enabled", volume.id, volume.backend));
    }
  }
  if (gone) {
    auto remove_row = [id = volume.id](Catalog& from) { return from.remove_volume(id); };
    gone = co_await in_catalog(std::move(remove_row));
  }
  if (gone) {
    index.clone_is_gone(volume.source_volume_id);
    ++counters.volumes_deleted;
    base::log::info(room_name, nullptr, "volume {} on {} is deleted", volume.id, volume.backend);
    volume.status = "deleted";
    co_await tell("delete.end", std::move(volume), context);
    co_return gone;
  }
  base::log::error(room_name, nullptr, "volume {} could not be deleted: {}", volume.id, gone.error().message);
  auto write = [id = volume.id, reason = gone.error().message](Catalog& to) {
    return to.update_volume(id, {.status = "error_deleting", .status_reason = reason});
  };
  static_cast<void>(co_await in_catalog(std::move(write)));
  co_return gone;
}

Task<Result<void>> VolumeCache::Impl::cancel(std::string id, std::string not_ours) {
  if (index.find_by_id(id))
    co_return fail(Errc::conflict, fmt::format("volume {} is an image-volume: evict it instead", id));
  const base::WallTime now = clock.now();
  bool drop_old = false;
  {
    const std::lock_guard lock(mutex);
    drop_old = now - fences_dropped_at > std::chrono::hours(1);
    if (drop_old) fences_dropped_at = now;
  }
  auto fence = [id, now, drop_old](Catalog& to) -> Result<void> {
    if (drop_old) IMAGECACHE_CHECK(to.drop_fences_before(now - fence_life));
    return to.add_fence(id, now);
  };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(fence)));
  std::stop_source create_stop(std::nostopstate);
  std::stop_source upload_stop(std::nostopstate);
  {
    const std::lock_guard lock(mutex);
    if (const auto running = creations.find(id); running != creations.end()) create_stop = running->second->stop;
    if (const auto running = uploads.find(id); running != uploads.end()) upload_stop = running->second;
  }
  create_stop.request_stop();
  upload_stop.request_stop();
  const KeyedTurns::Turn turn = co_await volume_turns.take(id);
  // Not marked if its storage is not ours: what says `deleting` is deleted when the service starts again.
  auto mark = [id, not_ours](Catalog& to) -> Result<std::optional<Volume>> {
    IMAGECACHE_TRY(std::optional<Volume> volume, to.find_volume(id));
    if (volume && (not_ours.empty() || volume->name != not_ours))
      IMAGECACHE_CHECK(to.update_volume(id, {.status = "deleting", .status_reason = ""}));
    return volume;
  };
  IMAGECACHE_CO_TRY(std::optional<Volume> volume, co_await in_catalog(std::move(mark)));
  if (!volume) co_return Result<void>();
  base::crash_point("delete.marked");
  const bool ours = not_ours.empty() || volume->name != not_ours;
  co_return co_await delete_now(std::move(*volume), ours);
}

Task<Result<void>> VolumeCache::Impl::force_remove(std::string id) {
  IMAGECACHE_CO_TRY(const Volume volume, co_await find_volume(id));
  bool is_made = false;
  {
    const std::lock_guard lock(mutex);
    is_made = creations.contains(id);
  }
  // What is being made ends soon; nobody can be reading it.
  if (is_made || index.find_by_id(id)) co_return co_await cancel(std::move(id), "");
  auto mark = [id](Catalog& to) { return to.update_volume(id, {.status = "deleting", .status_reason = ""}); };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(mark)));
  base::crash_point("delete.marked");
  constexpr auto run = [](Impl* self, std::string what) -> Task<void> {
    if (Result<void> gone = co_await self->cancel(what, ""); !gone)
      base::log::error(room_name, nullptr, "volume {} is not deleted yet: {}", what, gone.error().message);
  };
  group.spawn(co_await base::asio::this_coro::executor, run(this, std::move(id)));
  co_return Result<void>();
}

Task<Result<void>> VolumeCache::Impl::extend(std::string id, std::uint64_t new_size_gb) {
  IMAGECACHE_CO_TRY(Volume volume, co_await mark_extending(std::move(id), new_size_gb));
  co_return co_await extend_now(std::move(volume), new_size_gb);
}

Task<Result<void>> VolumeCache::Impl::start_extend(std::string id, std::uint64_t new_size_gb) {
  IMAGECACHE_CO_TRY(Volume volume, co_await mark_extending(std::move(id), new_size_gb));
  constexpr auto run = [](Impl* self, Volume what, std::uint64_t size_gb) -> Task<void> {
    static_cast<void>(co_await self->extend_now(std::move(what), size_gb));  // its row and a message say it
  };
  group.spawn(co_await base::asio::this_coro::executor, run(this, std::move(volume), new_size_gb));
  co_return Result<void>();
}

Task<Result<Volume>> VolumeCache::Impl::mark_extending(std::string id, std::uint64_t new_size_gb) {
  IMAGECACHE_CO_TRY(const Volume volume, co_await find_volume(id));
  const auto wrong_status = [&volume](const std::string& status) {
    return fail(Errc::conflict,
                fmt::format("Volume {} status must be available to extend, currently {}.", volume.id, status));
  };
  if (volume.status != "available") co_return wrong_status(volume.status);
  if (index.find_by_id(id))
    co_return fail(Errc::conflict, fmt::format("volume {} is an image-volume and cannot be extended", id));
  if (new_size_gb <= volume.size_gb || new_size_gb > std::uint64_t{1} << 32)
    co_return fail(Errc::invalid_argument, fmt::format("New size for extend must be greater than current size. "
                                                       "(current: {}, extended: {}).",
                                                       volume.size_gb, new_size_gb));
  if (backend(volume.backend) == nullptr)
    co_return fail(Errc::unavailable, fmt::format("volume {}: its backend {} is not enabled", id, volume.backend));
  auto mark = [id, new_size_gb](Catalog& to) -> Result<void> {
    IMAGECACHE_CHECK(to.update_volume(id, {.from = {"available"}, .status = "extending", .status_reason = ""}));
    Result<void> resized = to.resize_volume(id, new_size_gb);
    if (!resized) static_cast<void>(to.update_volume(id, {.status = "available"}));
    return resized;
  };
  Result<void> marked = co_await in_catalog(std::move(mark));
  if (!marked && marked.error().code == Errc::conflict) co_return wrong_status("another by now");
  if (!marked) co_return std::unexpected(std::move(marked).error());
  co_return volume;
}

Task<Result<void>> VolumeCache::Impl::extend_now(Volume volume, std::uint64_t new_size_gb) {
  const std::string& id = volume.id;
  const KeyedTurns::Turn turn = co_await volume_turns.take(id);
  // By force it may be gone by now, or about to go.
  IMAGECACHE_CO_TRY(const Volume now, co_await find_volume(id));
  if (now.status != "extending") co_return fail(Errc::conflict, fmt::format("Volume {} is {} by now.", id, now.status));
  Backend* of = backend(volume.backend);
  const base::RequestContext context = base::internal_context();
  Volume told = volume;
  told.status = "extending";
  co_await tell("resize.start", told, context);
  Result<void> extended = co_await of->extend_volume(VolumeId{volume.name}, new_size_gb * base::gib);
  auto write = [id, size_gb = volume.size_gb, extended](Catalog& to) -> Result<void> {
    if (extended) return to.update_volume(id, {.from = {"extending"}, .status = "available", .status_reason = ""});
    IMAGECACHE_CHECK(to.resize_volume(id, size_gb));
    return to.update_volume(
        id, {.from = {"extending"}, .status = "error_extending", .status_reason = extended.error().message});
  };
  Result<void> written = co_await in_catalog(std::move(write));
  if (!extended) {
    co_await tell_owner(volume, context, FailedAction::extend, extended.error());
    co_return extended;
  }
  told.status = "available";
  told.size_gb = new_size_gb;
  if (written) co_await tell("resize.end", std::move(told), context);
  co_return written;
}

Task<Result<void>> VolumeCache::Impl::retype(std::string id, catalog::VolumeType new_type) {
  // Not in its turn: only the row changes, and the catalog looks at its status.
  IMAGECACHE_CO_TRY(const Volume volume, co_await find_volume(id));
  if (index.find_by_id(id))
    co_return fail(Errc::conflict, fmt::format("volume {} is an image-volume and cannot be retyped", id));
  const Backend* of = backend(volume.backend);
  if (of == nullptr)
    co_return fail(Errc::unavailable, fmt::format("volume {}: its backend {} is not enabled", id, volume.backend));
  if (!new_type.encryption.empty())
    co_return fail(Errc::unsupported,
                   fmt::format("volume {}: type {} is encrypted, and what is there is not", id, new_type.name));
  if (!serves(*of, new_type))
    co_return fail(Errc::unsupported,
                   fmt::format("volume {}: type {} asks for what its backend {} is not, and volumes do not move to "
                               "another here",
                               id, new_type.name, volume.backend));
  auto write = [id, name = new_type.name](Catalog& to) { return to.retype_volume(id, name); };
  co_return co_await in_catalog(std::move(write));
}

Task<Result<void>> VolumeCache::Impl::pin(std::string id, bool pinned) {
  const BasePtr image_volume = index.find_by_id(id);
  if (!image_volume) co_return fail(Errc::not_found, fmt::format("Image-volume {} could not be found.", id));
  const KeyedTurns::Turn turn = co_await volume_turns.take(id);
  auto write = [id, pinned](Catalog& to) { return to.update_image_volume(id, {.pinned = pinned}); };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(write)));
  index.set_pinned(image_volume, pinned);
  co_return Result<void>();
}

Task<Result<void>> VolumeCache::Impl::evict_by_id(std::string id) {
  if (BasePtr image_volume = index.find_by_id(id))
    co_return co_await evict(std::move(image_volume), "it was asked for");
  auto look = [id](Catalog& from) { return from.find_image_volume_by_id(id); };
  IMAGECACHE_CO_TRY(const std::optional<catalog::ImageVolume> row, co_await in_catalog(std::move(look)));
  if (!row) co_return fail(Errc::not_found, fmt::format("Image-volume {} could not be found.", id));
  co_return fail(Errc::conflict, fmt::format("Image-volume {} is {}; try again when that has ended.", id, row->state));
}

}  // namespace imagecache::volume_cache
