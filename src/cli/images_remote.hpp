// The image cache through the daemon's API. Private to the room.
#pragma once

#include "cli/images_door.hpp"
#include "cli/session.hpp"

namespace imagecache::cli {

/// `timeout` is the longest wait of a prefetch.
Result<ImagesReport> ask_daemon(Session& session, const ImagesRequest& request, std::chrono::seconds timeout);

}  // namespace imagecache::cli
