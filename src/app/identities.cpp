#include "app/identities.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/try.hpp"

namespace imagecache::app {
namespace {

constexpr std::string_view own = config::own_section;

identity::KeystoneCredentials credentials(const config::Settings& section) {
  identity::KeystoneCredentials made;
  made.auth_url = section.get_string("auth_url");
  made.username = section.get_string("username");
  made.user_id = section.get_string("user_id");
  made.password = section.get_string("password");
  made.user_domain_name = section.get_string("user_domain_name");
  made.user_domain_id = section.get_string("user_domain_id");
  made.project_name = section.get_string("project_name");
  made.project_id = section.get_string("project_id");
  made.project_domain_name = section.get_string("project_domain_name");
  made.project_domain_id = section.get_string("project_domain_id");
  made.system_scope = section.get_string("system_scope");
  made.application_credential_id = section.get_string("application_credential_id");
  made.application_credential_secret = section.get_string("application_credential_secret");
  made.insecure = section.get_bool("insecure");
  made.ca_file = section.get_string("cafile");
  made.cert_file = section.get_string("certfile");
  made.key_file = section.get_string("keyfile");
  if (const auto seconds = section.find_int("http_connect_timeout"))
    made.connect_timeout = std::chrono::seconds(*seconds);
  made.max_retries = static_cast<unsigned>(section.get_unsigned("http_request_max_retries"));
  return made;
}

bool names_a_user(const config::Settings& section) {
  return !section.get_string("auth_url").empty() &&
         !(section.get_string("username").empty() && section.get_string("user_id").empty() &&
           section.get_string("application_credential_id").empty());
}

std::unique_ptr<identity::Authenticator> keystone(const config::Config& config,
                                                  std::unique_ptr<identity::ServiceToken>& tokens) {
  const auto& section = config.section("keystone_authtoken");
  if (!names_a_user(section)) {
    base::log::warning("app", nullptr,
                       "tokens are to be checked (auth_strategy = keystone, or the pipeline's keystone+...), but "
                       "[keystone_authtoken] has no auth_url and user: management calls and the volume API refuse "
                       "everybody; image downloads are authorised by the origin as always");
    return identity::make_refusing("tokens cannot be checked: [keystone_authtoken] has no auth_url and user");
  }
  if (!tokens) tokens = std::make_unique<identity::ServiceToken>(credentials(section));
  identity::KeystoneOptions options;
  options.credentials = credentials(section);
  options.www_authenticate_uri = section.get_string("www_authenticate_uri");
  options.token_cache_time = std::chrono::seconds(std::max<std::int64_t>(section.get_int("token_cache_time"), 0));
  options.service_token_roles = section.get_list("service_token_roles");
  options.service_token_roles_required = section.get_bool("service_token_roles_required");
  return identity::make_keystone(std::move(options), *tokens);
}

/// For an image API whose pipeline checks no tokens, beside a volume API that does.
std::unique_ptr<identity::Authenticator> noauth_for_images(const config::Config& config) {
  if (config.get_bind_address(own, "image_api_bind").is_loopback() ||
      config.get_bool(own, "allow_noauth_on_any_address")) {
    return identity::make_noauth();
  }
  base::log::warning("app", nullptr,
                     "the pipeline checks no tokens and image_api_bind is no loopback address: nobody may manage the "
                     "image cache; choose a keystone+... flavor, or set allow_noauth_on_any_address = true if the "
                     "network keeps strangers away");
  return identity::make_refusing("the image cache cannot be managed here: no tokens are checked");
}

}  // namespace

Result<std::unique_ptr<Identities>> Identities::load(const config::Config& config, const config::Pipeline& pipeline) {
  const auto files = config.policy_files();
  // One file for both: no two rules of Glance's and Cinder's have one name but context_is_admin, which means the same.
  const bool enforce_new_defaults = config.get_bool("oslo_policy", "enforce_new_defaults");
  const auto of_images = identity::image_cache_policies(enforce_new_defaults);
  const auto of_volumes = identity::volume_policies(enforce_new_defaults);
  std::vector<identity::PolicyDefault> defaults(of_images.begin(), of_images.end());
  defaults.insert(defaults.end(), of_volumes.begin(), of_volumes.end());
  IMAGECACHE_TRY(identity::Policy policy,
                 identity::Policy::load({.policy_file = files.file,
                                         .policy_file_must_exist = files.must_exist,
                                         .policy_dirs = files.dirs,
                                         .policy_default_rule = config.get_string("oslo_policy", "policy_default_rule"),
                                         .enforce_scope = config.get_bool("oslo_policy", "enforce_scope")},
                                        defaults));
  for (const auto& warning : policy.warnings()) base::log::warning("app", nullptr, "{}", warning);
  for (const std::string name : {"keystone_authtoken", "service_user"}) {
    const auto& section = config.section(name);
    if (names_a_user(section)) IMAGECACHE_CHECK(identity::check_credentials(credentials(section), name));
  }
  std::unique_ptr<Identities> made(new Identities(std::move(policy)));
  const bool volume_noauth = config.get_string("DEFAULT", "auth_strategy") == "noauth";
  made->volume_api_ = volume_noauth ? identity::make_noauth() : keystone(config, made->tokens_);
  if (pipeline.known && pipeline.checks_tokens && volume_noauth) made->image_api_ = keystone(config, made->tokens_);
  if (pipeline.known && !pipeline.checks_tokens && !volume_noauth) made->image_api_ = noauth_for_images(config);
  return made;
}

std::unique_ptr<identity::ServiceToken> service_token(const config::Config& config) {
  const auto& service_user = config.section("service_user");
  const auto& middleware = config.section("keystone_authtoken");
  if (!names_a_user(service_user) && !names_a_user(middleware)) return nullptr;
  return std::make_unique<identity::ServiceToken>(credentials(names_a_user(service_user) ? service_user : middleware));
}

std::optional<identity::KeystoneCredentials> where_keystone_is(const config::Config& config) {
  for (const auto* name : {"service_user", "keystone_authtoken"}) {
    const auto& section = config.section(name);
    if (!section.get_string("auth_url").empty()) return credentials(section);
  }
  return std::nullopt;
}

std::function<Result<base::RequestContext>()> service_context(const config::Config& config) {
  // A std::function is copied, and the token is one for all copies.
  const std::shared_ptr<identity::ServiceToken> token = service_token(config);
  if (!token) return {};
  return [token]() -> Result<base::RequestContext> {
    base::RequestContext context = base::internal_context();
    IMAGECACHE_TRY(context.auth_token, token->get());
    return context;
  };
}

}  // namespace imagecache::app
