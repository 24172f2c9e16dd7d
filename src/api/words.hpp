// The words in which other rooms' states are said to clients.
#pragma once

#include <string_view>

#include "imagecache/types.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {

std::string_view word(volume_cache::Outcome outcome);
std::string_view word(volume_cache::Phase phase);
std::string_view word(CloneSupport clone);

}  // namespace imagecache::api
