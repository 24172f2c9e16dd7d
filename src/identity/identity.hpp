// Who is asking. One question to an Authenticator per request, before anything is done for it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/request_context.hpp"
#include "imagecache/error.hpp"

namespace imagecache::identity {

/// The request headers that bear on identity, as they came; empty where absent.
struct Presented {
  std::string_view auth_token;     ///< X-Auth-Token
  std::string_view request_id;     ///< X-Openstack-Request-Id
  std::string_view service_token;  ///< X-Service-Token
};

/// Any thread.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  /// The caller, with a fresh request id. Errc::unauthenticated if there is none. Blocks where blocks() says so.
  virtual Result<base::RequestContext> authenticate(const Presented& presented) const = 0;
  /// authenticate() may ask a server: call it on a pool unless remembered() knows the answer.
  virtual bool blocks() const { return false; }
  /// The answer, if it can be given without asking anybody. Never blocks.
  virtual std::optional<base::RequestContext> remembered(const Presented&) const { return std::nullopt; }
  /// The WWW-Authenticate header of a 401; empty: none.
  virtual std::string challenge() const { return {}; }
};

/// `auth_strategy = noauth` as in Cinder: "user:project" makes the caller admin of what it names, the project defaults
/// to the user, no token is user and project "admin"; the only role is "admin", which policies ask for. Where the token
/// names no project (openstackclient's auth type "none" sends "notused"), the project is a default only. Fit for
/// loopback and Unix sockets alone; the program refuses more.
std::unique_ptr<Authenticator> make_noauth();

/// For an address that cinder-volume alone reaches (hook_bind): whoever comes is an admin, named by nobody yet. A token
/// that he brings is his user's, for the origin to judge; nothing is read from it here.
std::unique_ptr<Authenticator> make_trusting();

/// Refuses everybody with Errc::unauthenticated and this reason.
std::unique_ptr<Authenticator> make_refusing(std::string reason);

}  // namespace imagecache::identity
