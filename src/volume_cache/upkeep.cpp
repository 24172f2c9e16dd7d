// What image-volumes need without anybody asking: those that are unused for long, too many, or of images that are no
// more, go before a request has to wait for it.
#include <fmt/format.h>

#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// What the origin says of an image that an image-volume was cloned for.
enum class Verdict { holds, changed, gone, unknown };

}  // namespace

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

Task<void> VolumeCache::Impl::poll() {
  const auto list = [](Catalog& from) { return from.list_image_volume_uses(); };
  const auto uses = co_await in_catalog(list);
  const auto context = co_await images.service_context(base::internal_context());
  if (!uses || !context) {
    base::log::warning(room_name, nullptr, "whether the images of image-volumes are still there cannot be asked: {}",
                       (uses ? context.error() : uses.error()).message);
    co_return;
  }
  std::map<std::string, std::map<std::string, bool>> images_of;  // by image-volume; whether it was ever seen
  for (const auto& use : *uses) images_of[use.volume_id][use.image_id] |= use.seen_at != base::WallTime{};

  std::map<std::string, Result<origin::ImageInfo>> asked;
  std::set<std::string> missing;
  struct Candidate {
    BasePtr image_volume;
    bool by_absence = false;  // only since an image is not found
    std::string why;
  };
  std::vector<Candidate> candidates;
  for (const BasePtr& image_volume : index.ready()) {
    // Built since the uses were read: the next round's.
    const auto of = images_of.find(image_volume->volume_id);
    if (of == images_of.end()) continue;
    bool stays = false;
    Candidate candidate{.image_volume = image_volume, .why = "its image is gone from the origin"};
    // All of them, so that it is known of each whether it was ever seen.
    for (const auto& [image_id, was_seen] : of->second) {
      if (!check_open()) co_return;
      auto answer = asked.find(image_id);
      if (answer == asked.end()) answer = asked.emplace(image_id, co_await images.describe(image_id, *context)).first;
      const Result<origin::ImageInfo>& info = answer->second;
      Verdict verdict = Verdict::unknown;
      if (info) {
        verdict = key_of(*info) == image_volume->content_key ? Verdict::holds : Verdict::changed;
        if (info->status == "deleted" || info->status == "pending_delete") verdict = Verdict::gone;
      } else if (info.error().code == Errc::not_found && was_seen) {
        missing.insert(image_id);
        if (missing_images.contains(image_id)) verdict = Verdict::gone;
        candidate.by_absence = true;
      }
      if (verdict == Verdict::holds && !was_seen) {
        auto write = [id = image_volume->volume_id, image_id, now = clock.now()](Catalog& to) {
          return to.record_seen(id, image_id, now);
        };
        static_cast<void>(co_await in_catalog(std::move(write)));  // else the next round does
      }
      stays = stays || verdict == Verdict::holds || verdict == Verdict::unknown;
      if (verdict == Verdict::changed) {
        const bool of_other_mode = image_volume_key(*info, !options.stale_by_updated_at) == image_volume->content_key;
        candidate.why = of_other_mode ? "image_volume_staleness was changed, and nobody finds it any more"
                                      : "its image has other bytes at the origin";
      }
    }
    if (!stays) candidates.push_back(std::move(candidate));
  }

  // Images are deleted one by one. Where more are missing than are there, it is the account or the origin.
  std::size_t found = 0;
  for (const auto& [image_id, info] : asked) found += info ? 1U : 0U;
  const bool is_believed = missing.size() <= found;
  if (!is_believed && !poll_is_doubted)
    base::log::warning(room_name, nullptr,
                       "the origin says that {} images of image-volumes are not there, and knows {}: no image-volume "
                       "goes for that. If they are not deleted, see that [service_user] may see all images",
                       missing.size(), found);
  poll_is_doubted = !is_believed;
  missing_images = is_believed ? std::move(missing) : std::set<std::string>();
  for (const Candidate& one : candidates) {
    if (one.by_absence && !is_believed) continue;
    if (!check_open()) co_return;
    // One that is pinned stays; one that is being cloned is looked at again in the next round.
    if (!index.mark_idle(one.image_volume)) continue;
    ++counters.image_volumes_orphaned;
    static_cast<void>(co_await evict(one.image_volume, one.why));
  }
}

base::Task<void> VolumeCache::upkeep() {
  co_await impl_->upkeep();
}

base::Task<void> VolumeCache::poll() {
  co_await impl_->poll();
}

}  // namespace imagecache::volume_cache
