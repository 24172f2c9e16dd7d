// Room: who goes when it is wanted.

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

void ImageCache::Impl::update_gauges() {
  counters.image_cache_bytes = entries.bytes();
  counters.image_cache_files = entries.count();
  counters.image_cache_reserved_bytes = entries.reserved_bytes();
  counters.image_cache_pinned_files = entries.pinned_files();
  counters.image_cache_held_files = held.files();
  counters.image_cache_held_bytes = held.bytes();
  counters.image_cache_limit_bytes = options.max_size_bytes;
}

void ImageCache::Impl::choose(Victim victim, Victims& victims) {
  const std::uint64_t bytes = victim.former.size_bytes;
  entries.reserve(bytes);
  leaving_bytes += bytes;
  victims.leaving_bytes += bytes;
  victims.files.push_back(std::move(victim));
}

void ImageCache::Impl::evict(const std::string& id, EvictionReason reason, Victims& victims) {
  const Entry* entry = entries.find(id);
  if (!entry) return;
  counters.image_evictions.fetch_add(1);
  counters.image_evicted_bytes.fetch_add(entry->size_bytes);
  auto& by_reason = reason == EvictionReason::size    ? counters.image_evictions_size
                    : reason == EvictionReason::floor ? counters.image_evictions_floor
                                                      : counters.image_evictions_ttl;
  by_reason.fetch_add(1);
  Victim victim{.kind = Victim::Kind::complete, .id = id, .former = *entry, .reason = reason};
  victim.former.verified.close();  // or its room would not be given back when it is unlinked
  choose(std::move(victim), victims);
  entries.evict(id, reason);
}

Result<std::uint64_t> ImageCache::Impl::free_bytes() {
  look_at_held();
  struct statvfs space{};
  if (::statvfs(layout.base.c_str(), &space) != 0) return base::fail_errno(layout.base.native(), errno);
  return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
}

Result<void> ImageCache::Impl::make_room(const std::string& for_id, std::uint64_t bytes, std::uint64_t free_bytes,
                                         Victims& victims) {
  const auto limit = options.max_size_bytes;
  if (bytes > limit) {
    return fail(Errc::no_space, fmt::format("image {}: its {} are more than image_cache_max_size ({})", for_id,
                                            base::format_bytes(bytes), base::format_bytes(limit)));
  }
  // What running fills have reserved and not yet written is not free any more, though the file system says so; it has
  // mostly been allocated at their start, so this errs on the side of evicting.
  const std::uint64_t needed = bytes + options.free_space_floor_bytes;
  // Nothing is evicted for what would not fit even then: files that are pinned or held stay, and what running fills
  // have reserved.
  std::uint64_t leftover_bytes = 0;
  for (const auto& [id, partial] : partials) leftover_bytes += partial.bytes;
  for (const auto& [name, size_bytes] : invalid) leftover_bytes += size_bytes;
  const std::uint64_t being_filled = entries.reserved_bytes() - leftover_bytes - leaving_bytes - held_alone_bytes;
  const std::uint64_t staying = entries.staying_bytes() + held_alone_bytes;
  const std::uint64_t could_be_freed = entries.bytes() - entries.staying_bytes() + leftover_bytes;
  if (bytes > 0 && (staying + being_filled + bytes > limit || free_bytes + could_be_freed < needed)) {
    return fail(Errc::no_space,
                fmt::format("image {}: no room for {} in {}: {} are pinned or held for imports, {} spoken for by "
                            "running fills, {} free "
                            "on the file system",
                            for_id, base::format_bytes(bytes), layout.base.native(), base::format_bytes(staying),
                            base::format_bytes(being_filled), base::format_bytes(free_bytes)));
  }
  const auto too_much = [&] { return bytes_to_stay() + bytes > limit; };
  const auto removable = [this](const auto& item) { return !unremovable.contains(item.first); };
  while (too_much() || free_bytes < needed) {
    // What is broken goes first, then half a file that nobody is writing, then a whole one.
    if (const auto broken = std::ranges::find_if(invalid, removable); broken != invalid.end()) {
      Victim victim{.kind = Victim::Kind::invalid, .id = broken->first, .former = {.size_bytes = broken->second}};
      free_bytes += broken->second;
      count_invalid(victim.id, 0);
      choose(std::move(victim), victims);
    } else if (const auto partial = std::ranges::find_if(partials, removable); partial != partials.end()) {
      free_bytes += partial->second.bytes;
      entries.release(partial->second.bytes);
      choose({.kind = Victim::Kind::partial, .id = partial->first, .former = {.size_bytes = partial->second.bytes}},
             victims);
      partials.erase(partial);
    } else if (const auto next = entries.victim()) {
      free_bytes += entries.find(*next)->size_bytes;
      evict(*next, too_much() ? EvictionReason::size : EvictionReason::floor, victims);
    } else {
      break;
    }
  }
  // What is left is pinned or held, or it is not ours: the limit holds all the same.
  if (bytes > 0 && (too_much() || free_bytes < needed)) {
    return fail(Errc::no_space,
                fmt::format("image {}: no room for {} in {}: what is there is pinned, held or being filled", for_id,
                            base::format_bytes(bytes), layout.base.native()));
  }
  // What is to be written takes the place of what goes, and not before that is gone: it is counted once.
  const std::uint64_t replaced = std::min(bytes, victims.leaving_bytes);
  entries.release(replaced);
  leaving_bytes -= replaced;
  victims.leaving_bytes -= replaced;
  return {};
}

Result<void> ImageCache::Impl::wait_until_it_fits() {
  std::unique_lock lock(mutex);
  const auto fits = [this] { return entries.bytes() + entries.reserved_bytes() <= options.max_size_bytes; };
  leaving_changed.wait(lock, [&] { return leaving_bytes == 0 || fits(); });
  if (fits()) return {};
  return fail(Errc::no_space, "what was to make room for it cannot be removed");
}

Result<void> ImageCache::Impl::prune_in_background() {
  // A few at a time: readers wait for the mutex.
  constexpr std::size_t at_once = 256;
  const auto part_of_limit = [this](unsigned percent) {
    return static_cast<std::uint64_t>(static_cast<double>(options.max_size_bytes) * std::min(percent, 100U) / 100.0);
  };
  const std::uint64_t high = part_of_limit(options.prune_high_percent);
  const std::uint64_t low = std::min(high, part_of_limit(options.prune_low_percent));
  bool pruning = false;
  for (;;) {
    IMAGECACHE_TRY(const std::uint64_t free, free_bytes());
    Victims victims;
    Result<void> made;
    {
      const std::lock_guard lock(mutex);
      if (stopping) return {};
      if (options.ttl.count() > 0) {
        const double before = now() - static_cast<double>(options.ttl.count());
        while (victims.files.size() < at_once) {
          const auto unused = entries.unused_since(before);
          if (!unused) break;
          evict(*unused, EvictionReason::ttl, victims);
        }
      }
      // The limit itself and the floor hold at any time; here it is about having some room before it is wanted.
      pruning = pruning || bytes_to_stay() > high;
      while (pruning && victims.files.size() < at_once && bytes_to_stay() > low) {
        const auto next = entries.victim();
        if (!next) break;
        evict(*next, EvictionReason::size, victims);
      }
      // What was evicted above is free only once it is removed.
      made = make_room("(prune)", 0, free + victims.leaving_bytes, victims);
      update_gauges();
    }
    IMAGECACHE_CHECK(remove_files(victims));
    if (!made || victims.files.empty()) return made;
  }
}

}  // namespace imagecache::image_cache
