// What an operator asks for: remove, prune, clean, flush.

#include <cmath>

#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

base::Task<Result<Removed>> ImageCache::remove(std::string image_id) {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<Removed> {
    if (!base::is_safe_name(image_id) || image_id == impl.options.sqlite_db) return Removed();
    const auto removed = impl.remove_now(image_id, Impl::Left::deleted);
    IMAGECACHE_CHECK(impl.flush_now());
    return removed;
  };
  co_return co_await base::offload(impl.pool, work);
}

base::Task<Result<Removed>> ImageCache::remove_all() {
  Impl& impl = *impl_;
  IMAGECACHE_CO_CHECK(co_await wait_loaded());
  auto work = [&]() -> Result<Removed> {
    std::vector<std::string> ids;
    {
      const std::lock_guard lock(impl.mutex);
      ids = impl.entries.ids();
    }
    Removed total;
    Result<void> all;
    for (const auto& id : ids) {
      const auto one = impl.remove_now(id, Impl::Left::clear);
      if (!one && all) all = std::unexpected(one.error());
      if (!one) continue;
      total.files += one->files;
      total.bytes += one->bytes;
    }
    IMAGECACHE_CHECK(impl.flush_now());
    IMAGECACHE_CHECK(all);
    return total;
  };
  co_return co_await base::offload(impl.pool, work);
}

base::Task<Result<Removed>> ImageCache::prune() {
  Impl& impl = *impl_;
  IMAGECACHE_CO_CHECK(co_await wait_loaded());
  auto work = [&]() -> Result<Removed> {
    IMAGECACHE_TRY(const std::uint64_t free, impl.free_bytes());
    Impl::Victims victims;
    Removed removed;
    Result<void> made;
    {
      const std::lock_guard lock(impl.mutex);
      const std::uint64_t before = impl.entries.bytes();
      made = impl.make_room("(prune)", 0, free, victims);
      removed = {.files = victims.files.size(), .bytes = before - impl.entries.bytes()};
      impl.update_gauges();
    }
    IMAGECACHE_CHECK(impl.remove_files(victims));
    IMAGECACHE_CHECK(made);
    IMAGECACHE_CHECK(impl.flush_now());
    return removed;
  };
  co_return co_await base::offload(impl.pool, work);
}

Result<Removed> ImageCache::Impl::clean_now() {
  Removed removed;
  Result<void> all;  // what cannot be removed keeps nothing else from it
  {
    const std::lock_guard lock(mutex);
    unremovable.clear();
  }
  IMAGECACHE_TRY(const auto broken, files_in(layout.invalid_dir()));
  for (const auto& file : broken) {
    {
      const auto hold = id_locks.hold(file.name);
      if (auto gone = base::remove_file(layout.invalid(file.name)); !gone) {
        all = std::move(gone);
        continue;
      }
      const std::lock_guard lock(mutex);
      count_invalid(file.name, 0);
      update_gauges();
    }
    ++removed.files;
    removed.bytes += file.bytes;
  }
  IMAGECACHE_TRY(const auto incomplete, files_in(layout.incomplete_dir()));
  for (const auto& file : incomplete) {
    // One from the future is of a clock that was wrong.
    if (std::abs(now() - file.mtime) < static_cast<double>(options.stall_time.count())) continue;
    const auto hold = id_locks.hold(file.name);
    {
      const std::lock_guard lock(mutex);
      if (fills.contains(file.name)) continue;
      if (const auto partial = partials.find(file.name); partial != partials.end()) {
        entries.release(partial->second.bytes);
        partials.erase(partial);
        update_gauges();
      }
    }
    step("clean.chosen", file.name);
    if (auto gone = base::remove_file(layout.incomplete(file.name)); !gone) {
      all = std::move(gone);
      continue;
    }
    static_cast<void>(ledger->drop_partial(file.name));
    ++removed.files;
    removed.bytes += file.bytes;
  }
  IMAGECACHE_CHECK(all);
  return removed;
}

base::Task<Result<Removed>> ImageCache::clean() {
  auto work = [this] { return impl_->clean_now(); };
  co_return co_await base::offload(impl_->pool, work);
}

Result<void> ImageCache::Impl::flush_now() {
  const std::lock_guard one_at_a_time(flush_mutex);
  Changes changes;
  {
    const std::lock_guard lock(mutex);
    if (load_state == Load::running) return {};
    changes = entries.take_changes();
  }
  if (changes.empty()) return {};
  auto written = index->apply(changes.puts, changes.removals, changes.hits);
  if (!written) {
    const std::lock_guard lock(mutex);
    entries.put_back(std::move(changes));
    if (written.error().code == Errc::corrupt) entries.put_all_again();
    return std::unexpected(std::move(written).error());
  }
  if (written->empty()) return {};
  {
    const std::lock_guard lock(mutex);
    for (const auto& moved : *written) entries.restamp(moved);
  }
  return ledger->restamp(*written);
}

base::Task<Result<void>> ImageCache::flush() {
  auto work = [this] { return impl_->flush_now(); };
  co_return co_await base::offload(impl_->pool, work);
}

}  // namespace imagecache::image_cache
