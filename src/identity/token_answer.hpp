// What Keystone says of a token. Private to the room.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/request_context.hpp"
#include "imagecache/error.hpp"

namespace imagecache::identity {

struct TokenAnswer {
  base::RequestContext who;  ///< without request id and token
  base::WallTime expires_at;
  std::optional<base::WallTime> issued_at;
  bool bound_elsewhere = false;  ///< to Kerberos or to access rules, neither of which is checked here
};

/// The body of POST or GET /v3/auth/tokens. Errc::unavailable if that is not what it is.
Result<TokenAnswer> parse_token_answer(const std::string& body);
/// "2026-11-22T21:56:06.000000Z".
std::optional<base::WallTime> parse_keystone_time(std::string_view text);

}  // namespace imagecache::identity
