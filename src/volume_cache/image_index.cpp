#include "volume_cache/image_index.hpp"

#include <algorithm>

namespace imagecache::volume_cache {

void ImageIndex::enlist(PerBackend& backend, const BasePtr& image_volume) {
  if (image_volume->pinned || image_volume->state != Base::State::ready) return;
  if (backend.place.contains(image_volume.get())) return;
  // At the end but for what is loaded out of order at start, or when the clock has stepped back.
  auto after = backend.by_use.end();
  while (after != backend.by_use.begin() && (*std::prev(after))->last_used > image_volume->last_used) --after;
  backend.place[image_volume.get()] = backend.by_use.insert(after, image_volume);
}

void ImageIndex::delist(PerBackend& backend, const BasePtr& image_volume) {
  const auto place = backend.place.find(image_volume.get());
  if (place == backend.place.end()) return;
  const auto where = place->second;
  backend.place.erase(place);
  backend.by_use.erase(where);
}

void ImageIndex::insert(const BasePtr& image_volume, bool reserved) {
  PerBackend& backend = backends_[image_volume->backend];
  backend.by_content[image_volume->content_key] = image_volume;
  by_id_[image_volume->volume_id] = image_volume;
  if (!reserved) {
    ++backend.count;
    backend.size_gb += image_volume->size_gb;
  }
  enlist(backend, image_volume);
}

void ImageIndex::add(const BasePtr& image_volume, unsigned users, bool reserved) {
  const std::lock_guard lock(mutex_);
  image_volume->users = users;
  image_volume->state = Base::State::ready;
  insert(image_volume, reserved);
}

void ImageIndex::add_stuck(const BasePtr& image_volume, bool reserved) {
  const std::lock_guard lock(mutex_);
  image_volume->state = Base::State::stuck;
  insert(image_volume, reserved);
}

BasePtr ImageIndex::use(const std::string& backend, const std::string& content_key) {
  const std::lock_guard lock(mutex_);
  const auto& by_content = backends_[backend].by_content;
  const auto found = by_content.find(content_key);
  if (found == by_content.end() || found->second->state != Base::State::ready) return nullptr;
  ++found->second->users;
  return found->second;
}

void ImageIndex::release(const BasePtr& image_volume, const Cloned* cloned) {
  const std::lock_guard lock(mutex_);
  if (cloned != nullptr) {
    ++image_volume->clones;
    ++image_volume->living_clones;
    Base::Unwritten& unwritten = image_volume->unwritten[{cloned->image_id, cloned->project_id}];
    ++unwritten.clones;
    unwritten.saved_ms += cloned->saved_ms;
    used_[image_volume->volume_id] = image_volume;
    image_volume->last_used = std::max(image_volume->last_used, cloned->at);
    PerBackend& backend = backends_[image_volume->backend];
    if (const auto place = backend.place.find(image_volume.get()); place != backend.place.end())
      backend.by_use.splice(backend.by_use.end(), backend.by_use, place->second);
  }
  // Under the lock: whoever waits for the last user may let go of it at once.
  if (--image_volume->users == 0) image_volume->idle.notify();
}

void ImageIndex::clone_is_there(const std::string& source_volume_id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(source_volume_id);
  if (found != by_id_.end()) ++found->second->living_clones;
}

void ImageIndex::clone_is_gone(const std::string& source_volume_id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(source_volume_id);
  if (found != by_id_.end() && found->second->living_clones != 0) --found->second->living_clones;
}

unsigned ImageIndex::users(const BasePtr& image_volume) const {
  const std::lock_guard lock(mutex_);
  return image_volume->users;
}

std::uint64_t ImageIndex::clones(const BasePtr& image_volume) const {
  const std::lock_guard lock(mutex_);
  return image_volume->clones;
}

std::uint64_t ImageIndex::living_clones(const BasePtr& image_volume) const {
  const std::lock_guard lock(mutex_);
  return image_volume->living_clones + image_volume->users;
}

BasePtr ImageIndex::find(const std::string& backend, const std::string& content_key) const {
  const std::lock_guard lock(mutex_);
  const auto of_backend = backends_.find(backend);
  if (of_backend == backends_.end()) return nullptr;
  const auto found = of_backend->second.by_content.find(content_key);
  return found == of_backend->second.by_content.end() ? nullptr : found->second;
}

BasePtr ImageIndex::find_by_id(const std::string& volume_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(volume_id);
  return found == by_id_.end() ? nullptr : found->second;
}

void ImageIndex::start_evicting(PerBackend& backend, const BasePtr& image_volume) {
  image_volume->state = Base::State::evicting;
  ++backend.evicting_count;
  backend.evicting_size_gb += image_volume->size_gb;
  delist(backend, image_volume);
}

std::unique_ptr<std::vector<BasePtr>> ImageIndex::reserve(const std::string& backend_name, std::uint64_t size_gb,
                                                          const Limits& limits, bool may_evict) {
  const std::lock_guard lock(mutex_);
  PerBackend& backend = backends_[backend_name];
  std::uint64_t count = backend.count - backend.evicting_count + 1;
  std::uint64_t size = backend.size_gb - backend.evicting_size_gb + size_gb;
  const auto fits = [&] { return limits.hold(count, size); };
  auto victims = std::make_unique<std::vector<BasePtr>>();
  for (auto next = backend.by_use.begin(); may_evict && !fits() && next != backend.by_use.end(); ++next) {
    victims->push_back(*next);
    --count;
    size -= (*next)->size_gb;
  }
  if (!fits()) return nullptr;
  for (const BasePtr& victim : *victims) start_evicting(backend, victim);
  ++backend.count;
  backend.size_gb += size_gb;
  return victims;
}

void ImageIndex::unreserve(const std::string& backend_name, std::uint64_t size_gb) {
  const std::lock_guard lock(mutex_);
  PerBackend& backend = backends_[backend_name];
  --backend.count;
  backend.size_gb -= size_gb;
}

std::vector<BasePtr> ImageIndex::take_oldest(const std::string& backend_name,
                                             const std::function<bool(const Base&)>& enough, bool idle_only) {
  const std::lock_guard lock(mutex_);
  struct Run {
    std::list<BasePtr>::const_iterator next, end;
  };
  std::vector<Run> runs;
  for (const auto& [name, backend] : backends_) {
    if ((backend_name.empty() || name == backend_name) && !backend.by_use.empty())
      runs.push_back({backend.by_use.begin(), backend.by_use.end()});
  }
  std::vector<BasePtr> victims;
  while (!runs.empty()) {
    const auto oldest = std::ranges::min_element(runs, {}, [](const Run& run) { return (*run.next)->last_used; });
    const BasePtr candidate = *oldest->next;
    if (++oldest->next == oldest->end) runs.erase(oldest);
    if (idle_only && candidate->users != 0) continue;
    victims.push_back(candidate);
    if (!enough(*candidate)) continue;
    for (const BasePtr& victim : victims) start_evicting(backends_[victim->backend], victim);
    return victims;
  }
  return {};
}

std::vector<BasePtr> ImageIndex::take_idle(const std::string& backend_name,
                                           const std::function<bool(const Base&)>& wanted) {
  const std::lock_guard lock(mutex_);
  PerBackend& backend = backends_[backend_name];
  std::vector<BasePtr> victims;
  for (const BasePtr& candidate : backend.by_use) {
    if (candidate->users == 0 && wanted(*candidate)) victims.push_back(candidate);
  }
  for (const BasePtr& victim : victims) start_evicting(backend, victim);
  return victims;
}

std::vector<BasePtr> ImageIndex::ready() const {
  const std::lock_guard lock(mutex_);
  std::vector<BasePtr> all;
  for (const auto& [id, image_volume] : by_id_) {
    if (image_volume->state == Base::State::ready) all.push_back(image_volume);
  }
  return all;
}

ImageIndex::Taken ImageIndex::taken(const std::string& backend_name) const {
  const std::lock_guard lock(mutex_);
  const auto backend = backends_.find(backend_name);
  if (backend == backends_.end()) return {};
  return {.count = backend->second.count - backend->second.evicting_count,
          .size_gb = backend->second.size_gb - backend->second.evicting_size_gb};
}

bool ImageIndex::mark_idle(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state != Base::State::ready || image_volume->pinned || image_volume->users != 0) return false;
  start_evicting(backends_[image_volume->backend], image_volume);
  return true;
}

bool ImageIndex::mark_evicting(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state == Base::State::evicting || image_volume->state == Base::State::gone) return false;
  start_evicting(backends_[image_volume->backend], image_volume);
  return true;
}

void ImageIndex::mark_stuck(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state != Base::State::evicting) return;
  image_volume->state = Base::State::stuck;
  PerBackend& backend = backends_[image_volume->backend];
  --backend.evicting_count;
  backend.evicting_size_gb -= image_volume->size_gb;
}

void ImageIndex::mark_gone(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state == Base::State::gone) return;
  PerBackend& backend = backends_[image_volume->backend];
  if (image_volume->state == Base::State::evicting) {
    --backend.evicting_count;
    backend.evicting_size_gb -= image_volume->size_gb;
  }
  delist(backend, image_volume);
  image_volume->state = Base::State::gone;
  --backend.count;
  backend.size_gb -= image_volume->size_gb;
  if (const auto found = backend.by_content.find(image_volume->content_key);
      found != backend.by_content.end() && found->second == image_volume)
    backend.by_content.erase(found);
  by_id_.erase(image_volume->volume_id);
  used_.erase(image_volume->volume_id);
}

Base::State ImageIndex::state(const BasePtr& image_volume) const {
  const std::lock_guard lock(mutex_);
  return image_volume->state;
}

void ImageIndex::set_pinned(const BasePtr& image_volume, bool pinned) {
  const std::lock_guard lock(mutex_);
  image_volume->pinned = pinned;
  PerBackend& backend = backends_[image_volume->backend];
  if (pinned) {
    delist(backend, image_volume);
  } else {
    enlist(backend, image_volume);
  }
}

std::vector<catalog::Catalog::Use> ImageIndex::take_uses() {
  const std::lock_guard lock(mutex_);
  std::vector<catalog::Catalog::Use> uses;
  uses.reserve(used_.size());
  for (const auto& [id, image_volume] : used_) {
    for (const auto& [who, unwritten] : std::exchange(image_volume->unwritten, {})) {
      uses.push_back({.volume_id = id,
                      .clones = unwritten.clones,
                      .at = image_volume->last_used,
                      .image_id = who.first,
                      .project_id = who.second,
                      .saved_ms = unwritten.saved_ms});
    }
  }
  used_.clear();
  return uses;
}

void ImageIndex::put_back(const std::vector<catalog::Catalog::Use>& uses) {
  const std::lock_guard lock(mutex_);
  for (const auto& use : uses) {
    const auto found = by_id_.find(use.volume_id);
    if (found == by_id_.end()) continue;
    Base::Unwritten& unwritten = found->second->unwritten[{use.image_id, use.project_id}];
    unwritten.clones += use.clones;
    unwritten.saved_ms += use.saved_ms;
    used_[use.volume_id] = found->second;
  }
}

}  // namespace imagecache::volume_cache
