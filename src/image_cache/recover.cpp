// What an earlier process, ours or glance-api, left in the directory.

#include <fcntl.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"
#include "image_cache/inventory.hpp"

namespace imagecache::image_cache {
namespace {

/// Up to so many files a start looks at each before it goes on; of more, in the background.
constexpr std::size_t looked_at_on_start = 10'000;

}  // namespace

Result<void> ImageCache::recover() {
  Impl& impl = *impl_;
  const Layout& layout = impl.layout;
  const Options& options = impl.options;
  for (const auto& directory :
       {layout.base, layout.incomplete_dir(), layout.invalid_dir(), layout.queue_dir(), layout.own_dir()}) {
    IMAGECACHE_CHECK(base::make_directories(directory));
  }
  IMAGECACHE_TRY(auto policy, make_eviction_policy(options.eviction_policy, options.max_size_bytes));
  if (options.index_driver == "xattr") {
    IMAGECACHE_TRY(impl.index, open_xattr_index(layout.base));
  } else {
    IMAGECACHE_TRY(impl.index, open_sqlite_index(layout.base / options.sqlite_db, options.lock_path));
  }
  IMAGECACHE_TRY(impl.ledger, Ledger::open(layout.ledger()));
  IMAGECACHE_TRY(const auto pins, impl.ledger->pins());
  IMAGECACHE_TRY(const auto partial_keys, impl.ledger->partials());
  IMAGECACHE_TRY(auto found, take_inventory(*impl.index, layout.base));
  IMAGECACHE_TRY(const auto incomplete, files_in(layout.incomplete_dir()));
  IMAGECACHE_CHECK(impl.ledger->drop_verified(found.rows_without_file));

  {
    const std::lock_guard lock(impl.mutex);
    impl.entries.use(std::move(policy));
    for (const auto& id : pins) impl.entries.pin(id);
    impl.entries.load(std::move(found.rows));
    for (const auto& id : found.rows_without_file) impl.entries.remove_row(id);
    std::size_t adopted = 0;
    for (const auto& name : found.files_without_row) {
      struct stat status{};
      if (!base::is_uuid(name) || ::lstat(layout.file(name).c_str(), &status) != 0) continue;
      const auto mtime = static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) / 1e9;
      impl.entries.put(name,
                       {.size_bytes = static_cast<std::uint64_t>(status.st_size),
                        .last_accessed = mtime,
                        .last_modified = mtime,
                        .verified = {}},
                       false);
      ++adopted;
    }
    for (const auto& file : incomplete) {
      const auto key = partial_keys.find(file.name);
      if (key == partial_keys.end()) continue;  // another program's, or stale: clean() knows
      impl.partials[file.name] = {.content_key = key->second, .bytes = file.allocated_bytes};
      impl.entries.reserve(file.allocated_bytes);
    }
    base::log::info(
        "image_cache", nullptr,
        "{}: {} images, {}; {} rows without file dropped, {} files without row adopted, {} partial files kept",
        layout.base.native(), impl.entries.count(), base::format_bytes(impl.entries.bytes()),
        found.rows_without_file.size(), adopted, impl.partials.size());
  }
  if (impl.entries.count() <= looked_at_on_start) {
    impl.look_at_files();
  } else {
    impl.jobs.begin();
    const bool posted = impl.pool.post([&impl] {
      impl.look_at_files();
      impl.jobs.end();
    });
    if (!posted) impl.jobs.end();
  }
  IMAGECACHE_TRY(const std::uint64_t free, impl.free_bytes());
  Impl::Victims victims;
  Result<void> made;
  {
    const std::lock_guard lock(impl.mutex);
    made = impl.make_room("(start)", 0, free, victims);
    impl.update_gauges();
  }
  impl.remove_later(std::move(victims));
  return made;
}

void ImageCache::Impl::look_at_files() {
  constexpr std::size_t at_once = 1000;
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

}  // namespace imagecache::image_cache
