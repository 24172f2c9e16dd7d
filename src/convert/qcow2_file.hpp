// A qcow2 disk, read by us. Private to the room.
#pragma once

#include <memory>

#include "base/fd.hpp"
#include "convert/data_runs.hpp"
#include "convert/inspect.hpp"

namespace imagecache::convert {

/// Header and L1 table are read again and checked again; every L2 entry is checked when it is used.
Result<std::unique_ptr<ImageFile>> open_qcow2(base::Fd fd, const Inspection& inspection, const ConvertOptions& options);

}  // namespace imagecache::convert
