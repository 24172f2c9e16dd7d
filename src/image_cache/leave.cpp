// How files leave: removed, or moved aside. Each image's files by one thread at a time (id_locks).

#include <sys/stat.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

std::string_view because(EvictionReason reason) {
  switch (reason) {
    case EvictionReason::size:
      return "for others need its room";
    case EvictionReason::floor:
      return "for the file system runs full";
    case EvictionReason::ttl:
      return "for nobody has used it for long";
  }
  return "";
}

}  // namespace

Result<void> ImageCache::Impl::remove_files(const Victims& victims) {
  Result<void> all;
  for (const auto& victim : victims.files) {
    auto removed = remove_file_of(victim);
    if (!removed && all) all = std::move(removed);
  }
  if (victims.leaving_bytes > 0) {
    const std::lock_guard lock(mutex);
    entries.release(victims.leaving_bytes);
    leaving_bytes -= victims.leaving_bytes;
    update_gauges();
  }
  leaving_changed.notify_all();
  return all;
}

Result<void> ImageCache::Impl::remove_invalid(const Victim& victim) {
  const auto hold = id_locks.hold(victim.id);
  {
    const std::lock_guard lock(mutex);
    if (invalid.contains(victim.id)) return {};  // another one by now
  }
  auto removed = base::remove_file(layout.invalid(victim.id));
  if (!removed) {
    const std::lock_guard lock(mutex);
    count_invalid(victim.id, victim.former.size_bytes);
    unremovable.insert(victim.id);
  }
  return removed;
}

Result<void> ImageCache::Impl::remove_file_of(const Victim& victim) {
  const std::string& id = victim.id;
  if (victim.kind == Victim::Kind::invalid) return remove_invalid(victim);
  const bool complete = victim.kind == Victim::Kind::complete;
  if (complete) base::log::info("image_cache", nullptr, "image {}: evicted, {}", id, because(victim.reason));
  step("evict.chosen", id);
  const auto hold = id_locks.hold(id);
  bool kept = false;
  bool part_in_use = false;
  {
    const std::lock_guard lock(mutex);
    // It may have been asked for and be kept again meanwhile; a part may be another fill's by now.
    kept = entries.find(id) != nullptr;
    part_in_use = fills.contains(id) || partials.contains(id);
  }
  if (complete && !kept) {
    if (auto removed = base::remove_file(layout.file(id)); !removed) {
      const std::lock_guard lock(mutex);
      entries.put(id, victim.former, false);
      return removed;
    }
    static_cast<void>(ledger->drop_verified(id));
  }
  if (part_in_use) return {};
  if (auto removed = base::remove_file(layout.incomplete(id)); !removed) {
    if (complete) return {};  // there was none that counted
    const std::lock_guard lock(mutex);
    partials[id] = {.content_key = "", .bytes = victim.former.size_bytes};
    entries.reserve(victim.former.size_bytes);
    unremovable.insert(id);
    return removed;
  }
  static_cast<void>(ledger->drop_partial(id));
  return {};
}

Result<Removed> ImageCache::Impl::remove_now(const std::string& id, Left why) {
  admissions.forget(id);
  const bool known = meet(id);
  const auto hold = id_locks.hold(id);
  // What is neither known nor named as an image is not ours to remove: a journal of the database, a folder.
  const auto gone = known || base::is_uuid(id) ? base::remove_file(layout.file(id)) : Result<void>();
  Removed removed;
  bool part_in_use = false;
  OpenFile last;  // closed without the mutex: it frees the blocks of what was unlinked
  {
    const std::lock_guard lock(mutex);
    last = entries.open_file(id);
    if (const Entry* entry = gone ? entries.find(id) : nullptr) {
      removed = {.files = 1, .bytes = entry->size_bytes};
      (why == Left::clear ? counters.image_evictions_clear : counters.image_evictions_deleted).fetch_add(1);
      entries.erase(id);
    }
    if (const auto fill = fills.find(id); fill != fills.end()) {
      fill->second->bar();
      part_in_use = true;
    }
    if (const auto partial = partials.find(id); partial != partials.end()) {
      entries.release(partial->second.bytes);
      partials.erase(partial);
    }
    update_gauges();
  }
  if (gone) static_cast<void>(ledger->drop_verified(id));
  if (!part_in_use) {
    static_cast<void>(base::remove_file(layout.incomplete(id)));
    static_cast<void>(ledger->drop_partial(id));
  }
  IMAGECACHE_CHECK(gone);
  return removed;
}

void ImageCache::Impl::count_invalid(const std::string& name, std::uint64_t bytes) {
  std::uint64_t& counted = invalid[name];
  entries.release(counted);
  entries.reserve(bytes);
  counted = bytes;
  if (bytes == 0) invalid.erase(name);
}

void ImageCache::Impl::move_aside(const std::string& id, std::string_view reason) {
  auto target = layout.invalid(id);
  if (::rename(layout.file(id).c_str(), target.c_str()) != 0) {
    // A folder, for one, takes no file's place.
    target += "." + base::new_uuid();
    if (::rename(layout.file(id).c_str(), target.c_str()) != 0) {
      const auto problem = base::fail_errno(layout.file(id).native(), errno);
      base::log::warning("image_cache", nullptr, "image {}: {}, and it cannot be moved away: {}", id, reason,
                         problem.error().message);
      return;
    }
  }
  struct stat moved{};
  if (::lstat(target.c_str(), &moved) == 0 && S_ISREG(moved.st_mode)) {
    const std::lock_guard lock(mutex);
    count_invalid(target.filename().native(), allocated_bytes(moved));
    update_gauges();
  }
  static_cast<void>(base::sync_directory(layout.base));
  index->mark_invalid(target, reason);
  base::log::warning("image_cache", nullptr, "image {}: {}; moved to {}", id, reason, target.native());
}

void ImageCache::Impl::invalidate(const std::string& id, const struct stat& seen, Left why, std::string_view reason) {
  const auto hold = id_locks.hold(id);
  struct stat there{};
  // A long time may have passed since it was looked at: what stands there now may be a newer file, and good.
  if (::lstat(layout.file(id).c_str(), &there) == 0 && (there.st_ino != seen.st_ino || there.st_dev != seen.st_dev))
    return;
  admissions.forget(id);
  OpenFile last;  // closed without the mutex, as below
  {
    const std::lock_guard lock(mutex);
    last = entries.open_file(id);
    entries.erase(id);
    update_gauges();
  }
  static_cast<void>(ledger->drop_verified(id));
  counters.image_files_invalidated.fetch_add(1);
  (why == Left::content_changed ? counters.image_evictions_content_changed : counters.image_evictions_invalid)
      .fetch_add(1);
  move_aside(id, reason);
}

void ImageCache::Impl::forget_entry(const std::string& id, std::string_view reason) {
  OpenFile last;  // of a file that another has unlinked, perhaps
  {
    const std::lock_guard lock(mutex);
    last = entries.open_file(id);
    if (!entries.erase(id)) return;
    counters.image_evictions_invalid.fetch_add(1);
    update_gauges();
  }
  static_cast<void>(ledger->drop_verified(id));
  base::log::warning("image_cache", nullptr, "image {}: {}; fetching it again", id, reason);
}

}  // namespace imagecache::image_cache
