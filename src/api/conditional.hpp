// Conditional requests (RFC 9110 §13) on an image's file. Its entity tag is the image's own hash, so that it is the
// same whoever serves the file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/server.hpp"
#include "origin/origin.hpp"

namespace imagecache::api {

/// `"<os_hash_value>"`, else `"<checksum>"`, else empty: then nothing can be said about sameness.
std::string entity_tag(const origin::ImageInfo& info);

enum class Precondition {
  none,          ///< go on
  not_modified,  ///< If-None-Match has it: 304
  failed,        ///< If-Match has it not: 412
};

/// Dates are not looked at: an image's file has no Last-Modified.
Precondition check_preconditions(const std::vector<http::Header>& headers, std::string_view tag);

/// May the Range header be followed? If-Range must be absent or be this very tag.
bool range_holds(std::string_view if_range, std::string_view tag);

/// Is `tag` in a list such as `"a", W/"b"`, or is the list `*`? Weak comparison takes W/ for equal. What is malformed
/// ends the list.
bool tag_listed(std::string_view list, std::string_view tag, bool weak);

}  // namespace imagecache::api
