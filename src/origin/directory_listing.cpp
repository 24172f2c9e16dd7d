#include "origin/directory_listing.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <memory>

#include "base/log.hpp"
#include "base/try.hpp"
#include "origin/file_facts.hpp"

namespace imagecache::origin {
namespace {

/// File systems stamp times with the kernel's tick, network ones with coarser clocks: two changes this close may bear
/// the same time.
constexpr std::chrono::milliseconds settling_time{2000};

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

std::int64_t ns_of(const timespec& time) {
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

bool is_regular(int directory_fd, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_REG;
  struct stat info{};
  return ::fstatat(directory_fd, entry.d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

std::optional<std::string> DirectoryListing::name_of(const std::string& image_id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = listed_.names_by_id.find(image_id);
  if (found == listed_.names_by_id.end()) return std::nullopt;
  return found->second;
}

std::set<std::string> DirectoryListing::names() const {
  const std::scoped_lock lock(mutex_);
  std::set<std::string> names;
  for (const auto& [id, name] : listed_.names_by_id) names.insert(name);
  return names;
}

Result<DirectoryListing::Listed> DirectoryListing::list(int directory_fd) const {
  IMAGECACHE_TRY(const auto info, base::stat_fd(directory_fd, directory_));
  Listed listed;
  listed.inode = info.st_ino;
  listed.mtime_ns = ns_of(info.st_mtim);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  listed.settled = std::chrono::nanoseconds(listed.mtime_ns) + settling_time < now;
  // A descriptor of its own, which closedir() closes.
  IMAGECACHE_TRY(base::Fd own, base::open_file(directory_, O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, CloseDirectory> directory(::fdopendir(own.get()));
  if (!directory) return base::fail_errno(directory_, errno);
  static_cast<void>(own.release());
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) {
      if (errno != 0) return base::fail_errno(directory_, errno);
      return listed;
    }
    const std::string name = entry->d_name;
    if (name.starts_with('.')) continue;
    if (!is_regular(directory_fd, *entry)) {
      base::log::info("origin", nullptr, "{}/{}: left out, as it is not a regular file", directory_, name);
      continue;
    }
    const auto [at, fresh] = listed.names_by_id.try_emplace(id_of_file(name), name);
    if (fresh) continue;
    base::log::warning("origin", nullptr, "{}: {} and {} are of one image id, {}; the first by name is it", directory_,
                       at->second, name, at->first);
    if (name < at->second) at->second = name;
  }
}

Result<void> DirectoryListing::refresh(bool force) {
  const std::scoped_lock one_at_a_time(refresh_mutex_);
  IMAGECACHE_TRY(const base::Fd fd, base::open_file(directory_, O_RDONLY | O_DIRECTORY));
  IMAGECACHE_TRY(const auto info, base::stat_fd(fd.get(), directory_));
  if (!force) {
    const std::scoped_lock lock(mutex_);
    if (listed_.settled && listed_.inode == info.st_ino && listed_.mtime_ns == ns_of(info.st_mtim)) return {};
  }
  IMAGECACHE_TRY(auto listed, list(fd.get()));
  const std::scoped_lock lock(mutex_);
  listed_ = std::move(listed);
  return {};
}

Result<base::Fd> DirectoryListing::open_file(const std::string& name) const {
  IMAGECACHE_TRY(const base::Fd directory, base::open_file(directory_, O_RDONLY | O_DIRECTORY));
  int fd = -1;
  do {
    // O_NONBLOCK: a pipe put in the file's place must not hold us.
    fd = ::openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  const std::string path = directory_ + "/" + name;
  if (fd < 0 && errno == ELOOP) return fail(Errc::not_found, path + ": a symbolic link, which is not followed");
  if (fd < 0) return base::fail_errno(path, errno);
  base::Fd file(fd);
  IMAGECACHE_TRY(const auto info, base::stat_fd(fd, path));
  if (!S_ISREG(info.st_mode)) return fail(Errc::not_found, path + ": not a regular file");
  return file;
}

Result<DirectoryListing::File> DirectoryListing::open(const std::string& image_id) {
  for (const bool again : {false, true}) {
    auto name = name_of(image_id);
    if (!name) {
      IMAGECACHE_CHECK(refresh(false));
      name = name_of(image_id);
      if (!name) break;
    }
    auto fd = open_file(*name);
    if (fd) return File{.fd = std::move(*fd), .name = std::move(*name)};
    if (again || fd.error().code != Errc::not_found) return std::unexpected(std::move(fd).error());
    IMAGECACHE_CHECK(refresh(true));  // the file that had this id is gone; another may have it
  }
  return fail(Errc::not_found, directory_ + ": no image file has the id " + image_id);
}

}  // namespace imagecache::origin
