// Answers, and how a failure becomes one: the only place where an Errc meets a status code and a body.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/json.hpp"
#include "http/server.hpp"
#include "imagecache/error.hpp"

namespace imagecache::api {

/// What a handler returns; what is common to all answers of an API (request id, version) is added to it.
struct Reply {
  unsigned status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<http::Header> headers;
};

Reply json_reply(unsigned status, const Json& json);
/// No body, no content type.
Reply empty_reply(unsigned status);

/// The status of a failure where no API says otherwise, as error.hpp lists them.
unsigned http_status(Errc code);

/// Cinder's fault: {"itemNotFound": {"code": 404, "message": …}}, with Retry-After where it is over a limit.
Reply fault(unsigned status, std::string_view message);
/// The same for a failure: as http_status(), but a conflict is 400, as Cinder has it, and 401 has keystonemiddleware's
/// body.
Reply fault(const Error& error);

/// Management API: {"error": {"code": "not_found", "message": …}}.
Reply management_error(const Error& error);

/// Driver hook: the same with "fallback": false only where Cinder must not make the volume itself, that is where the
/// image is malformed, hostile or too large for the volume.
Reply hook_error(const Error& error);

}  // namespace imagecache::api
