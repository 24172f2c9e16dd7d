#include "app/state_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::app {
namespace {

/// "process 4711 (cinder-image-cache serve)", as /proc tells; "another process" where it does not.
std::string holder_of(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return "another process";
  const auto file = fmt::format("{:02x}:{:02x}:{}", major(info.st_dev), minor(info.st_dev), info.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    // "1: FLOCK  ADVISORY  WRITE 4711 fd:01:123456 0 EOF"
    std::istringstream words(line);
    std::string number, kind, manner, mode, pid, where;
    if (!(words >> number >> kind >> manner >> mode >> pid >> where) || kind != "FLOCK" || where != file) continue;
    std::ifstream command("/proc/" + pid + "/cmdline");
    std::string name((std::istreambuf_iterator<char>(command)), {});
    std::ranges::replace(name, '\0', ' ');
    constexpr std::size_t longest = 120;
    name = base::trim(name).substr(0, longest);
    return "process " + pid + (name.empty() ? "" : " (" + name + ")");
  }
  return "another process";
}

}  // namespace

Result<base::Fd> lock_state(const std::string& state_path) {
  IMAGECACHE_CHECK(base::make_directories(state_path));
  const std::string path = state_path + "/lock";
  IMAGECACHE_TRY(base::Fd fd, base::open_file(path, O_RDWR | O_CREAT));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::conflict, fmt::format("{}: {} holds this state directory (its lock is {}); stop it, or give this "
                                            "one another state_path",
                                            state_path, holder_of(fd.get()), path));
  }
  return fd;
}

Result<std::string> state_id(const std::string& state_path) {
  const std::string path = state_path + "/id";
  const auto known = base::read_small_file(path);
  if (!known && known.error().code != Errc::not_found) return std::unexpected(known.error());
  if (std::string id(base::trim(known.value_or(""))); base::is_uuid(id)) return id;
  std::string id = base::new_uuid();
  IMAGECACHE_CHECK(base::write_file_atomically(path, id + "\n"));
  return id;
}

}  // namespace imagecache::app
