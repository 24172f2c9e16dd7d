// Does rbd_import_url lead to this service? Asked before the cluster is told of it: librbd waits without limit for an
// address that does not answer, and reads zeroes where another server says 404. Private to this driver.
#pragma once

#include <chrono>
#include <stop_token>

#include "imagecache/error.hpp"
#include "imagecache/types.hpp"

namespace imagecache::backends {

/// A range of the file must be its bytes, and a file that nobody has must be 410. Errc::unavailable if not, and the
/// reason names the URL without its secret and what was seen; Errc::timeout, Errc::cancelled. Blocks.
Result<void> check_import_url(const ImportSource& source, std::chrono::milliseconds limit, const std::stop_token& stop);

}  // namespace imagecache::backends
