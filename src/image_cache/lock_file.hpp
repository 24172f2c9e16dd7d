// A lock of oslo.concurrency's kind, held with glance-api and its tools: a file named after the work, an exclusive
// POSIX lock on it, the file left in place (to remove it would let two hold "the" lock).
#pragma once

#include <chrono>
#include <filesystem>

#include "base/fd.hpp"

namespace imagecache::image_cache {

/// Makes the file if need be and holds its lock until the descriptor is closed. Blocks; tries for `timeout` at most,
/// then Errc::busy.
Result<base::Fd> hold_lock_file(const std::filesystem::path& path, std::chrono::milliseconds timeout);

}  // namespace imagecache::image_cache
