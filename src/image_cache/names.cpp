#include "image_cache/names.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>

#include "base/fd.hpp"

namespace imagecache::image_cache {

Result<Names> names_in(const std::filesystem::path& directory, Reading& reading) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return base::fail_errno(directory.native(), errno);
  Names names;
  for (;;) {
    if (reading.stop.stop_requested()) return fail(Errc::cancelled, directory.native() + ": not read to its end");
    errno = 0;
    const dirent* entry = ::readdir(listing.get());
    if (!entry) break;
    bool regular = entry->d_type == DT_REG;
    if (entry->d_type == DT_UNKNOWN) {  // some file systems leave it to stat
      struct stat info{};
      regular =
          ::fstatat(::dirfd(listing.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode);
      errno = 0;
    }
    if (!regular) continue;
    names.add(entry->d_name);
    reading.files.store(names.size(), std::memory_order_relaxed);
  }
  if (errno != 0) return base::fail_errno(directory.native(), errno);
  return names;
}

}  // namespace imagecache::image_cache
