// Volume types as callers see them: the catalog's rows, and each backend as a type of its own name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/json.hpp"
#include "base/request_context.hpp"
#include "catalog/catalog.hpp"
#include "volume_cache/backend_type.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {

/// Blocks. What a list shows: the rows; where there are none, one type per backend, named by its volume_backend_name.
Result<std::vector<catalog::VolumeType>> visible_types(volume_cache::VolumeCache& volumes);

/// Blocks. By name or id; also a backend's own type where rows exist, since requests may still name it.
Result<std::optional<catalog::VolumeType>> find_type(volume_cache::VolumeCache& volumes, const std::string& name_or_id);

/// Blocks. `default_name`, else the type of the first backend.
Result<std::optional<catalog::VolumeType>> default_type(volume_cache::VolumeCache& volumes,
                                                        const std::string& default_name);

using volume_cache::id_of_backend_type;

/// Which answer it is for: Cinder's keys differ, and clients' schemas forbid those that they do not know.
enum class TypeDetail { shown, created, updated };

/// The object inside {"volume_type": …}.
Json type_view(const catalog::VolumeType& type, bool is_admin, TypeDetail detail = TypeDetail::shown);

/// May this caller use it? Public, his project has access, or he is an administrator. The type that a backend is by
/// itself is for everybody only while there are no rows, as in visible_types(). Blocks.
Result<bool> may_use(volume_cache::VolumeCache& volumes, const base::RequestContext& who,
                     const catalog::VolumeType& type);

}  // namespace imagecache::api
