// Finding a volume for a caller: what is another project's is not there.
#pragma once

#include <string>

#include "api/call.hpp"
#include "api/volume_view.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::api {

struct FoundVolume {
  catalog::Volume volume;
  std::string type_id;  ///< empty if the type is gone
};

/// Blocks. Errc::not_found with Cinder's message where the row is absent or neither the caller's nor an admin's to see.
Result<FoundVolume> find_volume_blocking(ApiContext& api, const base::RequestContext& who, const std::string& id);

/// By the path's {volume_id}.
base::Task<Result<FoundVolume>> find_volume(Call& call);

VolumeViewOptions view_options(const Call& call, VolumeDetail detail, std::string type_id);

/// {"volume": …}
Reply volume_reply(const Call& call, unsigned status, const FoundVolume& found, VolumeDetail detail);

}  // namespace imagecache::api
