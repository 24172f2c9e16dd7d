// A volume that is a file, or a block device, read as one: for drivers whose volumes are such.
#pragma once

#include <memory>

#include "base/fd.hpp"
#include "imagecache/types.hpp"

namespace imagecache::base {

/// `fd` is open for reading. `share` says that its blocks may be shared by reflink (VolumeReader::raw_fd).
Result<std::unique_ptr<VolumeReader>> read_volume_file(Fd fd, std::string name, bool share);

}  // namespace imagecache::base
