// What an earlier process, ours or glance-api, left in the directory: a million files take seconds to read, and nobody
// waits for that. Requests are answered meanwhile, each from a look at its own file (meet()). What would need to know
// the total waits: fills, eviction, lists.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <span>

#include "base/crash_point.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

/// Up to so many files a start looks at each before it counts as done; at more, after it.
constexpr std::size_t looked_at_on_start = 10'000;
constexpr int background_niceness = 5;

double mtime_of(const struct stat& status) {
  return static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) / 1e9;
}

/// A file of that name, as an entry that nobody has counted yet.
std::optional<Entry> entry_of(const std::filesystem::path& file) {
  struct stat status{};
  if (::lstat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return Entry{.size_bytes = static_cast<std::uint64_t>(status.st_size),
               .last_accessed = mtime_of(status),
               .last_modified = mtime_of(status),
               .verified = {}};
}

}  // namespace

Result<Entries> ImageCache::Impl::entries_of(Inventory found) {
  Entries all;
  IMAGECACHE_TRY(auto policy, make_eviction_policy(options.eviction_policy, options.max_size_bytes));
  all.use(std::move(policy));
  const std::size_t complete = found.rows.size();
  all.load(std::move(found.rows));
  std::vector<std::string> dropped;
  for (const auto& row : found.rows_without_file) {
    // Another program may have put it there after the directory was read.
    if (auto entry = base::is_safe_name(row.image_id) ? entry_of(layout.file(row.image_id)) : std::nullopt) {
      entry->hits = row.hits;
      entry->last_accessed = row.last_accessed;
      entry->last_modified = row.last_modified;
      all.put(row.image_id, std::move(*entry), true);
    } else {
      all.remove_row(row.image_id);
      dropped.push_back(row.image_id);
    }
  }
  // A few at a time: requests ask the ledger.
  for (auto rest = std::span<const std::string>(dropped); !rest.empty();) {
    const auto some = rest.first(std::min<std::size_t>(rest.size(), 1000));
    IMAGECACHE_CHECK(ledger->drop_verified(std::vector<std::string>(some.begin(), some.end())));
    rest = rest.subspan(some.size());
  }
  std::size_t adopted = 0;
  for (const auto& name : found.files_without_row) {
    auto entry = base::is_uuid(name) ? entry_of(layout.file(name)) : std::nullopt;
    if (!entry) continue;
    all.put(name, std::move(*entry), false);
    ++adopted;
  }
  base::log::info("image_cache", nullptr, "{}: {} images; {} rows without file dropped, {} files without row adopted",
                  layout.base.native(), complete, dropped.size(), adopted);
  return all;
}

Result<void> ImageCache::Impl::load() {
  step("load.begin", "");
  // What others do from here on is followed later; what they did before need not be.
  IMAGECACHE_CHECK(index->changed_by_others());
  IMAGECACHE_TRY(Inventory found, take_inventory(*index, layout.base, load_reading));
  step("load.read", "");
  base::crash_point("load.read");
  IMAGECACHE_TRY(Entries all, entries_of(std::move(found)));
  if (load_reading.stop.stop_requested()) return fail(Errc::cancelled, layout.base.native() + ": not read to its end");
  const std::lock_guard lock(mutex);
  all.take_over(std::move(entries));
  entries = std::move(all);
  update_gauges();
  return {};
}

void ImageCache::Impl::load_in_background() {
  // Those who are being answered come first; the pool has no other work.
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), background_niceness);
  std::string last_problem;
  for (;;) {
    const auto read = load();
    if (load_reading.stop.stop_requested()) return end_load(Load::broken_off);
    note(last_problem, read, "reading the directory");
    if (read) break;
    std::mutex waiting;
    std::unique_lock lock(waiting);
    std::condition_variable_any().wait_for(lock, load_reading.stop, options.load_retry_pause, [] { return false; });
  }
  const bool few = [this] {
    const std::lock_guard lock(mutex);
    return entries.count() <= looked_at_on_start;
  }();
  if (few) look_at_files();
  end_load(Load::done);
  if (!few) look_at_files();
}

void ImageCache::Impl::end_load(Load how) {
  Victims victims;
  const auto free = free_bytes();
  if (how == Load::done && free) {
    // A limit that was lowered: what is too much is gone before anybody looks for room.
    const std::lock_guard lock(mutex);
    static_cast<void>(make_room("(start)", 0, *free, victims));
  }
  if (!free) base::log::warning("image_cache", nullptr, "{}", free.error().message);
  if (auto gone = remove_files(victims); !gone) base::log::warning("image_cache", nullptr, "{}", gone.error().message);
  {
    const std::lock_guard lock(mutex);
    load_state = how;
    counters.image_cache_loading = 0;
    update_gauges();
  }
  load_ended.notify();
  if (how != Load::done) return;
  if (auto flushed = flush_now(); !flushed) base::log::warning("image_cache", nullptr, "{}", flushed.error().message);
}

void ImageCache::Impl::look_at_files() {
  constexpr std::size_t at_once = 1000;
  if (index->rows_are_files()) return;
  const auto directory = base::open_file(layout.base, O_RDONLY | O_DIRECTORY);
  if (!directory) return;
  std::string marker;
  for (;;) {
    std::vector<std::pair<std::string, std::uint64_t>> some;
    {
      const std::lock_guard lock(mutex);
      if (stopping) return;
      entries.for_each_after(
          marker, at_once, [&](const std::string& id, const Entry& entry) { some.emplace_back(id, entry.size_bytes); });
    }
    if (some.empty()) return;
    marker = some.back().first;
    std::erase_if(some, [&](auto& item) {
      struct stat status{};
      if (::fstatat(directory->get(), item.first.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return true;
      const auto size = static_cast<std::uint64_t>(status.st_size);
      return std::exchange(item.second, size) == size;
    });
    if (some.empty()) continue;
    const std::lock_guard lock(mutex);
    for (const auto& [id, size] : some) entries.set_size(id, size);
    update_gauges();
  }
}

base::Task<Result<void>> ImageCache::Impl::loaded(base::Deadline deadline) {
  for (;;) {
    const auto seen = load_ended.version();
    {
      const std::lock_guard lock(mutex);
      if (load_state == Load::done) co_return Result<void>();
      if (stopping || load_state == Load::broken_off) co_return fail(Errc::unavailable, "the image cache is stopping");
    }
    if (!co_await load_ended.wait_past(seen, deadline)) {
      co_return fail(Errc::busy, fmt::format("{}: what is in it is still being read, {} images so far; try again later",
                                             layout.base.native(), load_reading.rows.load()));
    }
  }
}

base::Task<bool> ImageCache::Impl::loaded_at_last() {
  const auto done = co_await loaded(base::never);
  co_return done.has_value();
}

bool ImageCache::Impl::meet(const std::string& id) {
  {
    const std::lock_guard lock(mutex);
    if (entries.find(id)) return true;
    if (load_state != Load::running || !base::is_uuid(id)) return false;
  }
  const auto hold = id_locks.hold(id);
  auto entry = entry_of(layout.file(id));
  const std::lock_guard lock(mutex);
  if (entries.find(id)) return true;
  if (!entry || load_state != Load::running) return false;
  entries.put(id, std::move(*entry), true);
  return true;
}

base::Task<Result<void>> ImageCache::wait_loaded() {
  co_return co_await impl_->loaded(base::in(impl_->options.load_wait));
}

std::optional<LoadProgress> ImageCache::load_progress() const {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->load_state != Impl::Load::running) return std::nullopt;
  }
  return LoadProgress{.files_seen = impl_->load_reading.files.load(), .images_read = impl_->load_reading.rows.load()};
}

bool ImageCache::look_for(const std::string& image_id) {
  return impl_->meet(image_id);
}

}  // namespace imagecache::image_cache
