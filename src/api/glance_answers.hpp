// Answers in glance-api's own words and shapes, byte for byte, since clients and their tests compare them. Errors are
// webob's: HTML, JSON or plain text by the Accept header.
#pragma once

#include <string>
#include <string_view>

#include "api/json.hpp"
#include "base/request_context.hpp"
#include "http/server.hpp"
#include "imagecache/error.hpp"

namespace imagecache::api {

/// Who asks, for the log and for the origin: a fresh request id, the caller's token.
base::RequestContext image_context(const http::Exchange& exchange);

/// `explanation` and `detail` are plain text; they are escaped where HTML is asked for. 503 comes with Retry-After.
http::Response glance_error(unsigned status, std::string_view explanation, const http::Exchange& exchange,
                            const base::RequestContext& context, std::string_view detail = {});
http::Response glance_error(const Error& error, const http::Exchange& exchange, const base::RequestContext& context);
/// 405 with Allow.
http::Response glance_wrong_method(std::string_view allow, const http::Exchange& exchange,
                                   const base::RequestContext& context);
/// 401 with WWW-Authenticate, where `challenge` is not empty.
http::Response glance_unauthorized(const std::string& challenge, const http::Exchange& exchange,
                                   const base::RequestContext& context);
/// 202, 204 or 200 without a body.
http::Response glance_empty(unsigned status, const base::RequestContext& context);
http::Response glance_json(const Json& body, const base::RequestContext& context);

/// JSON as Python's json.dumps writes it: ", " and ": ", ASCII only.
std::string python_json(const Json& json);

}  // namespace imagecache::api
