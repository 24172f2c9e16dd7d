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
  counters.image_cache_limit_bytes = options.max_size_bytes;
}

void ImageCache::Impl::evict(const std::string& id, EvictionReason reason) {
  const Entry* entry = entries.find(id);
  if (!entry) return;
  counters.image_evictions.fetch_add(1);
  counters.image_evicted_bytes.fetch_add(entry->size_bytes);
  auto& by_reason = reason == EvictionReason::size    ? counters.image_evictions_size
                    : reason == EvictionReason::floor ? counters.image_evictions_floor
                                                      : counters.image_evictions_ttl;
  by_reason.fetch_add(1);
  base::log::info("image_cache", nullptr, "image {}: evicted, {}", id,
                  reason == EvictionReason::size    ? "for others need its room"
                  : reason == EvictionReason::floor ? "for the file system runs full"
                                                    : "for nobody has used it for long");
  entries.evict(id, reason);
}

Result<std::vector<std::string>> ImageCache::Impl::make_room(const std::string& for_id, std::uint64_t bytes) {
  const auto limit = options.max_size_bytes;
  if (bytes > limit) {
    return fail(Errc::no_space, fmt::format("image {}: its {} are more than image_cache_max_size ({})", for_id,
                                            base::format_bytes(bytes), base::format_bytes(limit)));
  }
  struct statvfs space{};
  if (::statvfs(layout.base.c_str(), &space) != 0) return base::fail_errno(layout.base.native(), errno);
  // What running fills have reserved and not yet written is not free any more, though the file system says so; it has
  // mostly been allocated at their start, so this errs on the side of evicting.
  std::uint64_t free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  const std::uint64_t needed = bytes + options.free_space_floor_bytes;
  // Nothing is evicted for what would not fit even then: pinned files and what running fills have reserved stay.
  std::uint64_t partial_bytes = 0;
  for (const auto& [id, partial] : partials) {
    if (id != for_id) partial_bytes += partial.bytes;
  }
  const std::uint64_t being_filled = entries.reserved_bytes() - partial_bytes;
  const std::uint64_t could_be_freed = entries.bytes() - entries.pinned_bytes() + partial_bytes;
  if (bytes > 0 && (entries.pinned_bytes() + being_filled + bytes > limit || free_bytes + could_be_freed < needed)) {
    return fail(
        Errc::no_space,
        fmt::format("image {}: no room for {} in {}: {} are pinned, {} spoken for by running fills, {} free "
                    "on the file system",
                    for_id, base::format_bytes(bytes), layout.base.native(), base::format_bytes(entries.pinned_bytes()),
                    base::format_bytes(being_filled), base::format_bytes(free_bytes)));
  }
  std::vector<std::string> victims;
  const auto too_much = [&] { return entries.bytes() + entries.reserved_bytes() + bytes > limit; };
  while (too_much() || free_bytes < needed) {
    // Half a file that nobody is writing goes before a whole one.
    const auto partial = std::ranges::find_if(partials, [&](const auto& p) { return p.first != for_id; });
    std::string victim;
    if (partial != partials.end()) {
      victim = partial->first;
      free_bytes += partial->second.bytes;
      entries.release(partial->second.bytes);
      partials.erase(partial);
    } else if (const auto next = entries.victim()) {
      victim = *next;
      free_bytes += entries.find(victim)->size_bytes;
      evict(victim, too_much() ? EvictionReason::size : EvictionReason::floor);
    } else {
      break;
    }
    victims.push_back(std::move(victim));
  }
  // What is left is pinned, or it is not ours: the limit holds all the same.
  if (bytes > 0 && (too_much() || free_bytes < needed)) {
    remove_later(std::move(victims));
    return fail(Errc::no_space, fmt::format("image {}: no room for {} in {}: what is there is pinned or being filled",
                                            for_id, base::format_bytes(bytes), layout.base.native()));
  }
  return victims;
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
    std::vector<std::string> victims;
    {
      const std::lock_guard lock(mutex);
      if (stopping) return {};
      if (options.ttl.count() > 0) {
        const double before = now() - static_cast<double>(options.ttl.count());
        while (victims.size() < at_once) {
          const auto unused = entries.unused_since(before);
          if (!unused) break;
          evict(*unused, EvictionReason::ttl);
          victims.push_back(*unused);
        }
      }
      // The limit itself and the floor hold at any time; here it is about having some room before it is wanted.
      pruning = pruning || entries.bytes() + entries.reserved_bytes() > high;
      while (pruning && victims.size() < at_once && entries.bytes() + entries.reserved_bytes() > low) {
        const auto next = entries.victim();
        if (!next) break;
        evict(*next, EvictionReason::size);
        victims.push_back(*next);
      }
      IMAGECACHE_TRY(auto more, make_room("(prune)", 0));
      for (auto& id : more) victims.push_back(std::move(id));
      update_gauges();
    }
    if (victims.empty()) return {};
    remove_files(victims);
  }
}

}  // namespace imagecache::image_cache
