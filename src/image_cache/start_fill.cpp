// One fill an image, whoever asks.

#include <fmt/format.h>
#include <sys/stat.h>

#include <cmath>

#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Result<std::shared_ptr<Fill>> ImageCache::Impl::running_fill(const origin::ImageInfo& info,
                                                             const base::RequestContext& context) {
  const std::lock_guard lock(mutex);
  const auto running = fills.find(info.id);
  if (running == fills.end()) return std::shared_ptr<Fill>();
  if (running->second->info().content_key() != info.content_key()) {
    // What it fetches is of yesterday: its readers get it, but it is not to stay.
    running->second->bar();
    return fail(Errc::conflict, "image " + info.id + ": its former content is being fetched at the moment");
  }
  running->second->add_context(context);
  return running->second;
}

std::shared_ptr<Fill> ImageCache::Impl::begin_fill(const origin::ImageInfo& info, const base::RequestContext& context,
                                                   Whose whose, bool resume) {
  const bool for_queue = whose == Whose::queue;
  auto fill = std::make_shared<Fill>(options, layout, origin, counters,
                                     Fill::Start{.info = info,
                                                 .context = context,
                                                 .resume = resume,
                                                 .rate = for_queue ? &queue_rate : nullptr,
                                                 .service_at_once = for_queue});
  entries.reserve(fill->size_bytes());
  fills[info.id] = fill;
  if (entries.take_eviction(info.id)) counters.image_fetched_again.fetch_add(1);
  counters.fills_in_flight.fetch_add(1);
  return fill;
}

Result<ImageCache::Impl::Joined> ImageCache::Impl::join_or_start_fill(const origin::ImageInfo& info,
                                                                      const base::RequestContext& context,
                                                                      Whose whose) {
  const auto as_wanted = [&](std::shared_ptr<Fill> fill, bool was_running) {
    Joined joined{.following = {}, .fill = fill, .was_running = was_running};
    if (whose == Whose::reader) joined.following = Following(std::move(fill));
    return joined;
  };
  IMAGECACHE_TRY(std::shared_ptr<Fill> running, running_fill(info, context));
  if (running) return as_wanted(std::move(running), true);
  const std::string key = info.content_key();
  IMAGECACHE_TRY(const std::uint64_t free, free_bytes());
  Victims victims;
  Result<void> room;
  bool resume = false;
  Joined joined;
  std::shared_ptr<Fill> fill;
  {
    // What is in incomplete/ changes under this lock, and is looked at before all others wait for the mutex.
    const auto hold = id_locks.hold(info.id);
    struct stat part{};
    const bool part_is_there = ::stat(layout.incomplete(info.id).c_str(), &part) == 0;
    const std::lock_guard lock(mutex);
    if (stopping) return fail(Errc::unavailable, "the image cache is stopping");
    if (fills.contains(info.id)) return Joined();  // begun since: the caller looks again
    if (const Entry* entry = entries.find(info.id); entry && entry->verified && entry->verified->content_key == key) {
      return Joined();  // published since the caller looked
    }
    std::optional<Partial> former;
    if (const auto partial = partials.find(info.id); partial != partials.end()) {
      former = partial->second;
      // After a power failure it may have holes, which a digest finds and nothing else.
      resume = partial->second.content_key == key && has_digest(info);
      entries.release(partial->second.bytes);
      partials.erase(partial);
    } else if (part_is_there && std::abs(now() - static_cast<double>(part.st_mtim.tv_sec)) <
                                    static_cast<double>(options.stall_time.count())) {
      // A partial file that is not ours: another program on this directory may be at it. One from the future is of a
      // clock that was wrong, and is no reason to wait for it.
      return fail(Errc::conflict,
                  "image " + info.id + ": another program is writing " + layout.incomplete(info.id).native());
    }
    room = make_room(info.id, *info.size_bytes, free, victims);
    if (room) {
      fill = begin_fill(info, context, whose, resume);
      joined = as_wanted(fill, false);
    } else if (former) {
      entries.reserve(former->bytes);
      partials[info.id] = std::move(*former);
    }
    update_gauges();
  }
  if (room) fills_changed.notify();
  const auto gone = remove_files(victims);
  IMAGECACHE_CHECK(room);
  const auto give_up = [&](Errc code, std::string_view reason) {
    if (!resume) static_cast<void>(base::remove_file(layout.incomplete(info.id)));
    fill->finish(fail(code, std::string(reason)));
    end_fill(*fill, false);
    return fail(code, fmt::format("image {}: {}", info.id, reason));
  };
  // The room is there only once it is empty.
  if (!gone) return give_up(Errc::no_space, "what was to make room for it cannot be removed: " + gone.error().message);
  if (auto fits = wait_until_it_fits(); !fits) return give_up(fits.error().code, fits.error().message);
  jobs.begin();
  const auto run = [this, fill] {
    run_fill(fill);
    jobs.end();
  };
  if (!fill_pool.post(run)) {
    jobs.end();
    return give_up(Errc::busy, "too many fills are waiting, try again later");
  }
  return joined;
}

}  // namespace imagecache::image_cache
