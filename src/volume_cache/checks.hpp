// What is decided about a create without asking anybody: is the request sound, may this image become a volume of that
// size, what is the volume called, what does it tell of its image. Pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"
#include "origin/origin.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::volume_cache {

/// The volume's id, size and name, as far as they can be judged alone. The largest size is what fits 2^63 bytes.
Result<void> check_request(const CreateRequest& request);
/// Cinder's checks of an image's claims, in Cinder's order and words.
Result<void> check_image(const origin::ImageInfo& image, std::uint64_t size_gb);
/// An image with any of the properties img_signature… (Cinder's `verify_glance_signatures`: these four, all of them or
/// none) is one that Cinder verifies with a certificate from the key manager. There is none here: Errc::unsupported.
Result<void> check_unsigned(const origin::ImageInfo& image);
/// What volume_image_metadata says of a volume made from this image.
std::map<std::string, std::string> image_metadata(const origin::ImageInfo& image);

/// By what image-volumes are found: the image's content, and what it is claimed to be, since the claim decides what the
/// bytes mean as a disk. Two images share an image-volume only if both agree.
/// With `by_updated_at` an image shares with no other, nor with itself once it was changed in any way.
std::string image_volume_key(const origin::ImageInfo& image, bool by_updated_at = false);

/// `volume_name_template` with the id in the place of its "%s".
std::string fill_template(std::string_view name_template, std::string_view id);
/// The uuid in a name that the template could have made.
std::optional<std::string> id_in_name(std::string_view name_template, std::string_view name);

/// "Volume <id> could not be found."
std::string volume_not_found(std::string_view id);

}  // namespace imagecache::volume_cache
