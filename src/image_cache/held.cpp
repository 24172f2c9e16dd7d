// Files that are held: a second name for each, beside those of the cache, so that whatever happens to the first takes
// nothing from those who have been promised the second. While a file has both, the first is not evicted, since that
// would free nothing; once it has the second alone its bytes count as reserved.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

/// "<owner>.<image id>.<secret>"; empty where it has no such parts.
std::string image_id_of(const std::string& name) {
  const auto first = name.find('.');
  const auto last = name.rfind('.');
  return first == last ? std::string() : name.substr(first + 1, last - first - 1);
}

}  // namespace

Result<void> ImageCache::Impl::find_held() {
  Reading reading;
  const auto names = names_in(layout.held_dir(), reading);
  if (!names && names.error().code == Errc::not_found) return {};
  if (!names) return std::unexpected(names.error());
  const std::lock_guard lock(mutex);
  for (std::size_t i = 0; i < names->size(); ++i) {
    const std::string name((*names)[i]);
    std::string image_id = image_id_of(name);
    struct stat info{};
    if (image_id.empty() || ::lstat((layout.held_dir() / name).c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    entries.hold(image_id);
    held.add(name, {.image_id = std::move(image_id),
                    .inode = HeldFiles::inode_of(info),
                    .size_bytes = static_cast<std::uint64_t>(info.st_size)});
  }
  return {};
}

Result<void> ImageCache::Impl::begin_to_hold(const std::string& name, HeldFiles::File file) {
  const std::lock_guard lock(mutex);
  const std::uint64_t limit = options.max_size_bytes / 100 * std::min(options.held_percent, 100U);
  const std::uint64_t with_it = held.bytes() + (held.contains(file.inode) ? 0 : file.size_bytes);
  if (with_it > limit)
    return fail(Errc::no_space, fmt::format("image {}: with its file, {} of image files would be held for imports, and "
                                            "import_held_percent = {} allows {}; {} are held now",
                                            file.image_id, base::format_bytes(with_it), options.held_percent,
                                            base::format_bytes(limit), base::format_bytes(held.bytes())));
  entries.hold(file.image_id);
  held.add(name, std::move(file));
  update_gauges();
  return {};
}

void ImageCache::Impl::end_hold(const std::string& name) {
  {
    const std::lock_guard lock(mutex);
    if (const auto found = held.by_name().find(name); found != held.by_name().end()) {
      if (found->second.is_cached) entries.let_go(found->second.image_id);
      held.remove(name);
    }
  }
  look_at_held();
}

void ImageCache::Impl::look_at_held() {
  std::vector<HeldFiles::Counted> all;
  {
    const std::lock_guard lock(mutex);
    if (held.files() == 0 && held_alone_bytes == 0) return update_gauges();
    all = held.counted();
  }
  std::uint64_t alone = 0;
  std::vector<HeldFiles::Inode> alone_files;
  for (const auto& file : all) {
    struct stat info{};
    // What has other names yet is in the cache, or in invalid/, and counted there.
    if (::lstat((layout.held_dir() / file.a_name).c_str(), &info) != 0 || info.st_nlink > file.names) continue;
    alone += file.size_bytes;
    alone_files.push_back(file.inode);
  }
  const std::lock_guard lock(mutex);
  // If its image has been fetched again since, that is another file, and to be evicted as any.
  for (const auto& inode : alone_files) {
    for (const std::string& image_id : held.left_cache(inode)) entries.let_go(image_id);
  }
  entries.release(held_alone_bytes);
  held_alone_bytes = alone;
  entries.reserve(held_alone_bytes);
  update_gauges();
}

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
    IMAGECACHE_CHECK(impl_->begin_to_hold(name, {.image_id = image_id,
                                                 .inode = HeldFiles::inode_of(info),
                                                 .size_bytes = static_cast<std::uint64_t>(info.st_size)}));
    const auto link = [&]() -> Result<void> {
      const std::string open_file = "/proc/self/fd/" + std::to_string(fd);
      if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, (directory / name).c_str(), AT_SYMLINK_FOLLOW) != 0)
        return base::fail_errno("image " + image_id + ": its file cannot be held", errno);
      return {};
    };
    if (auto linked = impl_->relink(image_id, fd, link); !linked) {
      static_cast<void>(::unlink((directory / name).c_str()));
      impl_->end_hold(name);
      return std::unexpected(std::move(linked).error());
    }
    impl_->look_at_held();
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

std::vector<ImageCache::Held> ImageCache::held() const {
  std::vector<Held> all;
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [name, file] : impl_->held.by_name())
    all.push_back({.name = name, .owner = name.substr(0, name.find('.')), .image_id = file.image_id});
  return all;
}

base::Task<Result<void>> ImageCache::let_go(std::string name) {
  auto work = [this, name = std::move(name)]() -> Result<void> {
    if (!base::is_safe_name(name)) return {};
    const auto directory = impl_->layout.held_dir();
    const auto path = directory / name;
    const std::string image_id = image_id_of(name);
    const auto failed = [&image_id](int problem) {  // without its name: nobody may know it while it is served
      return base::fail_errno("image " + image_id + ": its held file cannot be removed", problem);
    };
    const base::Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!file && errno == ENOENT) {
      impl_->end_hold(name);
      return {};
    }
    if (!file) return failed(errno);
    const auto remove = [&]() -> Result<void> {
      if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed(errno);
      return {};
    };
    IMAGECACHE_CHECK(impl_->relink(image_id, file.get(), remove));
    impl_->end_hold(name);
    return base::sync_directory(directory);
  };
  co_return co_await base::offload(impl_->pool, std::move(work));
}

}  // namespace imagecache::image_cache
