#include "api/errors.hpp"

#include <utility>

namespace imagecache::api {
namespace {

std::string_view fault_name(unsigned status) {
  switch (status) {
    case 400:
      return "badRequest";
    case 401:
      return "unauthorized";
    case 403:
      return "forbidden";
    case 404:
      return "itemNotFound";
    case 405:
      return "badMethod";
    case 409:
      return "conflictingRequest";
    case 413:
      return "overLimit";
    case 415:
      return "badMediaType";
    case 501:
      return "notImplemented";
    case 503:
      return "serviceUnavailable";
    default:
      return "computeFault";
  }
}

Reply coded_error(const Error& error, Json body) {
  Reply reply = json_reply(http_status(error.code), Json{{"error", std::move(body)}});
  if (reply.status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

}  // namespace

Reply json_reply(unsigned status, const Json& json) {
  Reply reply;
  reply.status = status;
  reply.body = dump(json);
  return reply;
}

Reply empty_reply(unsigned status) {
  Reply reply;
  reply.status = status;
  reply.content_type.clear();
  return reply;
}

unsigned http_status(Errc code) {
  switch (code) {
    case Errc::invalid_argument:
    case Errc::unacceptable_image:
      return 400;
    case Errc::unauthenticated:
      return 401;
    case Errc::forbidden:
      return 403;
    case Errc::not_found:
      return 404;
    case Errc::already_exists:
    case Errc::conflict:
    case Errc::cancelled:
      return 409;
    case Errc::quota_exceeded:
      return 413;
    case Errc::unsupported:
      return 501;
    case Errc::busy:
    case Errc::unavailable:
      return 503;
    case Errc::timeout:
      return 504;
    case Errc::no_space:
      return 507;
    case Errc::corrupt:
    case Errc::internal:
      return 500;
  }
  return 500;
}

Reply fault(unsigned status, std::string_view message) {
  Json inner{{"code", status}, {"message", std::string(message)}};
  if (status == 413) inner["retryAfter"] = "0";
  Reply reply = json_reply(status, Json{{std::string(fault_name(status)), std::move(inner)}});
  if (status == 413) reply.headers.emplace_back("Retry-After", "0");
  if (status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

Reply fault(const Error& error) {
  if (error.code == Errc::unauthenticated) {
    const Json inner{
        {"code", 401}, {"title", "Unauthorized"}, {"message", "The request you have made requires authentication."}};
    Reply reply = json_reply(401, Json{{"error", inner}});
    reply.headers.emplace_back("WWW-Authenticate", "Keystone");
    return reply;
  }
  return fault(error.code == Errc::conflict ? 400U : http_status(error.code), error.message);
}

Reply management_error(const Error& error) {
  return coded_error(error, Json{{"code", std::string(to_string(error.code))}, {"message", error.message}});
}

Reply hook_error(const Error& error) {
  return coded_error(error, Json{{"code", std::string(to_string(error.code))},
                                 {"message", error.message},
                                 {"fallback", error.code != Errc::unacceptable_image}});
}

}  // namespace imagecache::api
