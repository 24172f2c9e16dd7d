// Which shares an NFS section has, and where each is mounted: what Cinder's remotefs.py makes of the same files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::backends {

struct ShareAddress {
  std::string address;                 ///< "host:/export", which Cinder keeps as provider_location
  std::optional<std::string> options;  ///< for mount: the rest of its line, e.g. "-o vers=4.2"
  bool operator==(const ShareAddress&) const = default;
};

/// May `address` be a share: something, ":/", something.
bool is_share_address(std::string_view address);

/// The text of nfs_shares_config: a share a line, "\040" for a blank in its name, the rest of the line mount options.
/// Empty lines, those with '#' in front and, as in Cinder, those that name no share are passed over; a share that is
/// named twice counts once, with its last options.
std::vector<ShareAddress> parse_shares(std::string_view text);

/// Where Cinder's mount client (os-brick's remotefs.py, get_mount_point) mounts it: the MD5 of its address in
/// hexadecimal, below nfs_mount_point_base.
Result<std::filesystem::path> mount_point_of(const std::filesystem::path& base, std::string_view address);

}  // namespace imagecache::backends
