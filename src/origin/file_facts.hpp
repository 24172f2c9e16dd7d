// What can be told of an image file from its name and its first bytes. Private to the room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::origin {

/// As much of a file's beginning as format_of() looks at.
inline constexpr std::size_t sniffed_bytes = 0x8000 + 2048;

/// The image's id: the name without its extension if that is a UUID (in lower case), else a version 5 UUID of the name.
std::string id_of_file(std::string_view file_name);

/// Glance's name of the format: by the first bytes, else by the extension, else "raw". A claim, as Glance's is.
std::string format_of(std::string_view file_name, std::span<const std::byte> beginning);

/// The size of the disk in it, where the beginning says: of raw the file's own, of qcow2 and vdi the header's.
std::optional<std::uint64_t> virtual_size_of(std::string_view format, std::span<const std::byte> beginning,
                                             std::uint64_t file_bytes);

/// "2026-11-22T21:56:06.501236789Z".
std::string iso8601_of_ns(std::int64_t ns_since_epoch);

}  // namespace imagecache::origin
