// A volume as the Block Storage API shows it: exactly Cinder's keys for a version, no more and no fewer, because
// clients' schemas forbid what they do not know.
#pragma once

#include <string>

#include "api/json.hpp"
#include "api/microversion.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::api {

/// create and update answer with `brief`; show and the detail list add the os-* attributes and image metadata.
enum class VolumeDetail { brief, full };

struct VolumeViewOptions {
  Microversion version;
  VolumeDetail detail = VolumeDetail::full;
  bool is_admin = true;
  std::string base_url;        ///< "http://host:port"
  std::string project_in_url;  ///< the request's project if its URL named one, else empty
  std::string volume_type_id;  ///< empty: shown as null
};

/// The object inside {"volume": …}.
Json volume_view(const catalog::Volume& volume, const VolumeViewOptions& options);
/// id, name and links, as the short list has it.
Json volume_summary_view(const catalog::Volume& volume, const VolumeViewOptions& options);

/// null if `time` was never set; else with microseconds and without a zone.
Json time_or_null(base::WallTime time);

}  // namespace imagecache::api
