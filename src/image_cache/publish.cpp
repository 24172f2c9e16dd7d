// The end of a fill, and of files: publish, evict, invalidate.

#include <fcntl.h>
#include <fmt/format.h>

#include "base/crash_point.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

void ImageCache::Impl::update_gauges() {
  counters.image_cache_bytes = entries.bytes();
  counters.image_cache_files = entries.count();
  counters.image_cache_reserved_bytes = entries.reserved_bytes();
}

void ImageCache::Impl::remove_files(const std::vector<std::string>& ids, bool evicted) {
  for (const auto& id : ids) {
    {
      // It may have been asked for and be kept again meanwhile.
      const std::lock_guard lock(mutex);
      if (entries.find(id)) continue;
    }
    // An eviction may have raced with a new fill of the same image, whose part is not ours to remove.
    const auto removed = base::remove_file(layout.file(id));
    if (!removed) base::log::warning("image_cache", nullptr, "{}", removed.error().message);
    {
      const std::lock_guard lock(mutex);
      if (fills.contains(id) || partials.contains(id)) continue;
    }
    static_cast<void>(base::remove_file(layout.incomplete(id)));
    static_cast<void>(ledger->drop_verified(id));
    static_cast<void>(ledger->drop_partial(id));
    if (evicted) base::log::info("image_cache", nullptr, "image {}: evicted", id);
  }
}

void ImageCache::Impl::remove_later(std::vector<std::string> ids) {
  if (ids.empty()) return;
  if (!pool.post([this, ids] { remove_files(ids, true); })) {
    base::log::warning("image_cache", nullptr, "{} evicted files could not be removed yet", ids.size());
  }
}

void ImageCache::Impl::invalidate(const std::string& id, std::string_view reason) {
  {
    const std::lock_guard lock(mutex);
    entries.erase(id);
    update_gauges();
  }
  admissions.forget(id);
  static_cast<void>(ledger->drop_verified(id));
  if (reason.empty()) return;
  base::log::warning("image_cache", nullptr, "image {}: {}; moved to {}", id, reason, layout.invalid(id).native());
  counters.image_files_invalidated.fetch_add(1);
  static_cast<void>(base::rename_durably(layout.file(id), layout.invalid(id)));
}

void ImageCache::Impl::end_fill(const Fill& fill, bool room_is_released) {
  // What may be gone on with keeps its room; anything else must not stay, for its blocks are allocated whatever its
  // size. The fill is still in `fills`, so nobody else touches its file.
  struct stat status{};
  const auto part = layout.incomplete(fill.info().id);
  const bool keep = fill.error() && ::stat(part.c_str(), &status) == 0 && status.st_size > 0;
  if (!keep) static_cast<void>(base::remove_file(part));
  {
    const std::lock_guard lock(mutex);
    if (!room_is_released) entries.release(fill.size_bytes());
    if (keep) {
      const Partial partial{.content_key = fill.info().content_key(), .bytes = fill.size_bytes()};
      partials[fill.info().id] = partial;
      entries.reserve(partial.bytes);
    }
    fills.erase(fill.info().id);
    counters.fills_in_flight.fetch_sub(1);
    update_gauges();
  }
  fills_changed.notify();
}

void ImageCache::Impl::run_fill(const std::shared_ptr<Fill>& fill) {
  const std::string& id = fill->info().id;
  bool room_is_released = false;
  auto outcome = ledger->begin_partial(id, fill->info().content_key());
  if (!outcome) {
    // Without the ledger a crash costs the part that was fetched, no more.
    base::log::warning("image_cache", nullptr, "{}", outcome.error().message);
  }
  outcome = fill->receive(digest_pool);
  if (outcome) outcome = publish(*fill, room_is_released);
  if (outcome) {
    counters.fills_completed.fetch_add(1);
    base::log::info("image_cache", nullptr, "image {}: {} fetched from {}, verified and kept", id,
                    base::format_bytes(fill->size_bytes()), origin.name());
  } else {
    counters.fills_failed.fetch_add(1);
    base::log::warning("image_cache", nullptr, "{}", outcome.error().message);
  }
  fill->finish(std::move(outcome));
  end_fill(*fill, room_is_released);
}

Result<void> ImageCache::Impl::publish(Fill& fill, bool& room_is_released) {
  const std::string& id = fill.info().id;
  const auto give_up = [&](std::unexpected<Error> problem) {
    static_cast<void>(base::remove_file(layout.incomplete(id)));
    return problem;
  };
  if (auto renamed = base::rename_durably(layout.incomplete(id), layout.file(id)); !renamed) {
    return give_up(std::unexpected(renamed.error()));
  }
  base::crash_point("publish.renamed");
  static_cast<void>(base::remove_file(layout.queue(id)));
  // The rename has changed ctime: the stamp is of the file as it will be found.
  IMAGECACHE_TRY(const struct stat status, base::stat_fd(fill.fd(), id));
  const Verified verified{.content_key = fill.info().content_key(), .stamp = stamp_of(status)};
  if (auto recorded = ledger->put_verified(id, verified); !recorded) {
    base::log::warning("image_cache", nullptr, "{}", recorded.error().message);
  }
  {
    const std::lock_guard lock(mutex);
    entries.put(id,
                {.size_bytes = fill.size_bytes(), .last_accessed = now(), .last_modified = now(), .verified = verified},
                false);
    // From here on the file counts, and what was reserved for it no longer.
    entries.release(fill.size_bytes());
    room_is_released = true;
    update_gauges();
  }
  // A row that cannot be written now (glance-api holds the file, the disk is full) is written with the next flush.
  if (auto flushed = flush_now(); !flushed) base::log::warning("image_cache", nullptr, "{}", flushed.error().message);
  base::crash_point("publish.recorded");
  return {};
}

}  // namespace imagecache::image_cache
