// The volume type that each backend is, where no row of the catalog says another.
#pragma once

#include <string>

namespace imagecache::volume_cache {

/// Its id: the same on every start, made of the name.
std::string id_of_backend_type(const std::string& name);

}  // namespace imagecache::volume_cache
