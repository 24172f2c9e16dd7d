#include "app/login.hpp"

#include "app/identities.hpp"
#include "base/log.hpp"
#include "base/try.hpp"
#include "config/pipeline.hpp"
#include "identity/keystone.hpp"

namespace imagecache::app {
namespace {

constexpr const char* what_to_give =
    "give --os-token, or OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME in "
    "the environment, or [service_user] in the configuration";

identity::KeystoneCredentials credentials_of(const cli::KeystoneLogin& login) {
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
  return credentials;
}

Result<cli::LoggedIn> of_a_user(const cli::KeystoneLogin& login) {
  auto credentials = credentials_of(login);
  if (auto complete = identity::check_credentials(credentials, "OS_*"); !complete) {
    return fail(complete.error().code,
                "the environment's OS_* variables name nobody who could ask for a token: " + complete.error().message);
  }
  identity::ServiceToken account(std::move(credentials));
  auto token = account.get();
  if (!token && token.error().code == Errc::unauthenticated) {
    return fail(Errc::unauthenticated,
                "Keystone at " + login.auth_url +
                    " gives no token for the OS_* variables' user, password and project: look at "
                    "OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and their domains");
  }
  if (!token) {
    return fail(token.error().code, "no token for the OS_* variables' user: " + token.error().message +
                                        "; is OS_AUTH_URL (" + login.auth_url + ") right, and Keystone up?");
  }
  return cli::LoggedIn{.token = std::move(*token), .project_id = account.project_id()};
}

Result<bool> checks_tokens(const config::Config& config) {
  if (config.get_string("DEFAULT", "auth_strategy") != "noauth") return true;
  IMAGECACHE_TRY(const auto pipeline, config::image_pipeline(config));
  return pipeline.known && pipeline.checks_tokens;
}

/// What goes wrong is the command's to say, in its own words and once.
void only_errors_are_logged() {
  static_cast<void>(base::log::setup({.level = base::log::Level::error, .log_file = {}}));
}

}  // namespace

Result<cli::LoggedIn> log_in(const config::Config* config, const std::optional<cli::KeystoneLogin>& login) {
  only_errors_are_logged();
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

Result<std::string> project_of(const config::Config* config, const std::optional<cli::KeystoneLogin>& login,
                               const std::string& token) {
  only_errors_are_logged();
  std::optional<identity::KeystoneCredentials> where;
  if (login) where = credentials_of(*login);
  if (!where && config != nullptr) {
    IMAGECACHE_TRY(const bool needed, checks_tokens(*config));
    if (!needed) return std::string();
    where = where_keystone_is(*config);
  }
  const std::string otherwise = "; name the project with --os-project-id or OS_PROJECT_ID";
  if (!where) {
    return fail(Errc::invalid_argument,
                "of which project the token is cannot be known without OS_AUTH_URL" + otherwise);
  }
  where->max_retries = 0;
  auto project = identity::project_of_token(*where, token);
  if (!project && project.error().code == Errc::unauthenticated) {
    return fail(Errc::unauthenticated,
                project.error().message + ": it is wrong, has expired or was revoked; " + what_to_give);
  }
  if (!project) return fail(project.error().code, project.error().message + otherwise);
  if (project->empty()) return fail(Errc::invalid_argument, "the token is of no project" + otherwise);
  return project;
}

}  // namespace imagecache::app
