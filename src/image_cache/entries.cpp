#include "image_cache/entries.hpp"

#include <algorithm>

namespace imagecache::image_cache {

void Entries::put(const std::string& id, Entry entry, bool has_row) {
  erase(id);
  bytes_ += entry.size_bytes;
  by_last_use_.emplace(entry.last_accessed, id);
  entries_[id] = std::move(entry);
  to_remove_.erase(id);
  if (!has_row) to_put_.insert(id);
}

const Entry* Entries::find(const std::string& id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second;
}

void Entries::set_verified(const std::string& id, std::optional<Verified> verified) {
  if (const auto found = entries_.find(id); found != entries_.end()) found->second.verified = std::move(verified);
}

void Entries::restamp(const Restamped& moved) {
  const auto found = entries_.find(moved.image_id);
  if (found == entries_.end() || !found->second.verified) return;
  if (found->second.verified->stamp == moved.before) found->second.verified->stamp = moved.after;
}

void Entries::put_all_again() {
  for (const auto& [id, entry] : entries_) to_put_.insert(id);
  to_remove_.clear();
}

bool Entries::erase(const std::string& id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return false;
  bytes_ -= found->second.size_bytes;
  by_last_use_.erase({found->second.last_accessed, id});
  entries_.erase(found);
  hits_.erase(id);
  to_put_.erase(id);
  to_remove_.insert(id);
  return true;
}

void Entries::touch(const std::string& id, double now) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  by_last_use_.erase({entry.last_accessed, id});
  entry.last_accessed = std::max(entry.last_accessed, now);
  by_last_use_.emplace(entry.last_accessed, id);
  ++entry.hits;
  auto& hits = hits_[id];
  hits.image_id = id;
  ++hits.more_hits;
  hits.last_accessed = entry.last_accessed;
}

std::vector<std::string> Entries::ids() const {
  std::vector<std::string> all;
  all.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) all.push_back(id);
  std::ranges::sort(all);
  return all;
}

std::optional<std::string> Entries::victim() const {
  if (by_last_use_.empty()) return std::nullopt;
  return by_last_use_.begin()->second;
}

Changes Entries::take_changes() {
  Changes changes;
  for (const auto& id : to_put_) {
    const Entry& entry = entries_.at(id);
    changes.puts.push_back({.image_id = id,
                            .last_accessed = entry.last_accessed,
                            .last_modified = entry.last_modified,
                            .size_bytes = entry.size_bytes,
                            .hits = entry.hits});
    hits_.erase(id);
  }
  changes.removals.assign(to_remove_.begin(), to_remove_.end());
  for (auto& [id, hits] : hits_) changes.hits.push_back(std::move(hits));
  to_put_.clear();
  to_remove_.clear();
  hits_.clear();
  return changes;
}

void Entries::put_back(Changes changes) {
  for (const auto& row : changes.puts) {
    if (entries_.contains(row.image_id)) to_put_.insert(row.image_id);
  }
  for (auto& id : changes.removals) {
    if (!entries_.contains(id)) to_remove_.insert(std::move(id));
  }
  for (auto& hit : changes.hits) {
    if (!entries_.contains(hit.image_id)) continue;
    auto& hits = hits_[hit.image_id];
    hits.more_hits += hit.more_hits;
    hits.last_accessed = std::max(hits.last_accessed, hit.last_accessed);
    hits.image_id = std::move(hit.image_id);
  }
}

}  // namespace imagecache::image_cache
