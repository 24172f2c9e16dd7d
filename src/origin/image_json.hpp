// From Glance's JSON of an image to an ImageInfo. Private to the room.
#pragma once

#include <string>
#include <string_view>

#include "origin/origin.hpp"

namespace imagecache::origin {

/// Errc::unavailable, with what is wrong, for anything that is not the record of the image `image_id`: not JSON, not an
/// object, another id, a size that is no number, a digest that is no hexadecimal. The id is as the origin
/// writes it (it may compare without case). Never throws.
Result<ImageInfo> parse_image_json(std::string_view text, const std::string& image_id);

/// The ids in Glance's list of images; Errc::unavailable for what is none. Never throws.
Result<std::vector<std::string>> parse_image_ids(std::string_view text);

}  // namespace imagecache::origin
