// What all questions to Glance have in common: the headers that say who asks, and what its refusals mean. Private to
// the room.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/request_context.hpp"
#include "origin/curl_client.hpp"

namespace imagecache::origin {

/// Errc::unauthenticated for a token that cannot be one.
Result<std::vector<std::string>> glance_headers(const base::RequestContext& context, std::string accept);

/// Of an answer whose status is no success, with the reason that its body gives.
HttpFailure failure_of(const HttpHead& head, std::string_view body);

bool is_html(const HttpHead& head);

}  // namespace imagecache::origin
