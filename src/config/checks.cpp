// What no single option shows: options that do not go together.
#include <fmt/format.h>

#include <array>
#include <set>

#include "base/text.hpp"
#include "config/ini.hpp"
#include "config/loader.hpp"

namespace imagecache::config {
namespace {

constexpr std::array<std::string_view, 4> binds = {"image_api_bind", "volume_api_bind", "status_bind", "hook_bind"};

bool is_http_url(std::string_view url) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (url.starts_with(scheme)) return url.size() > scheme.size() && url[scheme.size()] != '/' && !url.contains('@');
  }
  return false;
}

// What Glance and keystonemiddleware no longer read, and what they read instead.
struct Former {
  std::string_view section, name, advice;
};
constexpr auto former = std::to_array<Former>({
    {"DEFAULT", "image_cache_enabled", "write [paste_deploy] flavor = caching or keystone+caching"},
    {"DEFAULT", "image_cache_datadir", "write image_cache_dir"},
    {"DEFAULT", "image_cache_stall_timeout", "write image_cache_stall_time"},
    {"DEFAULT", "image_cache_invalid_entry_grace_period", "invalid files go at the next cleaning, whatever their age"},
    {"DEFAULT", "cache_prefetcher_interval",
     "queued images are fetched at once, and after [image_cache_service] prefetch_retry_interval again"},
    {authtoken_section, "identity_uri", "write auth_url"},
    {authtoken_section, "auth_host", "write auth_url"},
    {authtoken_section, "admin_user", "write username"},
    {authtoken_section, "admin_password", "write password"},
    {authtoken_section, "admin_tenant_name", "write project_name"},
    {authtoken_section, "admin_token", "write username and password"},
});

}  // namespace

void Loader::complain(const Settings& settings, std::string_view option, std::string_view what) {
  const auto& value = settings.all().find(option)->second.value;
  problems_.push_back(fmt::format("{}: [{}] {} = {}: {}", settings.where(option), settings.section(), option,
                                  value ? format_value(*value) : std::string(), what));
}

void Loader::check_addresses() {
  const auto& own = config_.section(own_section);
  // A value that was refused above is not looked at again.
  const bool noauth = config_.get_string("DEFAULT", "auth_strategy") == "noauth";
  const auto& anywhere = own.all().find("allow_noauth_on_any_address")->second.value;
  std::set<std::string> taken;
  for (const auto option : binds) {
    if (!own.find_string(option)) continue;
    const auto address = own.get_bind_address(option);
    const bool fixed = address.is_unix() || address.port != 0;
    if (fixed && !taken.insert(address.to_string()).second) {
      complain(own, option, "another of image_api_bind, volume_api_bind, status_bind and hook_bind has this address");
    }
    if (option == "hook_bind" && !address.is_loopback()) {
      complain(own, option,
               "who reaches it is taken for cinder-volume and asked for no token, so it must be unix:/path or a "
               "loopback address");
      continue;
    }
    if (noauth && anywhere && !std::get<bool>(*anywhere) && !address.is_loopback()) {
      complain(own, option,
               "with auth_strategy = noauth every caller is an administrator, so it must be a loopback address or "
               "unix:/path; set allow_noauth_on_any_address = true if the network keeps strangers away");
    }
  }
}

void Loader::check_tls() {
  const auto& own = config_.section(own_section);
  const auto need = [&](std::string_view option, std::string_view other) {
    if (!own.get_string(option).empty() && own.get_string(other).empty()) {
      complain(own, option, fmt::format("needs {} too", other));
    }
  };
  need("tls_cert_file", "tls_key_file");
  need("tls_key_file", "tls_cert_file");
  need("tls_client_ca_file", "tls_cert_file");
}

void Loader::check_image_cache() {
  const auto& own = config_.section(own_section);
  const auto low = own.find_int("prune_low_percent");
  const auto high = own.find_int("prune_high_percent");
  if (low && high && *low >= *high) {
    complain(own, own.is_set("prune_low_percent") ? "prune_low_percent" : "prune_high_percent",
             fmt::format("prune_low_percent ({}) must be less than prune_high_percent ({})", *low, *high));
  }
  const auto& shared = config_.section("DEFAULT");
  if (shared.get_string("image_cache_driver") == "centralized_db") {
    config_.warnings_.push_back(
        fmt::format("{}: [DEFAULT] image_cache_driver = centralized_db: the books of the image cache are kept in {} in "
                    "image_cache_dir; Glance's own database is not touched",
                    shared.where("image_cache_driver"), shared.get_string("image_cache_sqlite_db")));
  }
  for (const auto& [section, name, advice] : former) {
    const auto& found = files_.occurrences(section, name);
    if (found.empty()) continue;
    config_.warnings_.push_back(fmt::format("{}: [{}] {}: is of an older release and has no effect; {}",
                                            found.back().where, section, name, advice));
  }
}

void Loader::check_image_volumes() {
  const auto& own = config_.section(own_section);
  const auto low = own.find_int("image_volume_low_percent");
  const auto high = own.find_int("image_volume_high_percent");
  if (low && high && *low >= *high) {
    complain(
        own, own.is_set("image_volume_low_percent") ? "image_volume_low_percent" : "image_volume_high_percent",
        fmt::format("image_volume_low_percent ({}) must be less than image_volume_high_percent ({})", *low, *high));
  }
  const auto from = own.find_int("image_volume_warm_from_hour");
  const auto until = own.find_int("image_volume_warm_until_hour");
  if (from && until && (*from == *until || (*from == 24 && *until == 0))) {
    complain(own,
             own.is_set("image_volume_warm_from_hour") ? "image_volume_warm_from_hour" : "image_volume_warm_until_hour",
             fmt::format("from {} to {} is no time at all; write 0 and 24 for the whole day", *from, *until));
  }
}

void Loader::check_templates() {
  const auto& shared = config_.section("DEFAULT");
  const auto text = shared.get_string("volume_name_template");
  const auto at = text.find("%s");
  auto sample_name = text;
  if (at != std::string::npos) sample_name.replace(at, 2, std::string(36, '0'));
  if (at == std::string::npos || !base::is_safe_name(sample_name)) {
    complain(shared, "volume_name_template",
             "must hold %s once, and else only letters, digits, '.', '_' and '-', with no '.' in front");
  }
}

void Loader::check_origin() {
  const auto& shared = config_.section("DEFAULT");
  for (const auto& server : shared.get_list("glance_api_servers")) {
    const auto scheme = server.find("://");
    const bool http = server.starts_with("http://") || server.starts_with("https://");
    const auto host = scheme == std::string::npos ? 0 : scheme + 3;
    if ((scheme != std::string::npos && !http) || server.size() <= host || server[host] == '/') {
      complain(shared, "glance_api_servers", "each must be [http[s]://]host:port[/path]");
      break;
    }
  }
  if (config_.origins().empty()) {
    config_.warnings_.push_back(
        "neither [image_cache_service] origin nor [DEFAULT] glance_api_servers is set: there are no images");
  }
}

void Loader::check_backends() {
  const auto& shared = config_.section("DEFAULT");
  const bool has_tenant = !shared.get_string("cinder_internal_tenant_project_id").empty() &&
                          !shared.get_string("cinder_internal_tenant_user_id").empty();
  std::set<std::string> directories;
  for (const auto& backend : config_.backends_) {
    const auto section = backend.section();
    if (!files_.has_section(normalize_section(section)) && backend.where("volume_driver") == "default") {
      problems_.push_back(fmt::format("{}: [DEFAULT] enabled_backends names {}, but there is no section [{}]",
                                      shared.where("enabled_backends"), section, section));
      continue;
    }
    if (backend.get_string("volume_driver") == "file") {
      const auto directory = backend.get_string("file_volume_dir");
      if (directory.empty() && !backend.is_set("file_volume_dir")) {
        problems_.push_back(
            fmt::format("{}: [{}] volume_driver = file: needs file_volume_dir, the directory of its "
                        "volumes",
                        backend.where("volume_driver"), section));
      } else if (!directory.empty() && !directories.insert(directory).second) {
        complain(backend, "file_volume_dir", "another backend has this directory");
      }
    }
    const auto& instant = backend.all().find("rbd_instant_import")->second.value;
    const auto url = backend.get_string("rbd_import_url");
    if (instant && std::get<bool>(*instant) && !is_http_url(url)) {
      complain(backend, backend.is_set("rbd_import_url") ? "rbd_import_url" : "rbd_instant_import",
               "rbd_instant_import needs rbd_import_url = http[s]://host:port, where the cluster's clients reach this "
               "service's image API");
    }
    const auto& enabled = backend.all().find("image_volume_cache_enabled")->second.value;
    if (enabled && std::get<bool>(*enabled) && !has_tenant) {
      config_.warnings_.push_back(fmt::format(
          "{}: [{}] image_volume_cache_enabled: no image-volumes are kept, because cinder_internal_tenant_project_id "
          "and cinder_internal_tenant_user_id are not both set in [DEFAULT]",
          backend.where("image_volume_cache_enabled"), section));
    }
  }
  for (const auto& option : options()) {
    const auto& found = files_.occurrences("DEFAULT", option.name);
    if (option.section != backend_scope || found.empty()) continue;
    // Debian's own cinder.conf has it there, where it has no effect in Cinder either.
    if (option.name == "volume_group") continue;
    config_.warnings_.push_back(
        fmt::format("{}: [DEFAULT] {}: has no effect here; put it into a backend's section or into [backend_defaults]",
                    found.back().where, option.name));
  }
}

}  // namespace imagecache::config
