#include "image_cache/entries.hpp"

#include <algorithm>
#include <utility>

namespace imagecache::image_cache {
namespace {

constexpr std::size_t most_evictions_remembered = 16384;
// Few images are asked for many times a second, and each costs a descriptor.
constexpr std::size_t most_open_files = 64;

}  // namespace

Entries::Entries() : policy_(make_lru()) {}

void Entries::join_lines(const Map::value_type& item) {
  const Entry& entry = item.second;
  by_last_use_.push_back(0, entry.slot);
  policy_->insert(entry.slot, item.first,
                  {.size_bytes = entry.size_bytes, .fetch_seconds = entry.fetch_seconds, .uses = entry.hits});
}

void Entries::leave_lines(Slot slot, bool evicted) {
  if (by_last_use_.contains(slot)) by_last_use_.erase(slot);
  policy_->erase(slot, evicted);
}

Slot Entries::free_slot() {
  if (free_slots_.empty()) {
    by_slot_.emplace_back();
    return static_cast<Slot>(by_slot_.size() - 1);
  }
  const Slot slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void Entries::enter(Map::iterator place, Slot slot) {
  Entry& entry = place->second;
  entry.slot = slot;
  by_slot_[slot] = place;
  slots_.insert(place->first, slot);
  entry.pinned = is_pinned(place->first);
  entry.held = holds_.contains(place->first);
  if (entry.pinned) ++pinned_files_;
  if (entry.stays()) staying_bytes_ += entry.size_bytes;
  bytes_ += entry.size_bytes;
}

void Entries::load(std::vector<IndexRow> rows) {
  // Slots in the order of last use: the lines are then joined from one end of their memory to the other.
  std::vector<std::pair<double, std::uint32_t>> in_order;
  in_order.reserve(rows.size());
  for (const auto& row : rows) in_order.emplace_back(row.last_accessed, in_order.size());
  std::ranges::sort(in_order);
  std::vector<Slot> slot_of_row(rows.size());
  for (Slot slot = 0; slot < in_order.size(); ++slot) slot_of_row[in_order[slot].second] = slot;
  in_order = {};

  by_slot_.resize(rows.size());
  slots_.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    IndexRow& row = rows[i];
    Entry entry{.size_bytes = row.size_bytes,
                .hits = row.hits,
                .last_accessed = row.last_accessed,
                .last_modified = row.last_modified};
    enter(entries_.emplace_hint(entries_.end(), std::move(row.image_id), std::move(entry)), slot_of_row[i]);
  }
  for (const auto& place : by_slot_) {
    if (!place->second.stays()) join_lines(*place);
  }
}

void Entries::put(const std::string& id, Entry entry, bool has_row) {
  erase(id);
  const auto place = entries_.insert_or_assign(id, std::move(entry)).first;
  enter(place, free_slot());
  if (!place->second.stays()) join_lines(*place);
  to_remove_.erase(id);
  if (!has_row) to_put_.insert(id);
}

const Entries::Map::iterator* Entries::place_of(std::string_view id) const {
  const auto slot = slots_.find(id, [&](Slot candidate) { return by_slot_[candidate]->first == id; });
  return slot ? &by_slot_[*slot] : nullptr;
}

const Entry* Entries::find(std::string_view id) const {
  const auto* place = place_of(id);
  return place ? &(*place)->second : nullptr;
}

Entry* Entries::entry_of(std::string_view id) {
  const auto* place = place_of(id);
  return place ? &(*place)->second : nullptr;
}

void Entries::set_verified(const std::string& id, std::optional<Verified> verified) {
  Entry* entry = entry_of(id);
  if (entry) entry->verified = verified ? MaybeVerified(std::move(*verified)) : MaybeVerified();
}

void Entries::set_size(const std::string& id, std::uint64_t size_bytes) {
  Entry* found = entry_of(id);
  if (!found || found->size_bytes == size_bytes) return;
  Entry& entry = *found;
  bytes_ = bytes_ - entry.size_bytes + size_bytes;
  if (entry.stays()) staying_bytes_ = staying_bytes_ - entry.size_bytes + size_bytes;
  entry.size_bytes = size_bytes;
  to_put_.insert(id);
  if (entry.stays()) return;
  policy_->erase(entry.slot, false);
  policy_->insert(entry.slot, id, {.size_bytes = size_bytes, .fetch_seconds = entry.fetch_seconds, .uses = entry.hits});
}

void Entries::restamp(const Restamped& moved) {
  Entry* entry = entry_of(moved.image_id);
  if (!entry || !entry->verified) return;
  if (entry->verified->stamp == moved.before) entry->verified->stamp = moved.after;
}

OpenFile Entries::open_file(std::string_view id) {
  Entry* entry = entry_of(id);
  if (!entry || !entry->verified) return nullptr;
  auto& known = *entry->verified.known_;
  known.file_is_used = true;
  return known.file;
}

void Entries::keep_open(std::string_view id, const Stamp& stamp, const OpenFile& file) {
  Entry* entry = entry_of(id);
  if (open_.size() >= most_open_files || !entry || !entry->verified) return;
  auto& known = *entry->verified.known_;
  if (known.file || !(known.verified.stamp == stamp) || std::ranges::find(open_, id) != open_.end()) return;
  known.file = file;
  known.file_is_used = true;
  open_.emplace_back(id);
}

std::vector<OpenFile> Entries::take_idle_files() {
  std::vector<OpenFile> idle;
  std::erase_if(open_, [&](const std::string& id) {
    Entry* entry = entry_of(id);
    if (!entry || !entry->verified || !entry->verified.known_->file) return true;
    auto& known = *entry->verified.known_;
    if (std::exchange(known.file_is_used, false)) return false;
    idle.push_back(std::exchange(known.file, nullptr));
    return true;
  });
  return idle;
}

bool Entries::erase(const std::string& id, bool evicted) {
  const auto* found = place_of(id);
  if (!found) return false;
  const Map::iterator place = *found;
  const Entry& entry = place->second;
  leave_lines(entry.slot, evicted);
  if (entry.pinned) --pinned_files_;
  if (entry.stays()) staying_bytes_ -= entry.size_bytes;
  bytes_ -= entry.size_bytes;
  slots_.erase(id, entry.slot);
  free_slots_.push_back(entry.slot);
  entries_.erase(place);
  hits_.erase(id);
  to_put_.erase(id);
  to_remove_.insert(id);
  return true;
}

bool Entries::evict(const std::string& id, EvictionReason reason) {
  if (!erase(id, true)) return false;
  evicted_.insert_or_assign(id, reason);
  evicted_in_order_.push_back(id);
  while (evicted_in_order_.size() > most_evictions_remembered) {
    evicted_.erase(evicted_in_order_.front());
    evicted_in_order_.pop_front();
  }
  return true;
}

std::optional<EvictionReason> Entries::take_eviction(const std::string& id) {
  const auto found = evicted_.find(id);
  if (found == evicted_.end()) return std::nullopt;
  const EvictionReason reason = found->second;
  evicted_.erase(found);  // its place in the order goes when its turn comes
  return reason;
}

void Entries::touch(const std::string& id, double now) {
  Entry* found = entry_of(id);
  if (!found) return;
  Entry& entry = *found;
  entry.last_accessed = std::max(entry.last_accessed, now);
  ++entry.hits;
  was_used(entry);
  auto& hits = hits_[id];
  hits.image_id = id;
  ++hits.more_hits;
  hits.last_accessed = entry.last_accessed;
}

void Entries::follow(const IndexRow& row) {
  Entry* found = entry_of(row.image_id);
  if (!found) return;
  Entry& entry = *found;
  const auto unwritten = hits_.find(row.image_id);
  entry.hits = row.hits + (unwritten == hits_.end() ? 0 : unwritten->second.more_hits);
  entry.last_modified = row.last_modified;
  if (unwritten != hits_.end() && unwritten->second.last_accessed >= row.last_accessed) return;
  const bool used = row.last_accessed > entry.last_accessed;
  entry.last_accessed = row.last_accessed;
  if (used) was_used(entry);
}

void Entries::was_used(const Entry& entry) {
  if (entry.stays()) return;
  by_last_use_.erase(entry.slot);
  by_last_use_.push_back(0, entry.slot);
  policy_->touch(entry.slot);
}

void Entries::take_over(Entries live) {
  reserved_ += live.reserved_;
  open_ = std::move(live.open_);
  for (const auto& id : live.pins_) pin(id);
  for (const auto& [id, count] : live.holds_) {
    holds_[id] += count;
    settle(id);
  }
  for (const auto& id : live.to_remove_) {
    if (!erase(id)) to_remove_.insert(id);
  }
  for (auto slot = live.by_last_use_.front(0); slot; slot = live.by_last_use_.front(0)) {
    live.by_last_use_.erase(*slot);
    take_over(live, *live.by_slot_[*slot]);
  }
  for (auto& item : live.entries_) {
    if (item.second.stays()) take_over(live, item);
  }
}

void Entries::take_over(const Entries& live, Map::value_type& item) {
  const auto& [id, former] = item;
  const auto hits = live.hits_.find(id);
  Entry* entry = entry_of(id);
  if (entry && !live.to_put_.contains(id)) {
    // Met on the way: what its row says of it is known only here, what the file itself says was seen there.
    set_size(id, former.size_bytes);
    entry->verified = former.verified;
    if (hits != live.hits_.end()) {
      entry->hits += hits->second.more_hits;
      entry->last_accessed = std::max(entry->last_accessed, hits->second.last_accessed);
      was_used(*entry);
    }
  } else {
    if (entry) item.second.hits += entry->hits;
    put(id, std::move(item.second), false);
  }
  if (hits != live.hits_.end()) hits_.insert(*hits);
}

void Entries::lose(const std::string& id) {
  if (erase(id)) to_remove_.erase(id);
}

void Entries::pin(const std::string& id) {
  if (pins_.insert(id).second) settle(id);
}

void Entries::unpin(const std::string& id) {
  if (pins_.erase(id) != 0) settle(id);
}

void Entries::hold(const std::string& id) {
  if (++holds_[id] == 1) settle(id);
}

void Entries::let_go(const std::string& id) {
  const auto found = holds_.find(id);
  if (found == holds_.end() || --found->second > 0) return;
  holds_.erase(found);
  settle(id);
}

void Entries::settle(const std::string& id) {
  const auto* found = place_of(id);
  if (!found) return;
  const Map::iterator place = *found;
  Entry& entry = place->second;
  const bool stayed = entry.stays();
  if (entry.pinned) --pinned_files_;
  entry.pinned = is_pinned(id);
  entry.held = holds_.contains(id);
  if (entry.pinned) ++pinned_files_;
  if (entry.stays() == stayed) return;
  if (stayed) {
    staying_bytes_ -= entry.size_bytes;
    join_lines(*place);
  } else {
    staying_bytes_ += entry.size_bytes;
    leave_lines(entry.slot, false);
  }
}

std::vector<std::string> Entries::ids() const {
  std::vector<std::string> all;
  all.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) all.push_back(id);
  return all;
}

std::optional<std::string> Entries::victim() {
  const auto slot = policy_->victim();
  if (!slot) return std::nullopt;
  return by_slot_[*slot]->first;
}

std::optional<std::string> Entries::unused_since(double time) const {
  const auto slot = by_last_use_.front(0);
  if (!slot || by_slot_[*slot]->second.last_accessed >= time) return std::nullopt;
  return by_slot_[*slot]->first;
}

Changes Entries::take_changes() {
  Changes changes;
  for (const auto& id : to_put_) {
    const Entry& entry = *entry_of(id);
    // What is still to be added by `hits` is not in the row yet: a row that is there already keeps its own count.
    const auto unwritten = hits_.find(id);
    const std::uint64_t more_hits = unwritten == hits_.end() ? 0 : unwritten->second.more_hits;
    changes.puts.push_back({.image_id = id,
                            .last_accessed = entry.last_accessed,
                            .last_modified = entry.last_modified,
                            .size_bytes = entry.size_bytes,
                            .hits = entry.hits - std::min(entry.hits, more_hits)});
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
    if (find(row.image_id)) to_put_.insert(row.image_id);
  }
  for (auto& id : changes.removals) {
    if (!find(id)) to_remove_.insert(std::move(id));
  }
  for (auto& hit : changes.hits) {
    if (!find(hit.image_id)) continue;
    auto& hits = hits_[hit.image_id];
    hits.more_hits += hit.more_hits;
    hits.last_accessed = std::max(hits.last_accessed, hit.last_accessed);
    hits.image_id = std::move(hit.image_id);
  }
}

void Entries::put_all_again() {
  for (const auto& [id, entry] : entries_) to_put_.insert(id);
  to_remove_.clear();
}

}  // namespace imagecache::image_cache
