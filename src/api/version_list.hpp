// The list of versions that "/" and "/versions" answer, with the versions that the cache adds.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace imagecache::api {

/// `body` with v2.14, v2.16 and v2.18 among its versions, the highest of all CURRENT, and links that lead to
/// `origin_authority` ("glance:9292") leading to `own_authority` instead, and by https where the client came so.
/// nullopt where that would change nothing, or where the body is no such list: it is then passed on as it is.
std::optional<std::string> with_cache_versions(std::string_view body, std::string_view origin_authority,
                                               std::string_view own_authority, bool https = false);

}  // namespace imagecache::api
