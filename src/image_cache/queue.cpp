// Images that are fetched without a reader.

#include <algorithm>
#include <tuple>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

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

}  // namespace imagecache::image_cache
