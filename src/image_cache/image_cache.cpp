// The calls that need no file of their own.

#include <algorithm>
#include <limits>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

ImageCache::ImageCache(Options options, origin::Origin& origin, base::BlockingPool& pool, base::BlockingPool& fill_pool,
                       base::BlockingPool& digest_pool, const base::Clock& clock, events::Counters& counters)
    : impl_(std::make_unique<Impl>(std::move(options), origin, pool, fill_pool, digest_pool, clock, counters)) {}

ImageCache::~ImageCache() = default;

base::Task<Result<Reader>> ImageCache::open(std::string image_id, base::RequestContext context) {
  IMAGECACHE_CO_TRY(Admission admission, co_await admit(std::move(image_id), context));
  co_return co_await impl_->open_described(std::move(admission.info), std::move(context),
                                           base::in(impl_->options.begin_timeout));
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

void ImageCache::doubt(const std::string& image_id) {
  Impl& impl = *impl_;
  {
    // The stamp of no file: it is verified before its next use, and the ledger is not asked.
    const std::lock_guard lock(impl.mutex);
    const Entry* entry = impl.entries.find(image_id);
    if (!entry) return;
    impl.entries.set_verified(
        image_id, Verified{.content_key = entry->verified ? entry->verified->content_key : "", .stamp = {}});
  }
  // So that the next start does not believe it either.
  const auto work = [&impl, image_id] {
    {
      const auto hold = impl.id_locks.hold(image_id);
      const bool doubted = [&] {
        const std::lock_guard lock(impl.mutex);
        const Entry* entry = impl.entries.find(image_id);
        return entry && entry->verified && entry->verified->stamp == Stamp();
      }();
      // Not where it has been verified since.
      if (doubted) static_cast<void>(impl.ledger->drop_verified(image_id));
    }
    impl.jobs.end();
  };
  impl.jobs.begin();
  if (impl.pool.post(work) || impl.digest_pool.post(work)) return;
  impl.jobs.end();
  base::log::warning("image_cache", nullptr, "image {}: too much work is waiting to write down that it is doubtful",
                     image_id);
}

std::vector<CachedImage> ImageCache::list() const {
  return list("", std::numeric_limits<std::size_t>::max());
}

std::vector<CachedImage> ImageCache::list(const std::string& marker, std::size_t limit) const {
  std::vector<CachedImage> page;
  const std::lock_guard lock(impl_->mutex);
  page.reserve(std::min(limit, impl_->entries.count()));
  impl_->entries.for_each_after(marker, limit, [&](const std::string& id, const Entry& entry) {
    page.push_back({.image_id = id,
                    .hits = entry.hits,
                    .last_accessed = entry.last_accessed,
                    .last_modified = entry.last_modified,
                    .size_bytes = entry.size_bytes,
                    .pinned = entry.pinned});
  });
  return page;
}

base::Task<Result<void>> ImageCache::pin(std::string image_id) {
  Impl& impl = *impl_;
  if (!base::is_safe_name(image_id))
    co_return fail(Errc::invalid_argument, "image '" + image_id + "': not an image id");
  auto work = [&]() -> Result<void> {
    // Written down first: what is said to be pinned is so after a crash too.
    IMAGECACHE_CHECK(impl.ledger->pin(image_id));
    const std::lock_guard lock(impl.mutex);
    impl.entries.pin(image_id);
    impl.update_gauges();
    return {};
  };
  co_return co_await base::offload(impl.pool, work);
}

base::Task<Result<void>> ImageCache::unpin(std::string image_id) {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<void> {
    IMAGECACHE_CHECK(impl.ledger->unpin(image_id));
    const std::lock_guard lock(impl.mutex);
    impl.entries.unpin(image_id);
    impl.update_gauges();
    return {};
  };
  co_return co_await base::offload(impl.pool, work);
}

std::vector<std::string> ImageCache::pinned() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.pinned();
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
  return impl_->is_cached(image_id);
}

bool ImageCache::is_whole(const std::string& image_id) const {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->entries.find(image_id)) return true;
  const auto fill = impl_->fills.find(image_id);
  if (fill == impl_->fills.end()) return false;
  const auto state = fill->second->state();
  return state == Fill::State::verified || state == Fill::State::published;
}

origin::Origin& ImageCache::origin() {
  return impl_->origin;
}

}  // namespace imagecache::image_cache
