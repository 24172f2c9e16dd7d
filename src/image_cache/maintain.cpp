// What an operator asks for: remove, prune, clean, flush.

#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

base::Task<Result<Removed>> ImageCache::remove(std::string image_id) {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<Removed> {
    Removed removed;
    if (!base::is_safe_name(image_id)) return removed;
    impl.admissions.forget(image_id);
    std::shared_ptr<Fill> running;
    {
      const std::lock_guard lock(impl.mutex);
      if (const Entry* entry = impl.entries.find(image_id)) removed = {.files = 1, .bytes = entry->size_bytes};
      impl.entries.erase(image_id);
      if (const auto fill = impl.fills.find(image_id); fill != impl.fills.end()) running = fill->second;
      if (const auto partial = impl.partials.find(image_id); partial != impl.partials.end()) {
        impl.entries.release(partial->second.bytes);
        impl.partials.erase(partial);
      }
      impl.update_gauges();
    }
    if (removed.files > 0 || !running) impl.remove_files({image_id}, false);
    IMAGECACHE_CHECK(impl.flush_now());
    return removed;
  };
  co_return co_await base::offload(impl.pool, work);
}

base::Task<Result<Removed>> ImageCache::remove_all() {
  Removed total;
  for (const auto& image : list()) {
    IMAGECACHE_CO_TRY(const Removed one, co_await remove(image.image_id));
    total.files += one.files;
    total.bytes += one.bytes;
  }
  co_return total;
}

base::Task<Result<Removed>> ImageCache::prune() {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<Removed> {
    std::vector<std::string> victims;
    Removed removed;
    {
      const std::lock_guard lock(impl.mutex);
      const std::uint64_t before = impl.entries.bytes();
      IMAGECACHE_TRY(victims, impl.make_room("(prune)", 0));
      removed = {.files = victims.size(), .bytes = before - impl.entries.bytes()};
      impl.update_gauges();
    }
    impl.remove_files(victims, true);
    IMAGECACHE_CHECK(impl.flush_now());
    return removed;
  };
  co_return co_await base::offload(impl.pool, work);
}

Result<Removed> ImageCache::Impl::clean_now() {
  Removed removed;
  IMAGECACHE_TRY(const auto invalid, files_in(layout.invalid_dir()));
  for (const auto& file : invalid) {
    IMAGECACHE_CHECK(base::remove_file(layout.invalid(file.name)));
    ++removed.files;
    removed.bytes += file.bytes;
  }
  IMAGECACHE_TRY(const auto incomplete, files_in(layout.incomplete_dir()));
  for (const auto& file : incomplete) {
    if (now() - file.mtime < static_cast<double>(options.stall_time.count())) continue;
    {
      const std::lock_guard lock(mutex);
      if (fills.contains(file.name)) continue;
      if (const auto partial = partials.find(file.name); partial != partials.end()) {
        entries.release(partial->second.bytes);
        partials.erase(partial);
      }
    }
    IMAGECACHE_CHECK(base::remove_file(layout.incomplete(file.name)));
    static_cast<void>(ledger->drop_partial(file.name));
    ++removed.files;
    removed.bytes += file.bytes;
  }
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
