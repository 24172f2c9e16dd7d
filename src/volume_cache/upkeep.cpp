// What image-volumes need without anybody asking: those that are unused for long, or too many, go
// before a request has to wait for it.
#include <fmt/format.h>

#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

Task<void> VolumeCache::Impl::upkeep() {
  const base::WallTime unused_since = clock.now() - options.ttl;
  std::set<std::string> wanted_warm;
  bool knows_wanted_warm = false;
  {
    const std::lock_guard lock(mutex);
    knows_wanted_warm = warm_round_ended || !warms_ahead();
    for (const auto& [of, state] : warm) wanted_warm.insert(state.image_volume_id);
  }
  for (const auto& of : backends) {
    for (const std::string& of_pool : index.pools(of->options().name)) {
      const std::string place = place_of(of->options().name, of_pool);
      if (options.ttl.count() > 0 && knows_wanted_warm) {
        const auto old = index.take_idle(place, [&](const Base& one) {
          return one.last_used < unused_since && !wanted_warm.contains(one.volume_id);
        });
        counters.image_volumes_expired += old.size();
        // What cannot be evicted says so in the log and in its row, and is tried again when it is wanted.
        static_cast<void>(co_await evict_all(
            old, fmt::format("nobody has used it for {} s (image_volume_ttl)", options.ttl.count())));
      }
      ImageIndex::Taken taken = index.taken(place);
      const auto above = [&](unsigned percent) {
        return !limits_of(of->options(), percent).hold(taken.count, taken.size_gb);
      };
      if (!above(options.high_percent)) continue;
      const auto victims = index.take_idle(place, [&](const Base& one) {
        if (!above(options.low_percent)) return false;
        --taken.count;
        taken.size_gb -= one.size_gb;
        return true;
      });
      counters.image_volumes_above_mark += victims.size();
      static_cast<void>(co_await evict_all(victims, "room is made ahead (image_volume_high_percent)"));
    }
  }
}

base::Task<void> VolumeCache::upkeep() {
  co_await impl_->upkeep();
}

}  // namespace imagecache::volume_cache
