#include "volume_cache/backend_type.hpp"

#include "base/digest.hpp"

namespace imagecache::volume_cache {

std::string id_of_backend_type(const std::string& name) {
  const auto digest = base::sha256_hex("cinder-image-cache volume type " + name);
  if (!digest) return name;
  const std::string& hex = *digest;
  // A UUID of version 8: made by a rule of our own.
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-8" + hex.substr(13, 3) + "-a" + hex.substr(17, 3) + "-" +
         hex.substr(20, 12);
}

}  // namespace imagecache::volume_cache
