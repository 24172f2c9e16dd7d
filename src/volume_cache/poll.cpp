// Image-volumes of images that are no more, or have other bytes: found out by asking the origin, again and again, or
// when somebody says that an image is not what it was.
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// What the origin says of an image that an image-volume was cloned for.
enum class Verdict { holds, changed, gone, unknown };

}  // namespace

Task<std::optional<VolumeCache::Impl::Orphan>> VolumeCache::Impl::judge(BasePtr image_volume,
                                                                        std::map<std::string, bool> of_images,
                                                                        Answers& answers) {
  bool stays = false;
  Orphan orphan{.image_volume = image_volume, .why = "its image is gone from the origin"};
  // All of them, so that it is known of each whether it was ever seen.
  for (const auto& [image_id, was_seen] : of_images) {
    if (!check_open()) co_return std::nullopt;
    auto answer = answers.asked.find(image_id);
    if (answer == answers.asked.end())
      answer = answers.asked.emplace(image_id, co_await images.describe(image_id, answers.context)).first;
    const Result<origin::ImageInfo>& info = answer->second;
    Verdict verdict = Verdict::unknown;
    if (info) {
      verdict = key_of(*info) == image_volume->content_key ? Verdict::holds : Verdict::changed;
      if (info->status == "deleted" || info->status == "pending_delete") verdict = Verdict::gone;
    } else if (info.error().code == Errc::not_found && was_seen) {
      answers.missing.insert(image_id);
      if (answers.said_missing.contains(image_id)) verdict = Verdict::gone;
      orphan.by_absence = true;
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
      orphan.why = of_other_mode ? "image_volume_staleness was changed, and nobody finds it any more"
                                 : "its image has other bytes at the origin";
    }
  }
  if (stays) co_return std::nullopt;
  co_return orphan;
}

Task<void> VolumeCache::Impl::evict_orphan(Orphan orphan) {
  // One that is pinned stays; one that is being cloned is looked at again in the next round.
  if (!index.mark_idle(orphan.image_volume)) co_return;
  ++counters.image_volumes_orphaned;
  static_cast<void>(co_await evict(orphan.image_volume, orphan.why));
}

Task<Result<VolumeCache::Impl::ImagesOf>> VolumeCache::Impl::images_of_image_volumes() {
  const auto list = [](Catalog& from) { return from.list_image_volume_uses(); };
  IMAGECACHE_CO_TRY(const auto uses, co_await in_catalog(list));
  ImagesOf images_of;
  for (const auto& use : uses) images_of[use.volume_id][use.image_id] |= use.seen_at != base::WallTime{};
  co_return images_of;
}

Task<void> VolumeCache::Impl::poll() {
  const auto images_of = co_await images_of_image_volumes();
  const auto context = co_await images.service_context(base::internal_context());
  if (!images_of || !context) {
    base::log::warning(room_name, nullptr, "whether the images of image-volumes are still there cannot be asked: {}",
                       (images_of ? context.error() : images_of.error()).message);
    co_return;
  }
  Answers answers{.context = *context, .said_missing = missing_images, .asked = {}, .missing = {}};
  std::vector<Orphan> orphans;
  for (const BasePtr& image_volume : index.ready()) {
    // Built since the uses were read: the next round's.
    const auto of = images_of->find(image_volume->volume_id);
    if (of == images_of->end()) continue;
    std::optional<Orphan> orphan = co_await judge(image_volume, of->second, answers);
    if (orphan) orphans.push_back(std::move(*orphan));
    if (!check_open()) co_return;
  }

  // Images are deleted one by one. Where more are missing than are there, it is the account or the origin.
  std::size_t found = 0;
  for (const auto& [image_id, info] : answers.asked) found += info ? 1U : 0U;
  const bool is_believed = answers.missing.size() <= found;
  if (!is_believed && !poll_is_doubted)
    base::log::warning(room_name, nullptr,
                       "the origin says that {} images of image-volumes are not there, and knows {}: no image-volume "
                       "goes for that. If they are not deleted, see that [service_user] may see all images",
                       answers.missing.size(), found);
  poll_is_doubted = !is_believed;
  missing_images = is_believed ? std::move(answers.missing) : std::set<std::string>();
  for (Orphan& one : orphans) {
    if (one.by_absence && !is_believed) continue;
    if (!check_open()) co_return;
    co_await evict_orphan(std::move(one));
  }
}

Task<void> VolumeCache::Impl::review(std::string image_id, bool is_said_deleted) {
  last_answers.forget(image_id);
  const auto images_of = co_await images_of_image_volumes();
  if (!images_of) co_return;  // as when the origin does not answer: the next poll finds out
  std::optional<Answers> answers;
  for (const auto& [volume_id, of_images] : *images_of) {
    const BasePtr image_volume = index.find_by_id(volume_id);
    if (!of_images.contains(image_id) || !image_volume) continue;
    if (!answers) {
      const auto context = co_await images.service_context(base::internal_context());
      if (!context) co_return;
      answers = Answers{.context = *context, .said_missing = {}, .asked = {}, .missing = {}};
      // What is said, and what the origin says, agree: the second time that a poll waits for.
      if (is_said_deleted) answers->said_missing.insert(image_id);
    }
    std::optional<Orphan> orphan = co_await judge(image_volume, of_images, *answers);
    if (!check_open()) co_return;
    if (orphan) co_await evict_orphan(std::move(*orphan));
  }
}

base::Task<void> VolumeCache::poll() {
  co_await impl_->poll();
}

base::Task<void> VolumeCache::review(std::string image_id, bool is_said_deleted) {
  co_await impl_->review(std::move(image_id), is_said_deleted);
}

}  // namespace imagecache::volume_cache
