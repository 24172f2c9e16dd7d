#include "backends/file/new_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

Result<NewFile> NewFile::open(const Place& place, const std::string& name) {
  NewFile file(place, name);
  int fd = -1;
  if (place.nameless) {
    fd = ::openat(place.directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, place.mode);
  } else {
    const std::string work_name = name + "." + base::new_uuid();
    fd = ::openat(place.work_directory, work_name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW,
                  place.mode);
    if (fd >= 0) file.work_name_ = work_name;
  }
  if (fd < 0) return base::fail_errno(name + ": cannot make a file for it", errno);
  file.fd_ = base::Fd(fd);

  // Each of these is a transaction of its own on most file systems, so only where something is to change.
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd, name));
  if (place.owner && std::pair(info.st_uid, info.st_gid) != *place.owner &&
      ::fchown(fd, place.owner->first, place.owner->second) != 0) {
    return base::fail_errno(name + ": cannot give it to the share's owner", errno);
  }
  if ((info.st_mode & 07777) != place.mode && ::fchmod(fd, place.mode) != 0) {
    return base::fail_errno(name + ": cannot set its mode", errno);
  }
  return file;
}

NewFile::~NewFile() {
  drop_work_name();
}

void NewFile::drop_work_name() {
  // fd_ tells a file from what remains of one that was moved away.
  if (fd_ && !work_name_.empty()) static_cast<void>(::unlinkat(place_.work_directory, work_name_.c_str(), 0));
  work_name_.clear();
}

int NewFile::link_nameless(int directory, const std::string& name) const {
  // The way of open(2)'s manual page; AT_EMPTY_PATH would want CAP_DAC_READ_SEARCH.
  const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
  return ::linkat(AT_FDCWD, self.c_str(), directory, name.c_str(), AT_SYMLINK_FOLLOW);
}

Result<void> NewFile::link_aside(const std::string& work_name) {
  if (link_nameless(place_.work_directory, work_name) != 0)
    return base::fail_errno(name_ + ": cannot keep the file from a crash", errno);
  work_name_ = work_name;
  return {};
}

Result<void> NewFile::link() {
  const int linked = work_name_.empty()
                         ? link_nameless(place_.directory, name_)
                         : ::linkat(place_.work_directory, work_name_.c_str(), place_.directory, name_.c_str(), 0);
  if (linked != 0) {
    if (errno == EEXIST) return fail(Errc::already_exists, name_ + ": there is a file of this name already");
    return base::fail_errno(name_ + ": cannot give the file its name", errno);
  }
  drop_work_name();
  return {};
}

}  // namespace imagecache::backends
