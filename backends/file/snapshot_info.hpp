// The file beside a volume in which Cinder's remotefs.py keeps what snapshots there are: "<volume>.info", JSON,
// {"active": "<file that is written to>", "<snapshot id>": "<its file>"…}. A volume with snapshots is a chain of qcow2
// files over the one that we know; Cinder's driver alone may change such a chain.
#pragma once

#include <optional>
#include <string>

#include "imagecache/types.hpp"

namespace imagecache::backends {

std::string snapshot_info_name(const VolumeId& volume);

/// The file that is written to now: the volume's own if there is no info (nullopt) or all snapshots are gone.
/// Errc::corrupt for what is not such a file.
Result<std::string> active_file(const VolumeId& volume, const std::optional<std::string>& info);

}  // namespace imagecache::backends
