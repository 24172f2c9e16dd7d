#include "image_cache/eviction.hpp"

#include <string>

namespace imagecache::image_cache {

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name, std::uint64_t capacity_bytes) {
  if (name == "lru") return make_lru();
  if (name == "s3fifo") return make_s3fifo(capacity_bytes);
  if (name == "gdsf") return make_gdsf();
  return fail(Errc::invalid_argument, "eviction_policy '" + std::string(name) + "': use lru, s3fifo or gdsf");
}

}  // namespace imagecache::image_cache
