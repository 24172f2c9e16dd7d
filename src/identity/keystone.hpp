// Keystone: who the bearer of a token is, and tokens of our own.
//
// Both classes block on HTTP and are called on a BlockingPool, from many of its threads at once. No token is ever
// logged or kept in plain: what is remembered is keyed by its SHA-256.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "identity/identity.hpp"

namespace imagecache::identity {

/// How to reach Keystone and as whom, from [keystone_authtoken] or [service_user] (keystoneauth's password plugin, v3;
/// application credentials where their id is set).
struct KeystoneCredentials {
  std::string auth_url;  ///< with or without /v3
  std::string username, user_id, password;
  std::string user_domain_name, user_domain_id;
  std::string project_name, project_id, project_domain_name, project_domain_id;
  std::string system_scope;  ///< "all", in place of a project
  std::string application_credential_id, application_credential_secret;
  bool insecure = false;
  std::string ca_file, cert_file, key_file;
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds request_timeout{20000};
  unsigned max_retries = 3;  ///< http_request_max_retries: further attempts where it cannot be reached
  std::chrono::milliseconds retry_delay{500};  ///< before the first of them; doubles, up to 4 s
  std::size_t max_answer_bytes = 1 << 20;
};

/// Errc::invalid_argument with a sentence that says what is missing, for `section` of the configuration. Asks nobody.
Result<void> check_credentials(const KeystoneCredentials& credentials, const std::string& section);

/// Tokens of the service's own. One request to Keystone however many ask at once; a token is renewed when three
/// quarters of its life are over (and two minutes before its end at the latest), and used on while Keystone is away.
class ServiceToken {
 public:
  /// `clock`: null for the system's; else it outlives this.
  explicit ServiceToken(KeystoneCredentials credentials, const base::Clock* clock = nullptr);
  ~ServiceToken();
  ServiceToken(const ServiceToken&) = delete;
  ServiceToken& operator=(const ServiceToken&) = delete;

  /// Errc::unavailable if Keystone cannot be asked, unauthenticated if it does not know us; the latter is believed for
  /// some seconds, so that a wrong password does not lock the account.
  Result<std::string> get();
  /// Of the token that is there; empty before the first get() and of a system's.
  std::string project_id() const;
  /// After somebody refused it: the next get() asks for another, unless this one is only some seconds old.
  void refused(const std::string& token);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The project that `token` is of, as Keystone tells the token's own bearer; empty of a system's. Only where Keystone
/// is, and how it is spoken to, counts in `where`. Errc::unauthenticated if the token is not good (any more),
/// unavailable.
Result<std::string> project_of_token(const KeystoneCredentials& where, const std::string& token);

struct KeystoneOptions {
  KeystoneCredentials credentials;             ///< where Keystone is; as whom we ask it is `tokens`' matter
  std::string www_authenticate_uri;            ///< for WWW-Authenticate; empty: auth_url
  std::chrono::seconds token_cache_time{300};  ///< how long an answer is believed; 0: each request asks
  std::size_t token_cache_entries = 100000;    ///< those that were not used for longest go first
  std::chrono::seconds bad_token_memory{10};   ///< how long a refusal is believed, at most token_cache_time
  std::size_t bad_token_entries = 10000;
  std::size_t max_token_bytes = 8192;  ///< a longer one is refused unasked
  std::vector<std::string> service_token_roles = {"service"};
  bool service_token_roles_required = false;
  const base::Clock* clock = nullptr;  ///< null: the system's; else it outlives the Authenticator
};

/// The checks of keystonemiddleware.auth_token: GET /v3/auth/tokens with our own token. A token with neither project
/// nor system, expired or unknown is Errc::unauthenticated (never remembered as good, remembered as bad for a moment);
/// Keystone away, or not willing to answer us, is Errc::unavailable. Nothing that the client says of himself beside his
/// tokens is believed. A service token (X-Service-Token) must be good where there is one; one that has a role of
/// service_token_roles lets an expired user token pass, as long as Keystone itself still accepts it. Tokens bound to
/// Kerberos and application credentials with access rules, which bind to what is not seen here, are refused.
///
/// However many requests bring a token at once, Keystone is asked once. is_admin is "has the role admin". `tokens`
/// outlives it.
std::unique_ptr<Authenticator> make_keystone(KeystoneOptions options, ServiceToken& tokens);

}  // namespace imagecache::identity
