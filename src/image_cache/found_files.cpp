#include "image_cache/found_files.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <system_error>

namespace imagecache::image_cache {

namespace fs = std::filesystem;

std::uint64_t allocated_bytes(const struct stat& status) {
  return static_cast<std::uint64_t>(std::max(status.st_size, status.st_blocks * 512));
}

Result<std::vector<FoundFile>> files_in(const fs::path& directory) {
  std::vector<FoundFile> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    struct stat status{};
    if (::lstat(it->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    found.push_back(
        {.name = it->path().filename().native(),
         .bytes = static_cast<std::uint64_t>(status.st_size),
         .allocated_bytes = allocated_bytes(status),
         .mtime = static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) / 1e9});
  }
  if (error) return fail(Errc::internal, directory.native() + ": " + error.message());
  return found;
}

}  // namespace imagecache::image_cache
