// How a call fails. Failures are values: a driver, and every room behind the SPI, returns Result<T> and does not throw.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace imagecache {

/// As many kinds as a caller can act upon; the message says the rest.
enum class Errc {
  invalid_argument,    ///< the caller asked for something that can never work (HTTP 400)
  unauthenticated,     ///< no or no valid token (401)
  forbidden,           ///< known, and not allowed (403)
  not_found,           ///< the named thing is not there, or not for this caller (404)
  already_exists,      ///< a thing of that name is there already (409)
  conflict,            ///< the thing is in a state that forbids the call (409; 400 where Cinder says 400)
  unacceptable_image,  ///< the image is malformed, hostile or does not fit the volume; never retried (400)
  corrupt,             ///< bytes are not what their digest or length says; what was stored is not to be trusted
  quota_exceeded,      ///< a quota refuses (413)
  no_space,            ///< ENOSPC, or a configured limit that eviction could not meet (507)
  busy,                ///< a limit of ours on work in flight is reached; try later (503)
  unavailable,         ///< the far side is down or says 503; try later
  timeout,             ///< a deadline passed (504)
  cancelled,           ///< the caller took the call back, or we are stopping
  unsupported,         ///< this driver or build cannot do that (501)
  internal,            ///< a system call or a library failed in a way nobody can act upon but by reading the message
};

/// The constant's own name, e.g. "not_found": for logs, metrics labels and the catalog.
std::string_view to_string(Errc code);

/// `message` reads from the thing to the reason: "volume-7d…: cannot clone: No space left on device".
struct Error {
  Errc code = Errc::internal;
  std::string message;
};

template <class T>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(Errc code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace imagecache
