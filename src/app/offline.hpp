// The image cache without the daemon: for the command line, and for cron while the service is stopped.
#pragma once

#include "cli/images_door.hpp"

namespace imagecache::app {

/// A cli::OfflineFunction. Takes the state directory's lock, opens the cache as the service would, does one thing and
/// closes it. Blocks for as long as that takes, which for downloads may be hours: the service cannot start meanwhile. A
/// process that is killed at it leaves nothing that the next start does not mend.
Result<cli::ImagesReport> work_offline(const config::Config& config, const cli::ImagesRequest& request);

}  // namespace imagecache::app
