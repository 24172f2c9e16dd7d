#include "backends/file/share.hpp"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

// As often as cinder-volume measures its backends.
constexpr std::chrono::seconds sum_age{60};

/// Is the open directory the root of a mount?
Result<bool> is_mount_root(int directory, const std::string& label) {
  struct statx info{};
  if (::statx(directory, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &info) != 0) return base::fail_errno(label, errno);
  if ((info.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0) {
    return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
  // Linux before 5.8: a mount of another file system shows by its device.
  struct stat here{};
  struct stat above{};
  if (::fstat(directory, &here) != 0 || ::fstatat(directory, "..", &above, 0) != 0)
    return base::fail_errno(label, errno);
  return here.st_dev != above.st_dev;
}

}  // namespace

bool Share::is_still_mounted() const {
  struct stat info{};
  return ::stat(options_.directory.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

Result<std::shared_ptr<FileDriver>> Share::open() {
  base::Fd directory(::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory && errno != ENOENT)
    return base::fail_errno(label() + ": cannot open " + options_.directory.native(), errno);
  bool mounted = false;
  if (directory) {
    IMAGECACHE_TRY(mounted, is_mount_root(directory.get(), label()));
  }
  if (!mounted) {
    return fail(Errc::unavailable, label() + ": nothing is mounted on " + options_.directory.native() +
                                       "; start cinder-volume, which mounts it, or mount it there");
  }
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(directory.get(), label()));
  auto files = std::make_shared<FileDriver>(options_);
  IMAGECACHE_CHECK(files->set_up(std::move(directory)));
  device_ = info.st_dev;
  inode_ = info.st_ino;
  return files;
}

Result<std::shared_ptr<FileDriver>> Share::files() {
  const std::lock_guard lock(mutex_);
  if (files_ && is_still_mounted()) return files_;
  files_.reset();  // with its lock, which the next may need
  auto opened = open();
  if (!opened) {
    if (problem_ != opened.error().message) {
      base::log::warning("nfs", nullptr, "{}; tried again at each call", opened.error().message);
    }
    problem_ = opened.error().message;
    return fail(Errc::unavailable, problem_);
  }
  if (!problem_.empty()) base::log::info("nfs", nullptr, "{}: in use now", label());
  problem_.clear();
  files_ = std::move(*opened);
  return files_;
}

Result<Share::Room> Share::room(FileDriver& files, bool anew) {
  IMAGECACHE_TRY(const VolumeStats stats, files.get_volume_stats());
  Room room{.total_bytes = stats.total_bytes, .available_bytes = stats.free_bytes};
  {
    const std::lock_guard lock(room_mutex_);
    const bool is_old = anew || std::chrono::steady_clock::now() - summed_at_ >= sum_age;
    if (promised_bytes_ && (!is_old || summing_)) {
      room.promised_bytes = *promised_bytes_;
      return room;
    }
    summing_ = true;
  }
  const auto summed = files.promised_bytes();
  const std::lock_guard lock(room_mutex_);
  summing_ = false;
  if (!summed) return std::unexpected(summed.error());
  promised_bytes_ = *summed;
  summed_at_ = std::chrono::steady_clock::now();
  room.promised_bytes = *summed;
  return room;
}

void Share::promise(std::int64_t bytes) {
  const std::lock_guard lock(room_mutex_);
  if (!promised_bytes_) return;
  const auto amount = static_cast<std::uint64_t>(bytes < 0 ? -bytes : bytes);
  *promised_bytes_ = bytes < 0 ? *promised_bytes_ - std::min(*promised_bytes_, amount) : *promised_bytes_ + amount;
}

}  // namespace imagecache::backends
