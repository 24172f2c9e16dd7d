// A start: what must be right before anybody is answered, and who reads the rest.

#include "base/log.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Result<void> ImageCache::Impl::prepare() {
  for (const auto& directory :
       {layout.base, layout.incomplete_dir(), layout.invalid_dir(), layout.queue_dir(), layout.own_dir()}) {
    IMAGECACHE_CHECK(base::make_directories(directory));
  }
  IMAGECACHE_CHECK(make_eviction_policy(options.eviction_policy, options.max_size_bytes));
  if (options.index_driver == "xattr") {
    IMAGECACHE_TRY(index, open_xattr_index(layout.base));
  } else {
    IMAGECACHE_TRY(index, open_sqlite_index(layout.base / options.sqlite_db, options.lock_path));
  }
  IMAGECACHE_TRY(ledger, Ledger::open(layout.ledger()));
  IMAGECACHE_TRY(const auto pins, ledger->pins());
  IMAGECACHE_TRY(const auto partial_keys, ledger->partials());
  IMAGECACHE_TRY(const auto incomplete, files_in(layout.incomplete_dir()));
  IMAGECACHE_TRY(const auto broken, files_in(layout.invalid_dir()));
  IMAGECACHE_CHECK(find_held());
  const std::lock_guard lock(mutex);
  for (const auto& file : broken) count_invalid(file.name, file.allocated_bytes);
  for (const auto& id : pins) entries.pin(id);
  for (const auto& file : incomplete) {
    const auto key = partial_keys.find(file.name);
    if (key == partial_keys.end()) continue;  // another program's, or stale: clean() knows
    partials[file.name] = {.content_key = key->second, .bytes = file.allocated_bytes};
    entries.reserve(file.allocated_bytes);
  }
  counters.image_cache_loading = 1;
  return {};
}

Result<void> ImageCache::recover() {
  IMAGECACHE_CHECK(impl_->prepare());
  IMAGECACHE_CHECK(impl_->load());
  impl_->look_at_files();
  impl_->end_load(Impl::Load::done);
  return {};
}

Result<void> ImageCache::recover_in_background(base::BlockingPool& load_pool) {
  IMAGECACHE_CHECK(impl_->prepare());
  impl_->jobs.begin();
  const auto work = [this] {
    impl_->load_in_background();
    impl_->jobs.end();
  };
  if (load_pool.post(work)) return {};
  impl_->jobs.end();
  return fail(Errc::busy, load_pool.name() + ": too much work is waiting to begin reading the image cache");
}

}  // namespace imagecache::image_cache
