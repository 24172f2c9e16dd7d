#include "backends/file/file_copy.hpp"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

namespace {

// For file systems and kernels that have no copy_file_range between these two files.
Result<void> copy_through_memory(int source, int target, std::uint64_t offset, std::uint64_t end,
                                 std::string_view name) {
  std::vector<std::byte> buffer(base::mib);
  while (offset < end) {
    const std::size_t want = std::min<std::uint64_t>(buffer.size(), end - offset);
    IMAGECACHE_TRY(const std::size_t got, base::read_at(source, std::span(buffer).first(want), offset, name));
    if (got == 0) return fail(Errc::corrupt, std::string(name) + ": the source became shorter while it was copied");
    IMAGECACHE_CHECK(base::write_all_at(target, std::span(buffer).first(got), offset, name));
    offset += got;
  }
  return {};
}

Result<void> copy_run(int source, int target, std::uint64_t offset, std::uint64_t end, std::string_view name) {
  while (offset < end) {
    auto from = static_cast<loff_t>(offset);
    auto to = static_cast<loff_t>(offset);
    const ssize_t n = ::copy_file_range(source, &from, target, &to, end - offset, 0);
    if (n > 0) {
      offset += static_cast<std::uint64_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    // Some file systems answer 0 where they mean "not like this"; reading tells a true end of file.
    if (n == 0 || errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS) {
      return copy_through_memory(source, target, offset, end, name);
    }
    return base::fail_errno(name, errno);
  }
  return {};
}

}  // namespace

Result<void> reflink(int source, int target, std::string_view name_for_errors) {
  while (::ioctl(target, FICLONE, source) != 0) {
    if (errno == EINTR) continue;
    // What "not here" looks like differs: ext4 EOPNOTSUPP, other devices EXDEV, old network file systems ENOTTY.
    if (errno == ENOTTY || errno == EINVAL) {
      return fail(Errc::unsupported, std::string(name_for_errors) + ": the file system cannot share blocks");
    }
    return base::fail_errno(name_for_errors, errno);
  }
  return {};
}

Result<void> copy_data_runs(int source, int target, std::uint64_t source_size_bytes, std::string_view name_for_errors) {
  std::uint64_t at = 0;
  while (at < source_size_bytes) {
    const off_t data = ::lseek(source, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // nothing but a hole up to the end
    if (data < 0) return base::fail_errno(name_for_errors, errno);
    const off_t hole = ::lseek(source, data, SEEK_HOLE);
    if (hole < 0) return base::fail_errno(name_for_errors, errno);
    const auto begin = static_cast<std::uint64_t>(data);
    const std::uint64_t end = std::min(static_cast<std::uint64_t>(hole), source_size_bytes);
    if (begin >= end) break;
    IMAGECACHE_CHECK(copy_run(source, target, begin, end, name_for_errors));
    at = end;
  }
  return {};
}

Result<std::uint64_t> count_extents(int fd, std::string_view name_for_errors) {
  struct fiemap map;
  std::memset(&map, 0, sizeof map);  // {} would name its zero-length array, which C++ has not
  map.fm_length = FIEMAP_MAX_OFFSET;
  map.fm_flags = FIEMAP_FLAG_SYNC;
  if (::ioctl(fd, FS_IOC_FIEMAP, &map) != 0) {
    if (errno == ENOTTY) return fail(Errc::unsupported, std::string(name_for_errors) + ": no FIEMAP here");
    return base::fail_errno(name_for_errors, errno);
  }
  return map.fm_mapped_extents;
}

}  // namespace imagecache::backends
