// What happens beside the requests: start, flush, clean, prune, queue, stop.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

namespace fs = std::filesystem;

struct FoundFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t allocated_bytes = 0;  // never less than bytes
  double mtime = 0;
};

/// Regular files directly in a directory.
Result<std::vector<FoundFile>> files_in(const fs::path& directory) {
  std::vector<FoundFile> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    struct stat status{};
    if (::lstat(it->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    found.push_back(
        {.name = it->path().filename().native(),
         .bytes = static_cast<std::uint64_t>(status.st_size),
         .allocated_bytes = static_cast<std::uint64_t>(std::max(status.st_size, status.st_blocks * 512)),
         .mtime = static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) / 1e9});
  }
  if (error) return fail(Errc::internal, directory.native() + ": " + error.message());
  return found;
}

}  // namespace

ImageCache::ImageCache(Options options, origin::Origin& origin, base::BlockingPool& pool, base::BlockingPool& fill_pool,
                       base::BlockingPool& digest_pool, const base::Clock& clock, events::Counters& counters)
    : impl_(std::make_unique<Impl>(std::move(options), origin, pool, fill_pool, digest_pool, clock, counters)) {}

ImageCache::~ImageCache() = default;

Result<void> ImageCache::recover() {
  Impl& impl = *impl_;
  const Layout& layout = impl.layout;
  for (const auto& directory :
       {layout.base, layout.incomplete_dir(), layout.invalid_dir(), layout.queue_dir(), layout.own_dir()}) {
    IMAGECACHE_CHECK(base::make_directories(directory));
  }
  IMAGECACHE_TRY(impl.index, GlanceIndex::open(layout.base / impl.options.sqlite_db));
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

void ImageCache::start(const base::Executor& executor) {
  impl_->executor = executor;
  impl_->background.spawn(executor, impl_->flush_loop());
  impl_->background.spawn(executor, impl_->clean_loop());
  for (const auto& id : queued()) impl_->background.spawn(executor, impl_->prefetch(id, base::internal_context()));
}

base::Task<Result<origin::ImageInfo>> ImageCache::describe(std::string image_id, base::RequestContext context) {
  Impl& impl = *impl_;
  impl.counters.origin_describes.fetch_add(1, std::memory_order_relaxed);
  auto ask = [&] { return impl.origin.describe(image_id, context); };
  co_return co_await base::offload(impl.pool, ask);
}

base::Task<Result<Reader>> ImageCache::open(std::string image_id, base::RequestContext context) {
  IMAGECACHE_CO_TRY(origin::ImageInfo info, co_await describe(std::move(image_id), context));
  co_return co_await impl_->open_described(std::move(info), std::move(context), base::in(impl_->options.begin_timeout));
}

base::Task<Result<Reader>> ImageCache::open_described(origin::ImageInfo info, base::RequestContext context) {
  co_return co_await impl_->open_described(std::move(info), std::move(context), base::in(impl_->options.begin_timeout));
}

base::Task<Result<Reader>> ImageCache::fetch(origin::ImageInfo info, base::RequestContext context,
                                             base::Deadline deadline) {
  IMAGECACHE_CO_TRY(Reader reader, co_await impl_->open_described(std::move(info), std::move(context), deadline));
  const std::uint64_t size = reader.size_bytes().value_or(0);
  IMAGECACHE_CO_TRY(std::uint64_t available, co_await reader.wait_available(0, deadline));
  while (available < size) {
    IMAGECACHE_CO_TRY(available, co_await reader.wait_available(available, deadline));
  }
  if (reader.outcome() == Outcome::hit) touch(reader.info().id);
  co_return reader;
}

void ImageCache::touch(const std::string& image_id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->entries.touch(image_id, impl_->now());
}

std::vector<CachedImage> ImageCache::list() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<CachedImage> all;
  for (const auto& id : impl_->entries.ids()) {
    const Entry& entry = *impl_->entries.find(id);
    all.push_back({.image_id = id,
                   .hits = entry.hits,
                   .last_accessed = entry.last_accessed,
                   .last_modified = entry.last_modified,
                   .size_bytes = entry.size_bytes});
  }
  return all;
}

std::vector<FillProgress> ImageCache::fills() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<FillProgress> all;
  for (const auto& [id, fill] : impl_->fills) {
    all.push_back({.image_id = id, .done_bytes = fill->written_bytes(), .total_bytes = fill->size_bytes()});
  }
  return all;
}

std::uint64_t ImageCache::size_bytes() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.bytes();
}

bool ImageCache::is_cached(const std::string& image_id) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.find(image_id) != nullptr;
}

base::Task<Result<void>> ImageCache::Impl::fetch_without_reader(std::string image_id, base::RequestContext context) {
  counters.origin_describes.fetch_add(1, std::memory_order_relaxed);
  auto ask = [&] { return origin.describe(image_id, context); };
  IMAGECACHE_CO_TRY(origin::ImageInfo info, co_await base::offload(pool, ask));
  IMAGECACHE_CO_TRY(Reader reader, co_await open_described(std::move(info), context, base::never));
  IMAGECACHE_CO_TRY(std::uint64_t available, co_await reader.wait_available(0, base::never));
  while (available < reader.size_bytes().value_or(0)) {
    IMAGECACHE_CO_TRY(available, co_await reader.wait_available(available, base::never));
  }
  co_return Result<void>();
}

base::Task<void> ImageCache::Impl::prefetch(std::string image_id, base::RequestContext context) {
  const auto done = co_await fetch_without_reader(image_id, context);
  if (!done) base::log::warning("image_cache", &context, "image {}: prefetch: {}", image_id, done.error().message);
  // A failure that asking again will not mend takes the marker along; others leave it for the next start.
  const bool over = done || done.error().code == Errc::not_found || done.error().code == Errc::no_space ||
                    done.error().code == Errc::corrupt || done.error().code == Errc::unsupported;
  if (over) {
    auto remove = [&] { return base::remove_file(layout.queue(image_id)); };
    static_cast<void>(co_await base::offload(pool, remove));
  }
}

base::Task<Result<void>> ImageCache::queue(std::string image_id, base::RequestContext context) {
  Impl& impl = *impl_;
  if (!base::is_safe_name(image_id))
    co_return fail(Errc::invalid_argument, "image '" + image_id + "': not an image id");
  if (is_cached(image_id)) co_return Result<void>();
  auto mark = [&] { return base::write_file_atomically(impl.layout.queue(image_id), ""); };
  IMAGECACHE_CO_CHECK(co_await base::offload(impl.pool, mark));
  impl.background.spawn(co_await base::asio::this_coro::executor, impl.prefetch(image_id, std::move(context)));
  co_return Result<void>();
}

std::vector<std::string> ImageCache::queued() const {
  auto files = files_in(impl_->layout.queue_dir()).value_or(std::vector<FoundFile>());
  std::ranges::sort(files, [](const FoundFile& a, const FoundFile& b) {
    return std::tie(a.mtime, a.name) < std::tie(b.mtime, b.name);
  });
  std::vector<std::string> ids;
  for (auto& file : files) {
    if (base::is_safe_name(file.name)) ids.push_back(std::move(file.name));
  }
  return ids;
}

base::Task<Result<Removed>> ImageCache::remove(std::string image_id) {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<Removed> {
    Removed removed;
    if (!base::is_safe_name(image_id)) return removed;
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

base::Task<Result<void>> ImageCache::unqueue(std::string image_id) {
  if (!base::is_safe_name(image_id)) co_return Result<void>();
  auto work = [&] { return base::remove_file(impl_->layout.queue(image_id)); };
  co_return co_await base::offload(impl_->pool, work);
}

base::Task<Result<Removed>> ImageCache::unqueue_all() {
  Removed removed;
  for (const auto& id : queued()) {
    IMAGECACHE_CO_CHECK(co_await unqueue(id));
    ++removed.files;
  }
  co_return removed;
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
  }
  return written;
}

base::Task<Result<void>> ImageCache::flush() {
  auto work = [this] { return impl_->flush_now(); };
  co_return co_await base::offload(impl_->pool, work);
}

base::Task<void> ImageCache::Impl::flush_loop() {
  for (;;) {
    const auto seen = stop_signal.version();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return;
    }
    co_await stop_signal.wait_past(seen, base::in(options.flush_interval));
    auto work = [this] { return flush_now(); };
    const auto written = co_await base::offload(pool, work);
    if (!written) base::log::warning("image_cache", nullptr, "{}", written.error().message);
  }
}

base::Task<void> ImageCache::Impl::clean_loop() {
  for (;;) {
    const auto seen = stop_signal.version();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return;
    }
    if (co_await stop_signal.wait_past(seen, base::in(options.clean_interval))) continue;
    auto work = [this] { return clean_now(); };
    const auto cleaned = co_await base::offload(pool, work);
    if (!cleaned) base::log::warning("image_cache", nullptr, "{}", cleaned.error().message);
  }
}

void ImageCache::end_fills() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stopping = true;
  for (auto& [id, fill] : impl_->fills) fill->request_stop();
}

base::Task<void> ImageCache::stop(base::Deadline deadline) {
  Impl& impl = *impl_;
  end_fills();
  impl.stop_signal.notify();
  for (;;) {
    const auto seen = impl.fills_changed.version();
    {
      const std::lock_guard lock(impl.mutex);
      if (impl.fills.empty()) break;
    }
    if (!co_await impl.fills_changed.wait_past(seen, deadline)) break;
  }
  co_await impl.background.join(deadline);
  if (auto written = co_await flush(); !written) {
    base::log::error("image_cache", nullptr, "{}", written.error().message);
  }
}

}  // namespace imagecache::image_cache
