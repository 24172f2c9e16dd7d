// A raw disk in a file. Private to the room.
#pragma once

#include <memory>

#include "base/fd.hpp"
#include "convert/data_runs.hpp"
#include "convert/inspect.hpp"

namespace imagecache::convert {

/// `inspection.virtual_size_bytes` of `fd`, which holds at least as many.
Result<std::unique_ptr<ImageFile>> open_raw(base::Fd fd, const Inspection& inspection, const ConvertOptions& options);

}  // namespace imagecache::convert
