#include "volume_cache/last_answers.hpp"

namespace imagecache::volume_cache {

void LastAnswers::yes(const std::string& project_id, const origin::ImageInfo& image) {
  const std::lock_guard lock(mutex_);
  Key key{project_id, image.id};
  if (const auto known = entries_.find(key); known != entries_.end()) {
    known->second->image = image;
    by_age_.splice(by_age_.begin(), by_age_, known->second);
    return;
  }
  by_age_.push_front({.key = key, .image = image});
  entries_[std::move(key)] = by_age_.begin();
  if (entries_.size() <= max_entries_) return;
  entries_.erase(by_age_.back().key);
  by_age_.pop_back();
}

void LastAnswers::no(const std::string& project_id, const std::string& image_id) {
  const std::lock_guard lock(mutex_);
  const auto known = entries_.find({project_id, image_id});
  if (known == entries_.end()) return;
  by_age_.erase(known->second);
  entries_.erase(known);
}

void LastAnswers::forget(const std::string& image_id) {
  const std::lock_guard lock(mutex_);
  for (auto one = entries_.begin(); one != entries_.end();) {
    if (one->first.second == image_id) {
      by_age_.erase(one->second);
      one = entries_.erase(one);
    } else {
      ++one;
    }
  }
}

std::optional<origin::ImageInfo> LastAnswers::find(const std::string& project_id, const std::string& image_id) const {
  const std::lock_guard lock(mutex_);
  const auto known = entries_.find({project_id, image_id});
  if (known == entries_.end()) return std::nullopt;
  return known->second->image;
}

}  // namespace imagecache::volume_cache
