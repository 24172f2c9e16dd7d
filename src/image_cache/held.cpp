// Files that are held: a second name for each, beside those of the cache, so that whatever happens to the first takes
// nothing from those who have been promised the second.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"
#include "image_cache/names.hpp"

namespace imagecache::image_cache {
namespace {

/// Of the file when it was held, which its name ends in. Not the ctime, which each name that comes or goes moves.
std::string mark_of(const struct stat& info) {
  const Stamp stamp = stamp_of(info);
  return std::to_string(stamp.size_bytes) + "-" + std::to_string(stamp.mtime_ns);
}

}  // namespace

Result<void> ImageCache::Impl::relink(const std::string& image_id, int fd,
                                      const std::function<Result<void>()>& change) {
  const std::lock_guard no_flush(flush_mutex);  // which moves it too
  IMAGECACHE_TRY(const struct stat before, base::stat_fd(fd, image_id));
  IMAGECACHE_CHECK(change());
  IMAGECACHE_TRY(const struct stat after, base::stat_fd(fd, image_id));
  const Restamped moved{.image_id = image_id, .before = stamp_of(before), .after = stamp_of(after)};
  {
    const std::lock_guard lock(mutex);
    entries.restamp(moved);
  }
  return ledger->restamp({moved});
}

base::Task<Result<std::string>> ImageCache::hold(std::string owner, std::string image_id, int fd) {
  auto work = [this, owner = std::move(owner), image_id = std::move(image_id), fd]() -> Result<std::string> {
    // Its name here shall outlive a power failure no longer than its bytes do.
    if (::fdatasync(fd) != 0) return base::fail_errno("image " + image_id + ": its file cannot be held", errno);
    IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd, image_id));
    std::string name = owner + "." + image_id + "." + base::new_uuid() + base::new_uuid() + "-" + mark_of(info);
    if (!base::is_safe_name(name))
      return fail(Errc::invalid_argument, "image " + image_id + ": its file cannot be held by that name");
    const auto directory = impl_->layout.held_dir();
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return base::fail_errno(directory.native(), errno);
    const auto link = [&]() -> Result<void> {
      const std::string open_file = "/proc/self/fd/" + std::to_string(fd);
      if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, (directory / name).c_str(), AT_SYMLINK_FOLLOW) != 0)
        return base::fail_errno("image " + image_id + ": its file cannot be held", errno);
      return {};
    };
    IMAGECACHE_CHECK(impl_->relink(image_id, fd, link));
    IMAGECACHE_CHECK(base::sync_directory(directory));
    return name;
  };
  co_return co_await base::offload(impl_->pool, std::move(work));
}

Result<base::Fd> ImageCache::open_held(const std::string& name) const {
  if (!base::is_safe_name(name)) return fail(Errc::not_found, "no file is held by that name");
  const auto path = impl_->layout.held_dir() / name;
  base::Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const int problem = errno;
  if (!file && problem == ENOENT) return fail(Errc::not_found, "no file is held by that name");
  if (!file && (problem == EMFILE || problem == ENFILE || problem == ENOMEM))
    return fail(Errc::busy, "a held file: " + std::generic_category().message(problem));
  if (!file) return base::fail_errno("a held file", problem);  // its name is nobody's business
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(file.get(), "a held file"));
  if (!name.ends_with("-" + mark_of(info))) return fail(Errc::corrupt, "a held file has been written to");
  return file;
}

Result<std::vector<ImageCache::Held>> ImageCache::held() const {
  std::vector<Held> all;
  Reading reading;
  auto names = names_in(impl_->layout.held_dir(), reading);
  if (!names && names.error().code == Errc::not_found) return all;
  if (!names) return std::unexpected(std::move(names).error());
  for (std::size_t i = 0; i < names->size(); ++i) {
    const std::string name((*names)[i]);
    const auto first = name.find('.');
    const auto last = name.rfind('.');
    if (first == last) continue;
    all.push_back({.name = name, .owner = name.substr(0, first), .image_id = name.substr(first + 1, last - first - 1)});
  }
  return all;
}

base::Task<Result<void>> ImageCache::let_go(std::string name) {
  auto work = [this, name = std::move(name)]() -> Result<void> {
    if (!base::is_safe_name(name)) return {};
    const auto directory = impl_->layout.held_dir();
    const auto path = directory / name;
    const auto first = name.find('.') + 1;
    const std::string image_id = name.substr(first, name.rfind('.') - first);
    const auto failed = [&image_id](int problem) {  // without its name: nobody may know it while it is served
      return base::fail_errno("image " + image_id + ": its held file cannot be removed", problem);
    };
    const base::Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!file && errno == ENOENT) return {};
    if (!file) return failed(errno);
    const auto remove = [&]() -> Result<void> {
      if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed(errno);
      return {};
    };
    IMAGECACHE_CHECK(impl_->relink(image_id, file.get(), remove));
    return base::sync_directory(directory);
  };
  co_return co_await base::offload(impl_->pool, std::move(work));
}

}  // namespace imagecache::image_cache
