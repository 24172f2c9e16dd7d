// What a directory of the cache holds. Blocks.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::image_cache {

struct FoundFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t allocated_bytes = 0;  // never less than bytes
  double mtime = 0;
};

/// What a file takes on disk: a part's blocks are there before its bytes.
std::uint64_t allocated_bytes(const struct stat& status);

/// Regular files directly in a directory.
Result<std::vector<FoundFile>> files_in(const std::filesystem::path& directory);

}  // namespace imagecache::image_cache
