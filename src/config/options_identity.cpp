// The table's part on who is asking and what that one may do: pipelines, policy, Keystone.
#include <algorithm>
#include <array>

#include "config/option_parts.hpp"

namespace imagecache::config {
namespace {

using enum Type;

constexpr auto paste = std::to_array<Option>({
    {.section = paste_section,
     .name = "flavor",
     .type = string,
     .help =
         "Glance's pipeline: the part of [pipeline:glance-api-FLAVOR] behind glance-api-. With ...caching images are "
         "cached, with ...cachemanagement the cache can be managed too, with keystone... tokens are checked; with "
         "neither of the first two every request is passed on."},
    {.section = paste_section,
     .name = "config_file",
     .type = string,
     .help = "The file of pipelines; unset: the last --config-file with -paste.ini for .conf, then "
             "/etc/glance/glance-api-paste.ini, then Glance's pipelines as they are shipped."},
});

constexpr auto policy = std::to_array<Option>({
    {.section = "oslo_policy",
     .name = "policy_file",
     .type = string,
     .default_text = "policy.yaml",
     .help = "Rules of who may manage the image cache, YAML or JSON; a relative name is looked for beside the "
             "configuration files. Named but not there, it is a mistake; unset and not there, managing needs the role "
             "admin."},
    {.section = "oslo_policy",
     .name = "policy_dirs",
     .type = multi,
     .default_text = "policy.d",
     .help =
         "Directories of further rules, which go before those of policy_file; may be given more than once. One that "
         "is not there is passed over."},
    {.section = "oslo_policy",
     .name = "policy_default_rule",
     .type = string,
     .default_text = "default",
     .help = "The rule that counts where an action has none."},
    {.section = "oslo_policy",
     .name = "enforce_scope",
     .type = boolean,
     .default_text = "false",
     .help = "Read because Glance has it, and without effect: a token without a project is refused either way."},
    {.section = "oslo_policy",
     .name = "enforce_new_defaults",
     .type = boolean,
     .default_text = "false",
     .help =
         "Only the newer defaults of Glance's and Cinder's rules, without the older ones that they still accept beside "
         "them: then a reader of a project changes none of its volumes."},
    {.section = "oslo_concurrency",
     .name = "lock_path",
     .type = path,
     .help =
         "Directory of the lock files that keep two programs out of one image cache directory; give it the value of "
         "glance-api's file where both have the directory. Unset: image_cache_dir, as in Glance."},
});

// keystoneauth's options of one section: as whom we go to Keystone.
constexpr auto credentials_of(std::string_view section) {
  return std::to_array<Option>({
      {.section = section,
       .name = "auth_type",
       .type = string,
       .default_text = "password",
       .old_name = "auth_plugin",
       .help = "How we show Keystone who we are: password, or v3applicationcredential."},
      {.section = section,
       .name = "auth_section",
       .type = string,
       .help = "The section that has the credentials instead of this one."},
      {.section = section,
       .name = "auth_url",
       .type = string,
       .help = "Keystone's URL, with or without /v3, such as https://keystone.example:5000."},
      {.section = section,
       .name = "username",
       .type = string,
       .old_name = "user_name",
       .help = "Our user, with user_domain_name or user_domain_id."},
      {.section = section, .name = "user_id", .type = string, .help = "Our user, by its id."},
      {.section = section, .name = "password", .type = string, .secret = true, .help = "Our user's password."},
      {.section = section, .name = "user_domain_name", .type = string, .help = "Domain of our user, by its name."},
      {.section = section, .name = "user_domain_id", .type = string, .help = "Domain of our user, by its id."},
      {.section = section,
       .name = "project_name",
       .type = string,
       .old_name = "tenant_name",
       .help = "Project of our tokens, with project_domain_name or project_domain_id."},
      {.section = section,
       .name = "project_id",
       .type = string,
       .old_name = "tenant_id",
       .help = "Project of our tokens, by its id."},
      {.section = section,
       .name = "project_domain_name",
       .type = string,
       .help = "Domain of our project, by its name."},
      {.section = section, .name = "project_domain_id", .type = string, .help = "Domain of our project, by its id."},
      {.section = section,
       .name = "system_scope",
       .type = string,
       .help = "all: tokens for the whole system, in place of a project."},
      {.section = section,
       .name = "application_credential_id",
       .type = string,
       .help = "An application credential, in place of user and project."},
      {.section = section,
       .name = "application_credential_secret",
       .type = string,
       .secret = true,
       .help = "Secret of the application credential."},
      {.section = section,
       .name = "cafile",
       .type = path,
       .help = "Certificates of the authorities that may have signed Keystone's."},
      {.section = section, .name = "certfile", .type = path, .help = "Our certificate for Keystone."},
      {.section = section, .name = "keyfile", .type = path, .help = "Key of our certificate for Keystone."},
      {.section = section,
       .name = "insecure",
       .type = boolean,
       .default_text = "false",
       .help = "Do not check Keystone's certificate: who sits between can read our password and forge tokens."},
      {.section = section,
       .name = "http_connect_timeout",
       .type = integer,
       .unit = "seconds",
       .min = 1,
       .max = 3600,
       .help = "Keystone must have answered a connect after this; unset: 5."},
      {.section = section,
       .name = "http_request_max_retries",
       .type = integer,
       .default_text = "3",
       .min = 0,
       .max = 1000,
       .help = "Further attempts when Keystone cannot be reached."},
  });
}

constexpr auto token_checks = std::to_array<Option>({
    {.section = authtoken_section,
     .name = "www_authenticate_uri",
     .type = string,
     .old_name = "auth_uri",
     .help = "Keystone's URL for clients, told to those who come without a good token; unset: auth_url."},
    {.section = authtoken_section,
     .name = "token_cache_time",
     .type = integer,
     .default_text = "300",
     .unit = "seconds",
     .min = -1,
     .max = day_s,
     .help =
         "How long Keystone's word on a token is believed; a token that is revoked meanwhile is good for that long. "
         "0 or -1: Keystone is asked each time."},
    {.section = authtoken_section,
     .name = "service_token_roles",
     .type = list,
     .default_text = "service",
     .help = "Roles of which a service token needs one."},
    {.section = authtoken_section,
     .name = "service_token_roles_required",
     .type = boolean,
     .default_text = "false",
     .help = "Do not take a service token that has none of service_token_roles."},
});

constexpr auto service_user = std::to_array<Option>({
    {.section = service_user_section,
     .name = "send_service_user_token",
     .type = boolean,
     .default_text = "false",
     .help =
         "Send a token of our own beside the client's, so that the origin takes a client's token that expires during a "
         "long download."},
});

}  // namespace

std::span<const Option> paste_options() {
  return paste;
}

std::span<const Option> policy_options() {
  return policy;
}

std::span<const Option> keystone_options() {
  constexpr auto authtoken_credentials = credentials_of(authtoken_section);
  constexpr auto service_credentials = credentials_of(service_user_section);
  constexpr auto count =
      token_checks.size() + authtoken_credentials.size() + service_user.size() + service_credentials.size();
  static constexpr auto table = [] {
    std::array<Option, count> all;
    auto at = std::ranges::copy(credentials_of(authtoken_section), all.begin()).out;
    at = std::ranges::copy(token_checks, at).out;
    at = std::ranges::copy(service_user, at).out;
    std::ranges::copy(credentials_of(service_user_section), at);
    return all;
  }();
  return table;
}

}  // namespace imagecache::config
