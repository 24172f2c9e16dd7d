// qemu-img, for the formats that we do not read ourselves, as a child that can do little: two inherited descriptors,
// no environment, rlimits, a deadline, its own process group. Private to the room.
#pragma once

#include <memory>
#include <stop_token>

#include "base/fd.hpp"
#include "convert/inspect.hpp"
#include "convert/limits.hpp"
#include "imagecache/types.hpp"

namespace imagecache::convert {

/// See open_as_raw().
Result<std::unique_ptr<ImageFile>> open_by_qemu_img(base::Fd fd, const Inspection& inspection,
                                                    const ConvertOptions& options, std::stop_token stop);

}  // namespace imagecache::convert
