#include "volume_cache/image_index.hpp"

#include <algorithm>

namespace imagecache::volume_cache {

void ImageIndex::enlist(PerPlace& at, const BasePtr& image_volume) {
  if (image_volume->pinned || image_volume->import != Base::Import::none || image_volume->state != Base::State::ready)
    return;
  if (at.listed.contains(image_volume.get())) return;
  // At the end but for what is loaded out of order at start, or when the clock has stepped back.
  auto after = at.by_use.end();
  while (after != at.by_use.begin() && (*std::prev(after))->last_used > image_volume->last_used) --after;
  at.listed[image_volume.get()] = at.by_use.insert(after, image_volume);
}

void ImageIndex::delist(PerPlace& at, const BasePtr& image_volume) {
  const auto found = at.listed.find(image_volume.get());
  if (found == at.listed.end()) return;
  const auto listed = found->second;
  at.listed.erase(found);
  at.by_use.erase(listed);
}

void ImageIndex::insert(const BasePtr& image_volume, bool reserved) {
  PerPlace& at = places_[image_volume->place()];
  at.by_content[image_volume->content_key] = image_volume;
  by_id_[image_volume->volume_id] = image_volume;
  if (!reserved) {
    ++at.count;
    at.size_gb += image_volume->size_gb;
  }
  enlist(at, image_volume);
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

BasePtr ImageIndex::use(const std::string& place, const std::string& content_key) {
  const std::lock_guard lock(mutex_);
  const auto& by_content = places_[place].by_content;
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
    PerPlace& at = places_[image_volume->place()];
    if (const auto found = at.listed.find(image_volume.get()); found != at.listed.end())
      at.by_use.splice(at.by_use.end(), at.by_use, found->second);
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

BasePtr ImageIndex::find(const std::string& place, const std::string& content_key) const {
  const std::lock_guard lock(mutex_);
  const auto at = places_.find(place);
  if (at == places_.end()) return nullptr;
  const auto found = at->second.by_content.find(content_key);
  return found == at->second.by_content.end() ? nullptr : found->second;
}

BasePtr ImageIndex::find_by_id(const std::string& volume_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(volume_id);
  return found == by_id_.end() ? nullptr : found->second;
}

void ImageIndex::start_evicting(PerPlace& at, const BasePtr& image_volume) {
  image_volume->state = Base::State::evicting;
  ++at.evicting_count;
  at.evicting_size_gb += image_volume->size_gb;
  delist(at, image_volume);
}

std::unique_ptr<std::vector<BasePtr>> ImageIndex::reserve(const std::string& place, std::uint64_t size_gb,
                                                          const Limits& limits, bool may_evict) {
  const std::lock_guard lock(mutex_);
  PerPlace& at = places_[place];
  std::uint64_t count = at.count - at.evicting_count + 1;
  std::uint64_t size = at.size_gb - at.evicting_size_gb + size_gb;
  const auto fits = [&] { return limits.hold(count, size); };
  auto victims = std::make_unique<std::vector<BasePtr>>();
  for (auto next = at.by_use.begin(); may_evict && !fits() && next != at.by_use.end(); ++next) {
    victims->push_back(*next);
    --count;
    size -= (*next)->size_gb;
  }
  if (!fits()) return nullptr;
  for (const BasePtr& victim : *victims) start_evicting(at, victim);
  ++at.count;
  at.size_gb += size_gb;
  return victims;
}

void ImageIndex::unreserve(const std::string& place, std::uint64_t size_gb) {
  const std::lock_guard lock(mutex_);
  PerPlace& at = places_[place];
  --at.count;
  at.size_gb -= size_gb;
}

bool ImageIndex::look_at_oldest(const std::string& place, const std::function<bool(const BasePtr&)>& look) const {
  struct Run {
    std::list<BasePtr>::const_iterator next, end;
  };
  std::vector<Run> runs;
  for (const auto& [name, at] : places_) {
    if ((place.empty() || name == place) && !at.by_use.empty()) runs.push_back({at.by_use.begin(), at.by_use.end()});
  }
  while (!runs.empty()) {
    const auto oldest = std::ranges::min_element(runs, {}, [](const Run& run) { return (*run.next)->last_used; });
    if (look(*oldest->next)) return true;
    if (++oldest->next == oldest->end) runs.erase(oldest);
  }
  return false;
}

std::vector<BasePtr> ImageIndex::take_oldest(const std::string& place, const std::function<bool(const Base&)>& enough,
                                             bool idle_only) {
  const std::lock_guard lock(mutex_);
  std::vector<BasePtr> victims;
  const bool found = look_at_oldest(place, [&](const BasePtr& candidate) {
    if (idle_only && candidate->users != 0) return false;
    victims.push_back(candidate);
    return enough(*candidate);
  });
  if (!found) return {};
  for (const BasePtr& victim : victims) start_evicting(places_[victim->place()], victim);
  return victims;
}

std::vector<BasePtr> ImageIndex::take_for(const std::vector<Need>& needs,
                                          const std::function<void(const Base&)>& taken) {
  const std::lock_guard lock(mutex_);
  std::vector<BasePtr> victims;
  std::set<const Base*> chosen;
  for (const Need& need : needs) {
    if (need.is_met()) continue;
    const bool found = look_at_oldest("", [&](const BasePtr& candidate) {
      if (!need.helps(*candidate) || !chosen.insert(candidate.get()).second) return false;
      victims.push_back(candidate);
      taken(*candidate);
      return need.is_met();
    });
    if (!found) return {};
  }
  for (const BasePtr& victim : victims) start_evicting(places_[victim->place()], victim);
  return victims;
}

std::vector<BasePtr> ImageIndex::take_idle(const std::string& place, const std::function<bool(const Base&)>& wanted) {
  const std::lock_guard lock(mutex_);
  PerPlace& at = places_[place];
  std::vector<BasePtr> victims;
  for (const BasePtr& candidate : at.by_use) {
    if (candidate->users == 0 && wanted(*candidate)) victims.push_back(candidate);
  }
  for (const BasePtr& victim : victims) start_evicting(at, victim);
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

ImageIndex::Taken ImageIndex::taken(const std::string& place) const {
  const std::lock_guard lock(mutex_);
  const auto at = places_.find(place);
  if (at == places_.end()) return {};
  return {.count = at->second.count - at->second.evicting_count,
          .size_gb = at->second.size_gb - at->second.evicting_size_gb};
}

std::set<std::string> ImageIndex::pools(const std::string& backend) const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> pools{""};
  const std::string before = place_of(backend, "");
  for (auto at = places_.lower_bound(before); at != places_.end() && at->first.starts_with(before); ++at)
    pools.insert(at->first.substr(before.size()));
  return pools;
}

bool ImageIndex::mark_idle(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state != Base::State::ready || image_volume->pinned || image_volume->import != Base::Import::none ||
      image_volume->users != 0)
    return false;
  start_evicting(places_[image_volume->place()], image_volume);
  return true;
}

bool ImageIndex::mark_evicting(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state == Base::State::evicting || image_volume->state == Base::State::gone) return false;
  if (image_volume->import == Base::Import::copying || image_volume->import == Base::Import::source_kept) return false;
  start_evicting(places_[image_volume->place()], image_volume);
  return true;
}

void ImageIndex::mark_stuck(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state != Base::State::evicting) return;
  image_volume->state = Base::State::stuck;
  PerPlace& at = places_[image_volume->place()];
  --at.evicting_count;
  at.evicting_size_gb -= image_volume->size_gb;
}

void ImageIndex::mark_bad(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  image_volume->import = Base::Import::bad;
  if (image_volume->state != Base::State::ready) return;
  image_volume->state = Base::State::stuck;
  delist(places_[image_volume->place()], image_volume);
}

void ImageIndex::mark_gone(const BasePtr& image_volume) {
  const std::lock_guard lock(mutex_);
  if (image_volume->state == Base::State::gone) return;
  PerPlace& at = places_[image_volume->place()];
  if (image_volume->state == Base::State::evicting) {
    --at.evicting_count;
    at.evicting_size_gb -= image_volume->size_gb;
  }
  delist(at, image_volume);
  image_volume->state = Base::State::gone;
  --at.count;
  at.size_gb -= image_volume->size_gb;
  if (const auto found = at.by_content.find(image_volume->content_key);
      found != at.by_content.end() && found->second == image_volume)
    at.by_content.erase(found);
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
  PerPlace& at = places_[image_volume->place()];
  if (pinned) {
    delist(at, image_volume);
  } else {
    enlist(at, image_volume);
  }
}

void ImageIndex::set_import(const BasePtr& image_volume, Base::Import import) {
  const std::lock_guard lock(mutex_);
  image_volume->import = import;
  PerPlace& at = places_[image_volume->place()];
  if (import != Base::Import::none) {
    delist(at, image_volume);
  } else {
    enlist(at, image_volume);
  }
}

Base::Import ImageIndex::import(const BasePtr& image_volume) const {
  const std::lock_guard lock(mutex_);
  return image_volume->import;
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
