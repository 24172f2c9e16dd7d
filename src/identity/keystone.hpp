// Keystone: who the bearer of a token is, and tokens of our own.
//
// Both classes block on HTTP and are called on a BlockingPool, from many of its threads at once. No token is ever
// logged or kept in plain: what is remembered is keyed by its SHA-256.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "identity/identity.hpp"

namespace imagecache::identity {

/// How to reach Keystone and as whom, from [keystone_authtoken] or [service_user] (keystoneauth's password plugin, v3;
/// application credentials where their id is set).
struct KeystoneCredentials {
  std::string auth_url;  ///< with or without /v3
  std::string username, user_id, password;
  std::string user_domain_name, user_domain_id;
  std::string project_name, project_id, project_domain_name, project_domain_id;
  std::string system_scope;
  std::string application_credential_id, application_credential_secret;
  bool insecure = false;
  std::string ca_file, cert_file, key_file;
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds request_timeout{20000};
  unsigned max_retries = 3;  ///< http_request_max_retries: further attempts where Keystone cannot be reached
};

/// Tokens of the service's own. One request to Keystone however many ask at once; a token is renewed well before it
/// expires.
class ServiceToken {
 public:
  explicit ServiceToken(KeystoneCredentials credentials);
  ~ServiceToken();
  /// Errc::unavailable if Keystone cannot be asked, unauthenticated if it does not know us.
  Result<std::string> get();
  /// After somebody refused it: the next get() asks for another.
  void refused(const std::string& token);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct KeystoneOptions {
  KeystoneCredentials credentials;
  std::string www_authenticate_uri;            ///< for WWW-Authenticate; empty: auth_url
  std::chrono::seconds token_cache_time{300};  ///< how long an answer is believed; 0: each request asks
  std::size_t token_cache_entries = 100000;    ///< the oldest go first
  std::vector<std::string> service_token_roles = {"service"};
  bool service_token_roles_required = false;
};

/// The checks of keystonemiddleware.auth_token: GET /v3/auth/tokens with our own token. A token without a project,
/// expired or unknown is Errc::unauthenticated (never remembered as good, remembered as bad for a moment); Keystone
/// away is Errc::unavailable. Nothing that the client says of himself beside his token is believed. `tokens` outlives
/// it.
std::unique_ptr<Authenticator> make_keystone(KeystoneOptions options, ServiceToken& tokens);

}  // namespace imagecache::identity
