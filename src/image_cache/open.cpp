// From a question for an image to a Reader: hit, collapsed, or a new fill.

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

// A file that is never the same twice is somebody else's business.
constexpr unsigned most_looks = 5;

/// "sha512" of "sha512:<hex>"; empty for a key that names no digest.
std::string_view algorithm_of(std::string_view content_key) {
  const auto colon = content_key.find(':');
  if (colon == std::string_view::npos || content_key.contains('@')) return {};
  return content_key.substr(0, colon);
}

}  // namespace

OpenFile ImageCache::Impl::hot_file(const origin::ImageInfo& info) {
  Stamp stamp;
  OpenFile file;
  {
    const std::lock_guard lock(mutex);
    const Entry* entry = entries.find(info.id);
    if (!entry || !entry->verified || fills.contains(info.id)) return {};
    if (entry->verified->content_key != info.content_key()) return {};
    stamp = entry->verified->stamp;
    file = entries.open_file(info.id);
  }
  const bool was_open = file != nullptr;
  if (!was_open) {
    const auto path = layout.file(info.id);
    open_how how{};
    how.flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    how.resolve = RESOLVE_CACHED;  // Linux 5.12; an older one, or a name that is not in memory, is an error
    file = std::make_shared<const base::Fd>(
        static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
  }
  // Of a file that was left open too: unlinked or written to since, it has another time of change.
  struct stat status{};
  if (!*file || ::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode) || !(stamp_of(status) == stamp))
    return {};
  if (!was_open) {
    const std::lock_guard lock(mutex);
    entries.keep_open(info.id, stamp, file);
  }
  return file;
}

Result<ImageCache::Impl::Look> ImageCache::Impl::look_at_file(const origin::ImageInfo& info) {
  const std::string& id = info.id;
  const std::string key = info.content_key();
  std::optional<Verified> verified;
  bool known = false;
  const auto look_up = [&] {
    const std::lock_guard lock(mutex);
    const Entry* entry = entries.find(id);
    known = entry != nullptr;
    if (known) verified = entry->verified;
    return !fills.contains(id);
  };
  meet(id);
  if (!look_up()) return Look();
  if (!known && !base::is_uuid(id)) return Look();

  const auto path = layout.file(id);
  base::Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file) {
    const int problem = errno;
    if (problem == EMFILE || problem == ENFILE || problem == ENOMEM) {
      return fail(Errc::busy, base::fail_errno(path.native(), problem).error().message);
    }
    if (!known) return Look();
    const auto hold = id_locks.hold(id);
    struct stat there{};
    // Not there when it was looked for, and there now: published in between.
    if (problem == ENOENT && ::lstat(path.c_str(), &there) == 0) return Look{.file = {}, .doubtful = true};
    forget_entry(id, base::fail_errno(path.native(), problem).error().message);
    return Look();
  }
  IMAGECACHE_TRY(const struct stat status, base::stat_fd(file.get(), id));
  if (!S_ISREG(status.st_mode)) {
    invalidate(id, status, Left::invalid, "what stands in its place is no file");
    return Look();
  }
  const Stamp stamp = stamp_of(status);
  if (known && !(verified && verified->stamp == stamp)) {
    // Our own writing of attributes moves a file's ctime: a flush that is under way knows the new one.
    {
      const std::lock_guard wait_for_flush(flush_mutex);
    }
    if (!look_up()) return Look();
  }
  if (known && !verified) {
    // At a start the ledger is not read: most of what is stored is not asked for.
    if (auto row = ledger->find_verified(id); row && *row && (*row)->stamp == stamp) {
      verified = **row;
      const std::lock_guard lock(mutex);
      if (const Entry* entry = entries.find(id); entry && !entry->verified) {
        entries.set_verified(id, verified);
        entries.set_size(id, stamp.size_bytes);
      }
    }
  }
  if (!verified || verified->stamp != stamp) return Look{.file = {}, .doubtful = true};
  if (verified->content_key == key)
    return Look{.file = std::make_shared<const base::Fd>(std::move(file)), .doubtful = false};
  if (!algorithm_of(key).empty() && algorithm_of(key) == algorithm_of(verified->content_key)) {
    invalidate(id, status, Left::content_changed, "the image has other content now");
    return Look();
  }
  // Told apart by a time of change only, which an edited property moves as well.
  return Look{.file = {}, .doubtful = true};
}

base::Task<Result<Reader>> ImageCache::Impl::open_described(origin::ImageInfo described, base::RequestContext context,
                                                            base::Deadline deadline) {
  auto state = std::make_unique<Reader::State>();
  state->info = std::move(described);
  const origin::ImageInfo& info = state->info;
  if (!base::is_safe_name(info.id) || info.id == options.sqlite_db) {
    co_return fail(Errc::invalid_argument, "image '" + info.id + "': not an id that can be cached");
  }
  if (info.status != "active") co_return fail(Errc::conflict, "image " + info.id + ": its status is " + info.status);
  if (info.size_bytes.value_or(0) == 0) {
    co_return fail(Errc::unsupported, "image " + info.id + ": the origin does not say its size");
  }
  state->size_bytes = *info.size_bytes;
  // Again where something happened between two looks: a fill ended, a file was verified.
  for (unsigned looks = 0; !state->fill; ++looks) {
    if (looks == most_looks) {
      co_return fail(Errc::conflict, "image " + info.id + ": its file in the cache changes all the time");
    }
    IMAGECACHE_CO_TRY(std::shared_ptr<Fill> running, running_fill(info, context));
    if (running) {
      state->fill = Following(std::move(running));
      state->outcome = Outcome::collapsed;
      break;
    }
    if (OpenFile hot = looks == 0 ? hot_file(info) : nullptr) {
      state->outcome = Outcome::hit;
      state->file = std::move(hot);
      co_return Reader(std::move(state));
    }
    auto look = [&] { return look_at_file(info); };
    IMAGECACHE_CO_TRY(Look found, co_await base::offload(pool, look));
    if (found.file) {
      state->outcome = Outcome::hit;
      state->file = std::move(found.file);
      co_return Reader(std::move(state));
    }
    if (found.doubtful) {
      IMAGECACHE_CO_CHECK(co_await verify(info, deadline));
      continue;
    }
    if (!is_loaded()) {
      // Nobody knows yet whether there is room for it.
      auto known = co_await loaded(std::min(deadline, base::in(options.load_wait)));
      if (!known && known.error().code == Errc::busy) known.error().code = Errc::no_space;
      IMAGECACHE_CO_CHECK(known);
      continue;
    }
    auto join = [&] { return join_or_start_fill(info, context, Whose::reader); };
    IMAGECACHE_CO_TRY(Joined joined, co_await base::offload(pool, join));
    state->fill = std::move(joined.following);
    state->outcome = joined.was_running ? Outcome::collapsed : Outcome::miss;
  }
  // Until the origin's answer is known there is still a way to tell the client properly.
  Fill& fill = *state->fill;
  for (;;) {
    const auto seen = fill.changed().version();
    const Fill::View view = fill.view();
    if (view.error) co_return std::unexpected(*view.error);
    state->epoch = view.epoch;
    if (view.state != Fill::State::queued) break;
    if (!co_await fill.changed().wait_past(seen, deadline)) {
      co_return fail(Errc::timeout, "image " + info.id + ": the origin has not begun to send it in time");
    }
  }
  co_return Reader(std::move(state));
}

}  // namespace imagecache::image_cache
