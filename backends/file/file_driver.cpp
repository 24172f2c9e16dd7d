#include "backends/file/file_driver.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <span>

#include "backends/file/file_copy.hpp"
#include "base/crash_point.hpp"
#include "base/direct_writer.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "base/volume_file.hpp"

namespace imagecache::backends {

namespace {

std::uint64_t size_of(const struct stat& info) {
  return static_cast<std::uint64_t>(info.st_size);
}

Result<void> check_name(const VolumeId& volume) {
  if (base::is_safe_name(volume.name)) return {};
  return fail(Errc::invalid_argument, volume.name + ": not a name that a volume's file can have");
}

Result<void> set_size(int fd, std::uint64_t size_bytes, const VolumeId& volume) {
  if (static_cast<off_t>(size_bytes) >= 0 && ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0) return {};
  if (static_cast<off_t>(size_bytes) < 0 || errno == EFBIG) {
    return fail(Errc::invalid_argument, volume.name + ": larger than a file can be here");
  }
  return base::fail_errno(volume.name + ": cannot set its size", errno);
}

}  // namespace

Capabilities FileDriver::capabilities() const {
  return {
      .clone = reflinks_ ? CloneSupport::copy_on_write : CloneSupport::full_copy,
      .max_concurrency = options_.max_concurrency,
      .clones_per_source = 0,
      // Only the sharing itself wants to be one at a time (share_source), not the syncs behind it, which gain from
      // company.
      .serialize_clones_of_one_source = false,
      .atomic_clones = !reflinks_ || keeps_order_,
  };
}

Result<VolumeStats> FileDriver::get_volume_stats() {
  struct statvfs info{};
  if (::fstatvfs(directory_.get(), &info) != 0) return base::fail_errno(options_.directory.native(), errno);
  return VolumeStats{.total_bytes = info.f_blocks * info.f_frsize, .free_bytes = info.f_bavail * info.f_frsize};
}

Result<base::Fd> FileDriver::open_volume(const VolumeId& volume, int flags) const {
  IMAGECACHE_CHECK(check_name(volume));
  // O_NONBLOCK: a fifo that somebody put there must not hold us.
  base::Fd fd(::openat(directory_.get(), volume.name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT) return fail(Errc::not_found, volume.name + ": no such volume");
    return base::fail_errno(volume.name + ": cannot open", errno);
  }
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), volume.name));
  if (!S_ISREG(info.st_mode)) return fail(Errc::conflict, volume.name + ": not a regular file, so not a volume");
  return fd;
}

NewFile::Place FileDriver::place() const {
  const Access access = options_.access ? options_.access() : Access{};
  NewFile::Place place{.directory = directory_.get(),
                       .work_directory = work_directory_.get(),
                       .nameless = nameless_,
                       .mode = access.mode};
  if (access.owned_as_directory && ::geteuid() == 0) place.owner = owner_;
  return place;
}

Result<std::optional<std::uint64_t>> FileDriver::find(const VolumeId& volume) const {
  IMAGECACHE_CHECK(check_name(volume));
  struct stat info{};
  if (::fstatat(directory_.get(), volume.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return size_of(info);
  if (errno == ENOENT) return std::nullopt;
  return base::fail_errno(volume.name, errno);
}

bool FileDriver::has_file(const std::string& name) const {
  return ::faccessat(directory_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::optional<std::string>> FileDriver::read_beside(const std::string& name) const {
  const base::Fd fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    return base::fail_errno(name + ": cannot open", errno);
  }
  std::string content(64 * base::kib, '\0');
  IMAGECACHE_TRY(const std::size_t got, base::read_at(fd.get(), std::as_writable_bytes(std::span(content)), 0, name));
  if (got == content.size()) return fail(Errc::corrupt, name + ": larger than such a file can be");
  content.resize(got);
  return content;
}

bool FileDriver::is_there(const VolumeId& volume) const {
  struct stat info{};
  return ::fstatat(directory_.get(), volume.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<void> FileDriver::check_room_for(std::uint64_t bytes, const VolumeId& volume) const {
  struct statvfs info{};
  if (::fstatvfs(directory_.get(), &info) != 0) return base::fail_errno(options_.directory.native(), errno);
  const std::uint64_t free_bytes = info.f_bavail * info.f_frsize;
  if (bytes <= free_bytes) return {};
  return fail(Errc::no_space, volume.name + ": needs " + base::format_bytes(bytes) + ", and " +
                                  options_.directory.native() + " has " + base::format_bytes(free_bytes) + " free");
}

// Which syncs, and why no more (measured in README.md). The name comes before the fsync of the file, so that one flush
// of the journal carries the file, its shared blocks, its size and its name. Journals keep the order of changes, so a
// crash leaves either no name or a whole file. Data that we wrote is not in the journal, so it is flushed before the
// name. fsync of the directory is what POSIX wants for a name; XFS logs a file and its name in one transaction, so
// there it would only wait for the changes of others.
Result<void> FileDriver::sync_named(int fd, int directory, const VolumeId& volume) const {
  IMAGECACHE_CHECK(base::sync_file(fd, volume.name));
  return is_xfs_ ? Result<void>() : base::sync_file(directory, options_.directory.native());
}

Result<void> FileDriver::publish(NewFile& file, const VolumeId& volume, Durable durable) {
  if (durable == Durable::with_data) IMAGECACHE_CHECK(base::sync_file(file.fd(), volume.name));
  IMAGECACHE_CHECK(file.link());
  base::crash_point("volume.linked");
  auto synced = sync_named(file.fd(), directory_.get(), volume);
  if (!synced) {
    // Nobody can say what is on the disk now, so it is not to be had under this name.
    static_cast<void>(::unlinkat(directory_.get(), volume.name.c_str(), 0));
  }
  return synced;
}

// A sync of ours beside the caller's, instead of after it. The name itself is left to the journal: with all that comes
// after it, such as this volume's removal, it is on disk in order, and until then settle_unnamed_clone() can give it.
Result<void> FileDriver::publish_later(NewFile& file, const CloneSpec& clone) {
  IMAGECACHE_CHECK(file.link_aside(name_aside(clone.target)));
  IMAGECACHE_CHECK(sync_named(file.fd(), work_directory_.get(), clone.target));
  base::crash_point("clone.aside");
  IMAGECACHE_CHECK(clone.before_named());
  base::crash_point("clone.recorded");
  IMAGECACHE_CHECK(file.link());
  base::crash_point("volume.linked");
  return {};
}

Result<void> FileDriver::settle_unnamed_clone(const VolumeId& volume, bool is_wanted) {
  IMAGECACHE_CHECK(check_name(volume));
  const std::string aside = name_aside(volume);
  if (is_wanted && ::linkat(work_directory_.get(), aside.c_str(), directory_.get(), volume.name.c_str(), 0) != 0 &&
      errno != EEXIST)
    return base::fail_errno(volume.name + ": cannot give the clone its name", errno);
  IMAGECACHE_CHECK(base::sync_file(directory_.get(), options_.directory.native()));
  if (::unlinkat(work_directory_.get(), aside.c_str(), 0) != 0 && errno != ENOENT)
    return base::fail_errno(volume.name + ": cannot remove what is left of it", errno);
  return base::sync_file(work_directory_.get(), options_.directory.native());
}

Result<void> FileDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(NewFile file, NewFile::open(place(), volume.name));
  IMAGECACHE_CHECK(set_size(file.fd(), size_bytes, volume));
  return publish(file, volume, Durable::metadata_only);
}

Result<void> FileDriver::create_cloned_volume(const CloneSpec& clone) {
  IMAGECACHE_CHECK(check_name(clone.target));
  IMAGECACHE_TRY(const base::Fd source, open_volume(clone.source, O_RDONLY));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(source.get(), clone.source.name));
  if (clone.size_bytes < size_of(info)) {
    return fail(Errc::invalid_argument, clone.target.name + ": a clone cannot be smaller than its source, which is " +
                                            std::to_string(info.st_size) + " bytes");
  }
  // Before the work; link() settles it when two ask at once.
  if (is_there(clone.target)) {
    return fail(Errc::already_exists, clone.target.name + ": there is a file of this name already");
  }
  if (!reflinks_) IMAGECACHE_CHECK(check_room_for(static_cast<std::uint64_t>(info.st_blocks) * 512, clone.target));

  IMAGECACHE_TRY(NewFile target, NewFile::open(place(), clone.target.name));
  base::crash_point("clone.created");
  if (reflinks_) {
    IMAGECACHE_CHECK(share_source(source.get(), target.fd(), clone));
    if (clone.size_bytes > size_of(info)) IMAGECACHE_CHECK(set_size(target.fd(), clone.size_bytes, clone.target));
  } else {
    IMAGECACHE_CHECK(set_size(target.fd(), clone.size_bytes, clone.target));
    IMAGECACHE_CHECK(copy_data_runs(source.get(), target.fd(), size_of(info), clone.target.name));
  }
  base::crash_point("clone.cloned");
  if (clone.before_named && names_later_) return publish_later(target, clone);
  if (clone.before_named) IMAGECACHE_CHECK(clone.before_named());
  return publish(target, clone.target, reflinks_ ? Durable::metadata_only : Durable::with_data);
}

Result<void> FileDriver::copy_from(const FileDriver& other, const VolumeId& source, const VolumeId& target) {
  IMAGECACHE_CHECK(check_name(target));
  IMAGECACHE_TRY(const base::Fd from, other.open_volume(source, O_RDONLY));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(from.get(), source.name));
  IMAGECACHE_CHECK(check_room_for(static_cast<std::uint64_t>(info.st_blocks) * 512, target));
  IMAGECACHE_TRY(NewFile file, NewFile::open(place(), target.name));
  IMAGECACHE_CHECK(set_size(file.fd(), size_of(info), target));
  IMAGECACHE_CHECK(copy_data_runs(from.get(), file.fd(), size_of(info), target.name));
  base::crash_point("replica.copied");
  return publish(file, target, Durable::with_data);
}

Result<void> FileDriver::share_source(int source, int target, const CloneSpec& clone) {
  if (!is_xfs_) return reflink(source, target, clone.target.name);
  // XFS holds the source's lock for the whole walk over its extents, and waiters make it slower still.
  const std::lock_guard turn(source_turns_[std::hash<std::string>()(clone.source.name) % source_turns_.size()]);
  return reflink(source, target, clone.target.name);
}

/// True if the volume now has the image's blocks; false if the data must be copied.
Result<bool> FileDriver::share_image(int image, int target, std::uint64_t volume_size_bytes,
                                     const VolumeId& volume) const {
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(image, volume.name));
  if (size_of(info) > volume_size_bytes) return false;
  const auto extents = count_extents(image, volume.name);
  if (!extents || *extents > options_.reflink_max_extents) return false;
  // A last block that is not full can only be shared at the target's end: so the target starts empty and grows back.
  IMAGECACHE_CHECK(set_size(target, 0, volume));
  auto shared = reflink(image, target, volume.name);
  if (!shared) IMAGECACHE_CHECK(set_size(target, 0, volume));  // whatever part was shared
  IMAGECACHE_CHECK(set_size(target, volume_size_bytes, volume));
  if (!shared && shared.error().code != Errc::unsupported) return std::unexpected(std::move(shared).error());
  return shared.has_value();
}

Result<void> FileDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  IMAGECACHE_TRY(const base::Fd target, open_volume(volume, O_RDWR));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(target.get(), volume.name));
  const std::uint64_t size_bytes = size_of(info);
  if (image.virtual_size_bytes() > size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": too small for the image, which is " +
                                            std::to_string(image.virtual_size_bytes()) + " bytes");
  }
  if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": copying the image was cancelled");

  if (const auto raw = image.raw_fd(); raw && reflinks_) {
    IMAGECACHE_TRY(const bool shared, share_image(*raw, target.get(), size_bytes, volume));
    if (shared) return base::sync_file(target.get(), volume.name);
  }
  if (const auto raw = image.raw_fd()) {
    // How much data a raw file holds is known; of another format it shows while it is read.
    IMAGECACHE_TRY(const struct stat raw_info, base::stat_fd(*raw, volume.name));
    IMAGECACHE_CHECK(check_room_for(static_cast<std::uint64_t>(raw_info.st_blocks) * 512, volume));
  }
  const base::DirectWriter writer(target.get(),
                                  base::Fd(::openat(directory_.get(), volume.name.c_str(),
                                                    O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)),
                                  volume.name);
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
    if (offset > size_bytes || data.size() > size_bytes - offset) {
      return fail(Errc::corrupt, volume.name + ": the image has data behind its end");
    }
    IMAGECACHE_CHECK(writer.write(offset, data));
    base::crash_point("copy.half");
    return {};
  };
  IMAGECACHE_CHECK(image.for_each_data(sink, stop));
  // The name is on disk since create_volume.
  return base::sync_file(target.get(), volume.name);
}

Result<void> FileDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_TRY(const base::Fd fd, open_volume(volume, O_RDWR));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), volume.name));
  if (new_size_bytes < size_of(info)) {
    return fail(Errc::invalid_argument, volume.name + ": cannot shrink from " + std::to_string(info.st_size) + " to " +
                                            std::to_string(new_size_bytes) + " bytes");
  }
  if (new_size_bytes > size_of(info)) IMAGECACHE_CHECK(set_size(fd.get(), new_size_bytes, volume));
  return base::sync_file(fd.get(), volume.name);
}

Result<void> FileDriver::delete_volume(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  if (::unlinkat(directory_.get(), volume.name.c_str(), 0) != 0 && errno != ENOENT) {
    return base::fail_errno(volume.name + ": cannot delete", errno);
  }
  base::crash_point("delete.unlinked");
  // Also if it was absent: whoever unlinked it may have been stopped before this line.
  return base::sync_file(directory_.get(), options_.directory.native());
}

Result<std::unique_ptr<VolumeReader>> FileDriver::read_volume(const VolumeId& volume) {
  IMAGECACHE_TRY(base::Fd fd, open_volume(volume, O_RDONLY));
  return base::read_volume_file(std::move(fd), volume.name, true);
}

Result<ConnectionInfo> FileDriver::initialize_connection(const VolumeId& volume) {
  IMAGECACHE_TRY(const base::Fd fd, open_volume(volume, O_RDONLY));
  return ConnectionInfo{.driver_volume_type = "local",
                        .data = {{"device_path", (options_.directory / volume.name).native()}}};
}

Result<std::optional<std::uint64_t>> FileDriver::used_bytes(const VolumeId& volume) {
  IMAGECACHE_TRY(const base::Fd fd, open_volume(volume, O_RDONLY));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), volume.name));
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

}  // namespace imagecache::backends
