// A fill from its thread's side: begin, receive, publish, end.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/crash_point.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

void ImageCache::Impl::run_fill(const std::shared_ptr<Fill>& fill) {
  const std::string& id = fill->info().id;
  const auto begun_at = std::chrono::steady_clock::now();
  bool room_is_released = false;
  counters.fills_started.fetch_add(1);
  Result<void> outcome;
  {
    const auto hold = id_locks.hold(id);
    if (auto recorded = ledger->begin_partial(id, fill->info().content_key()); !recorded) {
      // Without the ledger a crash costs the part that was fetched, no more.
      base::log::warning("image_cache", nullptr, "{}", recorded.error().message);
    }
    outcome = fill->open_partial();
  }
  if (outcome) outcome = fill->receive(digest_pool);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_at;
  if (outcome) outcome = publish(*fill, took.count(), room_is_released);
  if (outcome) {
    counters.fills_completed.fetch_add(1);
    counters.fill_microseconds.fetch_add(static_cast<std::uint64_t>(took.count() * 1e6));
    counters.fill_completed_bytes.fetch_add(fill->received_bytes());
    if (took.count() > 0) {
      counters.fill_last_bytes_per_s =
          static_cast<std::uint64_t>(static_cast<double>(fill->received_bytes()) / took.count());
    }
    base::log::info("image_cache", nullptr, "image {}: {} fetched from {} in {:.1f} s, verified and kept", id,
                    base::format_bytes(fill->size_bytes()), origin.name(), took.count());
  } else {
    counters.fills_failed.fetch_add(1);
    base::log::warning("image_cache", nullptr, "{}", outcome.error().message);
  }
  fill->finish(std::move(outcome));
  end_fill(*fill, room_is_released);
  step("fill.ended", id);
}

Result<void> ImageCache::Impl::publish(Fill& fill, double fetch_seconds, bool& room_is_released) {
  const std::string& id = fill.info().id;
  step("publish.begin", id);
  {
    const auto hold = id_locks.hold(id);
    const auto give_up = [&](Error problem) {
      static_cast<void>(base::remove_file(layout.incomplete(id)));
      return std::unexpected(std::move(problem));
    };
    // Whoever removes the image comes before this, and is seen, or after it, and finds the file.
    if (fill.barred()) {
      return give_up({Errc::cancelled, "image " + id + ": it was removed, or changed, while it was fetched; not kept"});
    }
    if (auto prepared = index->prepare(fill.fd()); !prepared) return give_up(prepared.error());
    struct stat there{};
    if (::lstat(layout.file(id).c_str(), &there) == 0 && S_ISDIR(there.st_mode)) {
      move_aside(id, "a folder stands in its place");
    }
    if (auto renamed = base::rename_durably(layout.incomplete(id), layout.file(id)); !renamed) {
      return give_up(renamed.error());
    }
    base::crash_point("publish.renamed");
    // The rename has changed ctime: the stamp is of the file as it will be found.
    IMAGECACHE_TRY(const struct stat status, base::stat_fd(fill.fd(), id));
    const Verified verified{.content_key = fill.info().content_key(), .stamp = stamp_of(status)};
    if (auto recorded = ledger->put_verified(id, verified); !recorded) {
      base::log::warning("image_cache", nullptr, "{}", recorded.error().message);
    }
    OpenFile last;  // of the file that stood there before, closed without the mutex
    const std::lock_guard lock(mutex);
    last = entries.open_file(id);
    entries.put(id,
                {.size_bytes = fill.size_bytes(),
                 .last_accessed = now(),
                 .last_modified = now(),
                 .verified = verified,
                 .fetch_seconds = static_cast<float>(fetch_seconds)},
                false);
    // From here on the file counts, and what was reserved for it no longer.
    entries.release(fill.size_bytes());
    room_is_released = true;
    update_gauges();
  }
  static_cast<void>(base::remove_file(layout.queue(id)));
  // A row that cannot be written now (glance-api holds the file, the disk is full) is written with the next flush.
  if (auto flushed = flush_now(); !flushed) base::log::warning("image_cache", nullptr, "{}", flushed.error().message);
  base::crash_point("publish.recorded");
  return {};
}

void ImageCache::Impl::end_fill(const Fill& fill, bool room_is_released) {
  const std::string& id = fill.info().id;
  {
    // What may be gone on with keeps its room; anything else must not stay, for its blocks are allocated whatever its
    // size.
    const auto hold = id_locks.hold(id);
    struct stat status{};
    const auto part = layout.incomplete(id);
    const bool keep = fill.error() && !fill.barred() && ::stat(part.c_str(), &status) == 0 && status.st_size > 0;
    if (!keep) static_cast<void>(base::remove_file(part));
    // A fill that was wrong has left its file in invalid/, where it counts.
    struct stat broken{};
    const bool is_broken = fill.error() && fill.error()->code == Errc::corrupt &&
                           ::lstat(layout.invalid(id).c_str(), &broken) == 0 && S_ISREG(broken.st_mode);
    const std::lock_guard lock(mutex);
    if (!room_is_released) entries.release(fill.size_bytes());
    if (is_broken) count_invalid(id, allocated_bytes(broken));
    if (keep) {
      const Partial partial{.content_key = fill.info().content_key(), .bytes = fill.size_bytes()};
      partials[id] = partial;
      entries.reserve(partial.bytes);
    }
    fills.erase(id);
    counters.fills_in_flight.fetch_sub(1);
    update_gauges();
  }
  fills_changed.notify();
}

}  // namespace imagecache::image_cache
