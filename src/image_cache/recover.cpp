// What an earlier process, ours or glance-api, left in the directory.

#include <map>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Result<void> ImageCache::recover() {
  Impl& impl = *impl_;
  const Layout& layout = impl.layout;
  for (const auto& directory :
       {layout.base, layout.incomplete_dir(), layout.invalid_dir(), layout.queue_dir(), layout.own_dir()}) {
    IMAGECACHE_CHECK(base::make_directories(directory));
  }
  if (impl.options.index_driver == "xattr") {
    IMAGECACHE_TRY(impl.index, open_xattr_index(layout.base));
  } else {
    IMAGECACHE_TRY(impl.index, open_sqlite_index(layout.base / impl.options.sqlite_db, impl.options.lock_path));
  }
  IMAGECACHE_TRY(impl.ledger, Ledger::open(layout.ledger()));
  IMAGECACHE_TRY(const auto rows, impl.index->rows());
  IMAGECACHE_TRY(auto verified, impl.ledger->verified());
  IMAGECACHE_TRY(const auto partial_keys, impl.ledger->partials());
  IMAGECACHE_TRY(const auto files, files_in(layout.base));
  IMAGECACHE_TRY(const auto incomplete, files_in(layout.incomplete_dir()));

  const std::lock_guard lock(impl.mutex);
  std::map<std::string, const FoundFile*> by_name;
  for (const auto& file : files) by_name[file.name] = &file;
  std::size_t dropped = 0;
  std::size_t adopted = 0;
  const auto add = [&](const std::string& id, const FoundFile& file, Entry entry, bool has_row) {
    entry.size_bytes = file.bytes;
    if (const auto known = verified.find(id); known != verified.end()) entry.verified = known->second;
    impl.entries.put(id, std::move(entry), has_row);
    by_name.erase(id);
  };
  for (const auto& row : rows) {
    const auto file = by_name.find(row.image_id);
    if (file == by_name.end()) {
      // put() and erase() leave behind just the removal of the row.
      impl.entries.put(row.image_id, {}, true);
      impl.entries.erase(row.image_id);
      ++dropped;
      continue;
    }
    add(row.image_id, *file->second,
        {.hits = row.hits, .last_accessed = row.last_accessed, .last_modified = row.last_modified, .verified = {}},
        true);
  }
  const auto left = by_name;
  for (const auto& [name, file] : left) {
    if (!base::is_uuid(name)) continue;
    add(name, *file, {.last_accessed = file->mtime, .last_modified = file->mtime, .verified = {}}, false);
    ++adopted;
  }
  for (const auto& file : incomplete) {
    const auto key = partial_keys.find(file.name);
    if (key == partial_keys.end()) continue;  // another program's, or stale: clean() knows
    impl.partials[file.name] = {.content_key = key->second, .bytes = file.allocated_bytes};
    impl.entries.reserve(file.allocated_bytes);
  }
  impl.update_gauges();
  base::log::info(
      "image_cache", nullptr,
      "{}: {} images, {}; {} rows without file dropped, {} files without row adopted, {} partial files kept",
      layout.base.native(), impl.entries.count(), base::format_bytes(impl.entries.bytes()), dropped, adopted,
      impl.partials.size());
  IMAGECACHE_TRY(auto victims, impl.make_room("(start)", 0));
  impl.remove_later(std::move(victims));
  return {};
}

}  // namespace imagecache::image_cache
