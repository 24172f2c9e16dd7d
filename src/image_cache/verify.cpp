// Is this the image's content? Asked of every file that may not be the one that was published.

#include <fcntl.h>
#include <sys/stat.h>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

bool has_digest(const origin::ImageInfo& info) {
  return !info.checksum.empty() || (!info.os_hash_value.empty() && base::Digest::of(info.os_hash_algo).has_value());
}

Result<bool> content_is_right(int fd, const origin::ImageInfo& info, const std::stop_token& stop) {
  IMAGECACHE_TRY(const struct stat status, base::stat_fd(fd, info.id));
  if (info.size_bytes && static_cast<std::uint64_t>(status.st_size) != *info.size_bytes) return false;
  std::string algorithm = info.os_hash_algo;
  std::string expected = info.os_hash_value;
  if (algorithm.empty() || expected.empty() || !base::Digest::of(algorithm)) {
    algorithm = "md5";
    expected = info.checksum;
  }
  // Nothing tells whether it is the image's: then it is not, and is fetched again.
  if (expected.empty()) return false;
  IMAGECACHE_TRY(base::Digest digest, base::Digest::of(algorithm));
  std::vector<std::byte> chunk(1 << 20);
  for (std::uint64_t offset = 0;;) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "image " + info.id + ": its verification was stopped");
    IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, chunk, offset, info.id));
    if (n == 0) break;
    digest.update(std::span(chunk).first(n));
    offset += n;
  }
  return digest.hex() == base::to_lower(expected);
}

base::Task<Result<void>> ImageCache::Impl::verify(origin::ImageInfo info, base::Deadline deadline) {
  std::shared_ptr<Verification> verification;
  bool first = false;
  {
    const std::lock_guard lock(mutex);
    if (stopping) co_return fail(Errc::unavailable, "the image cache is stopping");
    auto& running = verifying[info.id];
    first = !running;
    if (first) running = std::make_shared<Verification>();
    verification = running;
  }
  if (first) {
    const auto end = [this, id = info.id, verification] {
      {
        const std::lock_guard lock(mutex);
        verifying.erase(id);
      }
      verification->ended.notify();
    };
    jobs.begin();
    const auto work = [this, info, end] {
      verify_now(info);
      end();
      jobs.end();
    };
    if (!digest_pool.post(work)) {
      jobs.end();
      end();
      co_return fail(Errc::busy, "image " + info.id + ": too much work is waiting, try again later");
    }
  }
  if (!co_await verification->ended.wait_past(0, deadline)) {
    co_return fail(Errc::timeout, "image " + info.id + ": its file could not be verified in time");
  }
  co_return Result<void>();
}

void ImageCache::Impl::verify_now(const origin::ImageInfo& info) {
  const std::string& id = info.id;
  const auto file = base::open_file(layout.file(id), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return;
  const auto before = base::stat_fd(file->get(), id);
  if (!before || !S_ISREG(before->st_mode)) return;
  const auto right = content_is_right(file->get(), info, stop_source.get_token());
  if (!right && right.error().code == Errc::cancelled) return;  // that says nothing of the file
  step("verify.digested", id);
  const auto after = base::stat_fd(file->get(), id);
  if (!after) return;
  const Stamp stamp = stamp_of(*after);
  if (!right) return invalidate(id, *after, Left::invalid, "it cannot be read (" + right.error().message + ")");
  // Somebody is writing it, and what was read is of no time: it is looked at again.
  if (!(stamp == stamp_of(*before))) return;
  if (!*right) return invalidate(id, *after, Left::invalid, "its content is not the image's");

  const Verified verified{.content_key = info.content_key(), .stamp = stamp};
  Victims victims;
  const auto free = free_bytes();
  if (!free) return base::log::warning("image_cache", nullptr, "{}", free.error().message);
  Result<void> room;
  {
    const auto hold = id_locks.hold(id);
    struct stat there{};
    if (::lstat(layout.file(id).c_str(), &there) != 0 || !(stamp_of(there) == stamp)) return;
    {
      const std::lock_guard lock(mutex);
      // A fill that runs puts another file in its place.
      if (fills.contains(id)) return;
      if (!entries.find(id)) {
        // Nobody has counted it yet: it stays if there is room for it, as any other. While the load runs it is one of
        // those that are there.
        if (load_state == Load::done) room = make_room(id, stamp.size_bytes, *free, victims);
        if (room) {
          entries.put(id, {.size_bytes = stamp.size_bytes, .last_accessed = now(), .last_modified = now()}, false);
        }
      }
      if (room) {
        entries.set_size(id, stamp.size_bytes);
        entries.set_verified(id, verified);
      }
      update_gauges();
    }
    // Everybody waits for the mutex; for this image's files, only who moves them.
    step("verify.record", id);
    static_cast<void>(room ? ledger->put_verified(id, verified) : base::remove_file(layout.file(id)));
  }
  if (auto gone = remove_files(victims); !gone) base::log::warning("image_cache", nullptr, "{}", gone.error().message);
  if (room) {
    base::log::info("image_cache", nullptr, "image {}: the file in the cache was verified anew", id);
  } else {
    base::log::warning("image_cache", nullptr, "{}; the file that was found for it is removed", room.error().message);
  }
}

}  // namespace imagecache::image_cache
