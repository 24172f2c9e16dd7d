// Volumes, image-volumes and types as rows: the columns in the order in which they are read and written. Private to the
// room.
#pragma once

#include <string>

#include "catalog/connection.hpp"

namespace imagecache::catalog {

extern const std::string volume_columns;        ///< 25 of them, read by read_volume, bound by bind_volume
extern const std::string image_volume_columns;  ///< 16, likewise
extern const std::string volume_type_columns;   ///< 5, likewise
extern const std::string message_columns;       ///< 10, likewise

Volume read_volume(const Query& row);
ImageVolume read_image_volume(const Query& row);
VolumeType read_volume_type(const Query& row);
Message read_message(const Query& row);

void bind_volume(Query& query, const Volume& volume);
void bind_image_volume(Query& query, const ImageVolume& image_volume);
void bind_volume_type(Query& query, const VolumeType& type);
void bind_message(Query& query, const Message& message);

/// "?1, ?2, … ?count".
std::string places(int count);

/// Keys and values as one JSON object, which people can read in the file. Text that is not UTF-8 is made so.
std::string to_json(const std::map<std::string, std::string>& values);
std::map<std::string, std::string> from_json(const std::string& text);
/// "": none.
std::string attachment_to_json(const std::optional<Attachment>& attachment);

}  // namespace imagecache::catalog
