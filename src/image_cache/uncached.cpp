// An image that is wanted once and cannot be kept.

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

Result<base::Fd> open_nameless(const std::string& directory) {
  auto file = base::open_file(directory, O_TMPFILE | O_RDWR, 0600);
  if (file || file.error().code != Errc::unsupported) return file;
  // A file system without O_TMPFILE (NFS): a name that is gone again at once.
  const std::string path = directory + "/image-" + base::new_uuid();
  file = base::open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file) IMAGECACHE_CHECK(base::remove_file(path));
  return file;
}

}  // namespace

base::Task<Result<base::Fd>> ImageCache::fetch_uncached(origin::ImageInfo info, base::RequestContext context,
                                                        std::string directory, std::stop_token stop) {
  Impl& impl = *impl_;
  auto work = [&]() -> Result<base::Fd> {
    IMAGECACHE_TRY(base::Fd file, open_nameless(directory));
    const std::uint64_t size = info.size_bytes.value_or(0);
    // Without a size there is no bound to hold the origin to.
    if (size == 0) return fail(Errc::unsupported, "image " + info.id + ": the origin does not say its size");
    if (::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size)) != 0 && errno == ENOSPC) {
      return fail(Errc::no_space, fmt::format("image {}: its {} fit neither into the image cache nor into {}", info.id,
                                              base::format_bytes(size), directory));
    }
    std::uint64_t at = 0;
    const auto begin = [&](const origin::StreamStart& start) -> Result<void> {
      at = start.offset_bytes;
      return {};
    };
    const auto append = [&](std::span<const std::byte> data) -> Result<void> {
      impl.counters.fill_bytes.fetch_add(data.size(), std::memory_order_relaxed);
      if (data.size() > size - at) {
        return fail(Errc::corrupt, fmt::format("image {}: the origin sends more than its {} bytes", info.id, size));
      }
      IMAGECACHE_CHECK(base::write_all_at(file.get(), data, at, directory));
      at += data.size();
      return {};
    };
    for (unsigned attempt = 1;; ++attempt) {
      if (!has_digest(info)) at = 0;  // pieces of two answers may be of two versions, and nothing would tell
      auto received = impl.origin.stream(info.id, at, context, begin, append, stop);
      if (received) break;
      const bool again = received.error().code == Errc::unavailable && attempt < impl.options.fill_attempts;
      if (!again) return std::unexpected(std::move(received).error());
      base::log::warning("image_cache", &context, "{}; going on at byte {}", received.error().message, at);
    }
    // Without a digest only the length can be held against what came, and all of it came in one go or by its version.
    IMAGECACHE_TRY(const bool right, has_digest(info) ? content_is_right(file.get(), info) : Result<bool>(at == size));
    if (!right) return fail(Errc::corrupt, "image " + info.id + ": what came is not what the origin says it is");
    return file;
  };
  co_return co_await base::offload(impl.fill_pool, work);
}

}  // namespace imagecache::image_cache
