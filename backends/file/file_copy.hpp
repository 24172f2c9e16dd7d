// Moving a file's content: sharing its blocks, copying only what is data, counting how scattered it is.
#pragma once

#include <cstdint>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::backends {

/// ioctl FICLONE: `target` shares all of `source`'s blocks. Errc::unsupported where the file system cannot, or not
/// between these two.
Result<void> reflink(int source, int target, std::string_view name_for_errors);

/// Copies `source`'s runs of data into `target`, which is all zeroes and at least as large; holes stay holes. Not
/// synced.
Result<void> copy_data_runs(int source, int target, std::uint64_t source_size_bytes, std::string_view name_for_errors);

/// How many extents the file has, which is what cloning it costs. Flushes it. Errc::unsupported without FIEMAP.
Result<std::uint64_t> count_extents(int fd, std::string_view name_for_errors);

}  // namespace imagecache::backends
