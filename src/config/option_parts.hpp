// The table of options in parts, one file for each topic; options() puts them together once. Private to the room.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "config/options.hpp"

namespace imagecache::config {

inline constexpr std::int64_t day_s = 86400;
inline constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
inline constexpr std::int64_t int64_max = std::numeric_limits<std::int64_t>::max();

std::span<const Option> service_options();
std::span<const Option> origin_options();
std::span<const Option> image_cache_options();
std::span<const Option> volumes_options();
std::span<const Option> conversion_options();
std::span<const Option> paste_options();
std::span<const Option> policy_options();
std::span<const Option> keystone_options();
std::span<const Option> messaging_options();
std::span<const Option> backend_options();

}  // namespace imagecache::config
