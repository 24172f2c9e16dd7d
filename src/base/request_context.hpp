// On whose behalf a piece of work is done: made once where a request comes in, handed down by reference or copy.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imagecache::base {

struct RequestContext {
  std::string request_id;         ///< ours, "req-<uuid>": in logs, in the answer, sent upstream
  std::string global_request_id;  ///< the client's X-Openstack-Request-Id, if it was well formed; else empty
  std::string auth_token;         ///< the caller's X-Auth-Token, passed to the origin as it came; never logged
  std::string service_token;  ///< X-Service-Token beside it, likewise: the origin may then take an expired auth_token
  std::string user_id;
  std::string project_id;
  std::string user_domain_id, project_domain_id;
  std::string system_scope;        ///< "all" for a token of the system
  std::vector<std::string> roles;  ///< lower-case
  bool is_admin = false;
  /// No credential names project_id, it is a default: the project of a URL may take its place (noauth only).
  bool project_is_default = false;
};

/// A context with a fresh request id and no caller: for work that the service does on its own account.
RequestContext internal_context();
/// "req-" followed by a lower-case uuid, which is all that oslo.middleware accepts from a client.
bool is_request_id(std::string_view text);

}  // namespace imagecache::base
