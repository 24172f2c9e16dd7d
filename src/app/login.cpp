#include "app/login.hpp"

#include "app/identities.hpp"
#include "base/try.hpp"
#include "config/pipeline.hpp"
#include "identity/keystone.hpp"

namespace imagecache::app {
namespace {

constexpr const char* what_to_give =
    "give --os-token, or OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME in "
    "the environment, or [service_user] in the configuration";

Result<cli::LoggedIn> of_a_user(const cli::KeystoneLogin& login) {
  identity::KeystoneCredentials credentials;
  credentials.auth_url = login.auth_url;
  credentials.username = login.username;
  credentials.user_id = login.user_id;
  credentials.password = login.password;
  credentials.user_domain_name = login.user_domain_name;
  credentials.user_domain_id = login.user_domain_id;
  credentials.project_name = login.project_name;
  credentials.project_id = login.project_id;
  credentials.project_domain_name = login.project_domain_name;
  credentials.project_domain_id = login.project_domain_id;
  credentials.system_scope = login.system_scope;
  credentials.application_credential_id = login.application_credential_id;
  credentials.application_credential_secret = login.application_credential_secret;
  credentials.insecure = login.insecure;
  credentials.ca_file = login.ca_file;
  credentials.cert_file = login.cert_file;
  credentials.key_file = login.key_file;
  credentials.max_retries = 0;  // somebody waits at a terminal
  // As the other clients have it.
  if (credentials.user_domain_name.empty() && credentials.user_domain_id.empty())
    credentials.user_domain_id = "default";
  if (credentials.project_domain_name.empty() && credentials.project_domain_id.empty()) {
    credentials.project_domain_id = "default";
  }
  if (auto complete = identity::check_credentials(credentials, "OS_*"); !complete) {
    return fail(complete.error().code,
                "the environment's OS_* variables name nobody who could ask for a token: " + complete.error().message);
  }
  identity::ServiceToken account(std::move(credentials));
  auto token = account.get();
  if (!token && token.error().code == Errc::unauthenticated) {
    return fail(Errc::unauthenticated,
                "Keystone at " + login.auth_url + " gives no token for the OS_* variables' user, password and project");
  }
  if (!token) return std::unexpected(std::move(token).error());
  return cli::LoggedIn{.token = std::move(*token), .project_id = account.project_id()};
}

Result<bool> checks_tokens(const config::Config& config) {
  if (config.get_string("DEFAULT", "auth_strategy") != "noauth") return true;
  IMAGECACHE_TRY(const auto pipeline, config::image_pipeline(config));
  return pipeline.known && pipeline.checks_tokens;
}

}  // namespace

Result<cli::LoggedIn> log_in(const config::Config* config, const std::optional<cli::KeystoneLogin>& login) {
  if (login) return of_a_user(*login);
  if (config == nullptr) return cli::LoggedIn();
  IMAGECACHE_TRY(const bool needed, checks_tokens(*config));
  if (!needed) return cli::LoggedIn();
  const auto account = service_token(*config);
  if (!account) return fail(Errc::unauthenticated, std::string("the daemon checks tokens: ") + what_to_give);
  auto token = account->get();
  if (!token) {
    return fail(token.error().code,
                "no token for the service's own account: " + token.error().message + "; " + what_to_give);
  }
  return cli::LoggedIn{.token = std::move(*token), .project_id = account->project_id()};
}

}  // namespace imagecache::app
