#include "image_cache/lock_file.hpp"

#include <fcntl.h>

#include <cerrno>
#include <thread>

#include "base/try.hpp"

namespace imagecache::image_cache {

Result<base::Fd> hold_lock_file(const std::filesystem::path& path, std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds pause{20};
  IMAGECACHE_TRY(base::Fd file, base::open_file(path, O_RDWR | O_CREAT));
  const auto until = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    // A lock of the open file, not of the process: it excludes lockf() of others just the same, and two threads of ours
    // as well.
    struct flock whole{};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(file.get(), F_OFD_SETLK, &whole) == 0) return file;
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) return base::fail_errno(path.native(), errno);
    if (std::chrono::steady_clock::now() >= until) {
      return fail(Errc::busy,
                  path.native() + ": another program has held this lock for too long; see which with lslocks");
    }
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace imagecache::image_cache
