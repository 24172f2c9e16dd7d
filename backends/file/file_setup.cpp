// FileDriver's start: may we work in this directory, alone, and what can its file system do?
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "backends/file/file_copy.hpp"
#include "backends/file/file_driver.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

namespace {

constexpr const char* work_name = ".cinder-image-cache";
constexpr const char* lock_name = "lock";
constexpr std::string_view aside_prefix = "whole.";  // before a volume's name

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

/// Calls `each(name, type)` for every entry of the directory but "." and "..".
template <class Each>
Result<void> for_each_entry(int directory, std::string_view name_for_errors, Each each) {
  // A descriptor of its own: the position of a directory stream is the descriptor's.
  base::Fd fd(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return base::fail_errno(name_for_errors, errno);
  const std::unique_ptr<DIR, CloseDirectory> stream(::fdopendir(fd.get()));
  if (!stream) return base::fail_errno(name_for_errors, errno);
  static_cast<void>(fd.release());  // closedir closes it
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry) break;
    const std::string name(static_cast<const char*>(entry->d_name));
    if (name != "." && name != "..") IMAGECACHE_CHECK(each(name, entry->d_type));
  }
  if (errno != 0) return base::fail_errno(name_for_errors, errno);
  return {};
}

}  // namespace

std::string FileDriver::labelled(std::string_view text) const {
  return options_.label + ": " + std::string(text);
}

Result<void> FileDriver::check_for_setup_error() {
  // Not made if it is missing: then most likely a mount is, and volumes would fill the disk below the mount point.
  base::Fd directory(::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    if (errno == ENOENT) {
      return fail(Errc::not_found, labelled("there is no such directory; mount or make it, and let it be writable to "
                                            "the user that runs the service"));
    }
    return base::fail_errno(labelled("cannot be opened"), errno);
  }
  return set_up(std::move(directory));
}

Result<void> FileDriver::set_up(base::Fd directory) {
  directory_ = std::move(directory);
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(directory_.get(), options_.label));
  owner_ = {info.st_uid, info.st_gid};
  IMAGECACHE_CHECK(take_work_directory());
  IMAGECACHE_CHECK(empty_work_directory());
  return probe();
}

Result<void> FileDriver::take_work_directory() {
  if (::mkdirat(directory_.get(), work_name, 0770) != 0 && errno != EEXIST) {
    return base::fail_errno(labelled("cannot make " + std::string(work_name) +
                                     " in it; let it be writable to the user that runs the service"),
                            errno);
  }
  work_directory_ = base::Fd(::openat(directory_.get(), work_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!work_directory_) return base::fail_errno(labelled("cannot open " + std::string(work_name)), errno);
  // A file and not the directory: of these two, an NFS client tells only a file's lock to the server.
  lock_ = base::Fd(
      ::openat(work_directory_.get(), lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0660));
  if (!lock_) return base::fail_errno(labelled("cannot open " + std::string(work_name) + "/" + lock_name), errno);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail(Errc::conflict, labelled("another backend or another process of this service works in it; give "
                                           "each its own directory"));
    }
    return base::fail_errno(labelled("cannot lock it"), errno);
  }
  return {};
}

Result<void> FileDriver::empty_work_directory() {
  return for_each_entry(
      work_directory_.get(), options_.directory.native(), [&](const std::string& name, unsigned char) -> Result<void> {
        if (name == lock_name || (options_.names_later && name.starts_with(aside_prefix))) return {};
        if (::unlinkat(work_directory_.get(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
        return base::fail_errno(labelled("cannot remove " + std::string(work_name) + "/" + name), errno);
      });
}

// Tries what the driver will do, instead of believing a table of file systems.
Result<void> FileDriver::probe() {
  struct statfs info{};
  if (::fstatfs(directory_.get(), &info) != 0) return base::fail_errno(labelled("cannot be examined"), errno);
  is_xfs_ = info.f_type == XFS_SUPER_MAGIC;
  // That cannot be tried. XFS has one journal, and an NFS server answers when it is done (but for the export option
  // async). btrfs may log a name, for the fsync of its directory by somebody else, without what the file shares.
  keeps_order_ = is_xfs_ || info.f_type == NFS_SUPER_MAGIC;

  const std::string name = "probe." + base::new_uuid();
  const auto make = [&](bool nameless) -> Result<NewFile> {
    // Linked into the work directory, where no list of volumes shows it.
    IMAGECACHE_TRY(
        NewFile file,
        NewFile::open(
            {.directory = work_directory_.get(), .work_directory = work_directory_.get(), .nameless = nameless}, name));
    const std::array<std::byte, 4096> block{};
    IMAGECACHE_CHECK(base::write_all_at(file.fd(), block, 0, name));
    IMAGECACHE_CHECK(file.link());
    if (::unlinkat(work_directory_.get(), name.c_str(), 0) != 0) return base::fail_errno(name, errno);
    return file;
  };
  nameless_ = make(true).has_value();
  const auto first = make(nameless_);
  if (!first) return fail(first.error().code, labelled("a trial file failed: " + first.error().message));
  IMAGECACHE_TRY(
      const NewFile second,
      NewFile::open(
          {.directory = work_directory_.get(), .work_directory = work_directory_.get(), .nameless = nameless_}, name));
  const auto shared = reflink(first->fd(), second.fd(), name);
  if (!shared && shared.error().code != Errc::unsupported) {
    return fail(shared.error().code, labelled("a trial clone failed: " + shared.error().message));
  }
  reflinks_ = shared.has_value();
  names_later_ = options_.names_later && is_xfs_ && reflinks_ && nameless_;
  return base::sync_file(directory_.get(), options_.directory.native());  // for the work directory's own name
}

Result<std::vector<VolumeId>> FileDriver::list_volumes() {
  std::vector<VolumeId> volumes;
  IMAGECACHE_CHECK(for_each_entry(directory_.get(), options_.directory.native(),
                                  [&](const std::string& name, unsigned char type) -> Result<void> {
                                    if (!base::is_safe_name(name)) return {};
                                    if (type == DT_UNKNOWN) {
                                      struct stat info{};
                                      if (::fstatat(directory_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
                                        if (errno == ENOENT) return {};
                                        return base::fail_errno(name, errno);
                                      }
                                      type = S_ISREG(info.st_mode) ? DT_REG : DT_DIR;
                                    }
                                    if (type == DT_REG) volumes.push_back({name});
                                    return {};
                                  }));
  return volumes;
}

std::string FileDriver::name_aside(const VolumeId& volume) {
  return std::string(aside_prefix) + volume.name;
}

Result<std::vector<VolumeId>> FileDriver::list_unnamed_clones() {
  std::vector<VolumeId> clones;
  IMAGECACHE_CHECK(for_each_entry(work_directory_.get(), options_.directory.native(),
                                  [&](const std::string& name, unsigned char) -> Result<void> {
                                    if (name.starts_with(aside_prefix))
                                      clones.push_back({name.substr(aside_prefix.size())});
                                    return {};
                                  }));
  return clones;
}

Result<std::uint64_t> FileDriver::promised_bytes() const {
  std::uint64_t bytes = 0;
  IMAGECACHE_CHECK(for_each_entry(
      directory_.get(), options_.directory.native(), [&](const std::string& name, unsigned char type) -> Result<void> {
        if (type != DT_REG && type != DT_UNKNOWN) return {};
        struct stat info{};
        if (::fstatat(directory_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode))
          bytes += static_cast<std::uint64_t>(info.st_size);
        return {};
      }));
  return bytes;
}

Result<std::unique_ptr<Driver>> make_file_driver(const BackendOptions& options) {
  const auto wrong = [&](std::string_view name, const std::string& what) {
    return fail(Errc::invalid_argument, "[" + options.section() + "] " + std::string(name) + what);
  };
  const auto number = [&](std::string_view name, unsigned otherwise, unsigned least,
                          unsigned most) -> Result<unsigned> {
    const auto text = options.get(name);
    if (!text) return otherwise;
    const auto value = base::parse_unsigned(base::trim(*text));
    if (value && *value >= least && *value <= most) return static_cast<unsigned>(*value);
    return wrong(
        name, " = " + *text + ": must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  };
  FileDriver::Options made;
  made.names_later = true;
  const auto directory = options.get("file_volume_dir");
  if (!directory || base::trim(*directory).empty()) {
    return wrong("file_volume_dir", " is not set: name the directory that holds the volumes");
  }
  made.directory = std::string(base::trim(*directory));
  if (!made.directory.is_absolute()) return wrong("file_volume_dir", " = " + *directory + ": must be an absolute path");
  made.label = "[" + options.section() + "] file_volume_dir = " + made.directory.native();
  IMAGECACHE_TRY(made.max_concurrency, number("file_max_concurrency", made.max_concurrency, 1, 1024));
  IMAGECACHE_TRY(made.reflink_max_extents, number("file_reflink_max_extents", made.reflink_max_extents, 0, 1'000'000));
  return std::make_unique<FileDriver>(std::move(made));
}

}  // namespace imagecache::backends
