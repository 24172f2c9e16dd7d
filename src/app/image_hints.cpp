#include "app/image_hints.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "base/request_context.hpp"

namespace imagecache::app {

ImageHints::ImageHints(image_cache::ImageCache& images, volume_cache::VolumeCache& volumes, base::Executor executor,
                       std::size_t limit, events::Counters& counters)
    : images_(images), volumes_(volumes), executor_(std::move(executor)), limit_(limit), counters_(counters) {}

void ImageHints::take(const events::ImageHint& hint) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    if (const auto known = waiting_.find(hint.image_id); known != waiting_.end()) {
      known->second |= hint.deleted;
      return;
    }
    if (waiting_.size() >= limit_) {
      ++counters_.image_hints_dropped;
      return;
    }
    waiting_[hint.image_id] = hint.deleted;
    if (std::exchange(is_working_, true)) return;
  }
  group_.spawn(executor_, work_off());
}

base::Task<void> ImageHints::work_off() {
  for (;;) {
    std::string image_id;
    bool is_said_deleted = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || waiting_.empty()) {
        is_working_ = false;
        co_return;
      }
      const auto next = waiting_.extract(waiting_.begin());
      image_id = next.key();
      is_said_deleted = next.mapped();
    }
    co_await look_at(std::move(image_id), is_said_deleted);
  }
}

base::Task<void> ImageHints::look_at(std::string image_id, bool is_said_deleted) {
  // Nobody is believed any more to may have it until he has asked again: what is deactivated is barred at once.
  images_.forget_admissions(image_id);
  const bool has_file = images_.is_cached(image_id) || std::ranges::any_of(images_.fills(), [&](const auto& fill) {
                          return fill.image_id == image_id;
                        });
  if (is_said_deleted && has_file) {
    const auto context = co_await images_.service_context(base::internal_context());
    if (context) {
      const auto info = co_await images_.describe(image_id, *context);
      const bool is_gone =
          info ? info->status == "deleted" || info->status == "pending_delete" : info.error().code == Errc::not_found;
      if (is_gone) {
        const auto removed = co_await images_.remove(image_id);
        if (removed && removed->files != 0)
          base::log::info("app", &*context, "image {} is deleted, as Glance says, and so is its file", image_id);
      }
    }
  }
  co_await volumes_.review(image_id, is_said_deleted);
}

base::Task<void> ImageHints::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    waiting_.clear();
  }
  co_await group_.join();
}

}  // namespace imagecache::app
