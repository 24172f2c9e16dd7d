#include "config/serving.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "base/fd.hpp"
#include "base/text.hpp"

namespace imagecache::config {
namespace {

class Check {
 public:
  Check(const Config& config, const PasteSearch& search) : config_(config) {
    auto pipeline = image_pipeline(config, search);
    if (pipeline) {
      serving_.pipeline = *std::move(pipeline);
      check_pipeline();
    } else {
      problems_.push_back(std::move(pipeline.error().message));
    }
    for (const auto option : {"tls_cert_file", "tls_key_file", "tls_client_ca_file"}) check_file(own_section, option);
    check_key();
    const bool volume_api_asks = config.get_string("DEFAULT", "auth_strategy") == "keystone";
    if (volume_api_asks || serving_.pipeline.checks_tokens) {
      check_credentials(authtoken_section, serving_.pipeline.checks_tokens && serving_.pipeline.known
                                               ? fmt::format("the pipeline {} checks tokens", serving_.pipeline.name)
                                               : std::string("auth_strategy = keystone"));
    }
    if (config.get_bool(service_user_section, "send_service_user_token")) {
      check_credentials(service_user_section, "send_service_user_token = true");
    }
  }

  Result<Serving> done() && {
    if (!problems_.empty()) return fail(Errc::invalid_argument, fmt::format("{}", fmt::join(problems_, "\n")));
    return std::move(serving_);
  }

 private:
  void check_pipeline() {
    const auto& pipeline = serving_.pipeline;
    if (!pipeline.known) return;
    if (!pipeline.caches && config_.is_set("DEFAULT", "image_cache_dir")) {
      serving_.warnings.push_back(fmt::format(
          "image_cache_dir is set, but the pipeline {} of {} has no cache: requests for images are passed on",
          pipeline.name, pipeline.source));
    }
    const auto& own = config_.section(own_section);
    const bool allowed = own.get_bool("allow_noauth_on_any_address");
    if (!pipeline.checks_tokens && !allowed && !own.get_bind_address("image_api_bind").is_loopback()) {
      problems_.push_back(fmt::format(
          "{}: [image_cache_service] image_api_bind = {}: the pipeline {} of {} checks no tokens, so that every caller "
          "is "
          "an administrator; write flavor = keystone+caching or keystone+cachemanagement, a loopback address, or "
          "allow_noauth_on_any_address = true if the network keeps strangers away",
          own.where("image_api_bind"), own.get_bind_address("image_api_bind").to_string(), pipeline.name,
          pipeline.source));
    }
  }

  void check_file(std::string_view section_name, std::string_view option) {
    const auto& section = config_.section(section_name);
    const auto path = section.get_string(option);
    if (path.empty()) return;
    const auto complain = [&](std::string_view what) {
      problems_.push_back(fmt::format("{}: [{}] {} = {}: {}", section.where(option), section_name, option, path, what));
    };
    const auto file = base::open_file(path, O_RDONLY);
    if (!file) return complain(fmt::format("cannot be read: {}", file.error().message));
    const auto facts = base::stat_fd(file->get(), path);
    if (!facts || !S_ISREG(facts->st_mode)) return complain("is not a file");
  }

  void check_key() {
    const auto path = config_.get_string(own_section, "tls_key_file");
    struct stat facts{};
    if (path.empty() || ::stat(path.c_str(), &facts) != 0 || (facts.st_mode & S_IROTH) == 0) return;
    serving_.warnings.push_back(
        fmt::format("tls_key_file = {}: everybody on this host can read it; chmod o= {}", path, path));
  }

  void check_credentials(std::string_view name, const std::string& reason) {
    const auto& section = config_.section(name);
    const auto type = base::to_lower(section.get_string("auth_type"));
    static constexpr std::array<std::string_view, 3> types = {"password", "v3password", "v3applicationcredential"};
    if (std::ranges::find(types, type) == types.end()) {
      problems_.push_back(
          fmt::format("{}: [{}] auth_type = {}: must be one of password, v3password, "
                      "v3applicationcredential",
                      section.where("auth_type"), name, section.get_string("auth_type")));
      return;
    }
    const auto has = [&](std::string_view option) { return !section.get_string(option).empty(); };
    std::vector<std::string_view> missing;
    const auto need = [&](bool there, std::string_view what) {
      if (!there) missing.push_back(what);
    };
    need(has("auth_url"), "auth_url");
    if (type == "v3applicationcredential") {
      need(has("application_credential_id"), "application_credential_id");
      need(has("application_credential_secret"), "application_credential_secret");
    } else {
      need(has("user_id") || has("username"), "username");
      need(has("password"), "password");
      need(has("user_id") || has("user_domain_name") || has("user_domain_id"), "user_domain_name");
      const bool in_system = has("system_scope");
      need(in_system || has("project_id") || has("project_name"), "project_name");
      need(in_system || has("project_id") || has("project_domain_name") || has("project_domain_id"),
           "project_domain_name");
    }
    if (!missing.empty()) {
      // Who set nothing at all may not have known that tokens are checked unless he says otherwise.
      const bool by_default =
          name == authtoken_section && !config_.is_set("DEFAULT", "auth_strategy") && !serving_.pipeline.known;
      problems_.push_back(fmt::format("{}{}: [{}] needs {}", reason, by_default ? ", the default" : "", name,
                                      fmt::join(missing, ", ")) +
                          (by_default ? "; or write [DEFAULT] auth_strategy = noauth, with which every caller is an "
                                        "administrator"
                                      : ""));
    }
    const auto url = section.get_string("auth_url");
    if (!url.empty() && !url.starts_with("http://") && !url.starts_with("https://")) {
      problems_.push_back(fmt::format("{}: [{}] auth_url = {}: must begin with http:// or https://",
                                      section.where("auth_url"), name, url));
    }
    for (const auto option : {"cafile", "certfile", "keyfile"}) check_file(name, option);
    if (section.get_bool("insecure") && url.starts_with("https://")) {
      serving_.warnings.push_back(fmt::format(
          "{}: [{}] insecure = true: who sits between us and Keystone can read our password and forge tokens",
          section.where("insecure"), name));
    }
  }

  const Config& config_;
  Serving serving_;
  Problems problems_;
};

}  // namespace

Result<Serving> check_serving(const Config& config, const PasteSearch& search) {
  return Check(config, search).done();
}

}  // namespace imagecache::config
