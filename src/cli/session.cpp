#include "cli/session.hpp"

#include <fmt/format.h>

#include <system_error>
#include <thread>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::cli {
namespace {

constexpr std::string_view config_variable = "CINDER_IMAGE_CACHE_CONFIG";
constexpr std::string_view default_project = "admin";
constexpr std::string_view how_to_log_in =
    "give --os-token, or OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME in the environment";

std::string_view bind_option(Api api) {
  switch (api) {
    case Api::image:
      return "image_api_bind";
    case Api::volume:
      return "volume_api_bind";
    case Api::status:
      break;
  }
  return "status_bind";
}

// A server that listens everywhere is reached on the loopback address.
Endpoint reach(const config::BindAddress& bind, bool https) {
  if (bind.is_unix()) return {.base_url = "http://localhost", .unix_path = bind.unix_path};
  auto address = bind;
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  return {.base_url = (https ? "https://" : "http://") + address.to_string(), .unix_path = {}};
}

Result<Endpoint> parse_url(std::string url) {
  if (url.starts_with("unix:/")) return Endpoint{.base_url = "http://localhost", .unix_path = url.substr(5)};
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return fail(Errc::invalid_argument, "--url " + url + ": must be http://host:port, https://host:port or unix:/path");
  }
  while (url.ends_with('/')) url.pop_back();
  return Endpoint{.base_url = std::move(url), .unix_path = {}};
}

config::ConfigSource as_source(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  return {directory ? config::ConfigSource::Kind::directory : config::ConfigSource::Kind::file, path};
}

Errc errc_of_status(long status) {
  switch (status) {
    case 401:
      return Errc::unauthenticated;
    case 403:
      return Errc::forbidden;
    case 404:
      return Errc::not_found;
    case 409:
      return Errc::conflict;
    case 413:
      return Errc::quota_exceeded;
    case 503:
      return Errc::unavailable;
    default:
      return status < 500 ? Errc::invalid_argument : Errc::internal;
  }
}

}  // namespace

std::string Session::setting(const std::string& option, const std::string& variable) const {
  if (!option.empty()) return option;
  const auto found = surroundings_.environment.find(variable);
  return found == surroundings_.environment.end() ? std::string() : found->second;
}

config::LoadRequest Session::load_request() const {
  config::LoadRequest request{.sources = options_.sources, .environment = surroundings_.environment};
  if (!request.sources.empty()) return request;
  for (const auto& path : base::split(setting("", std::string(config_variable)), ':')) {
    if (!path.empty()) request.sources.push_back(as_source(path));
  }
  std::error_code ignored;
  if (request.sources.empty() && std::filesystem::exists(surroundings_.default_config, ignored)) {
    request.sources.push_back({config::ConfigSource::Kind::file, surroundings_.default_config});
  }
  return request;
}

Result<const config::Config*> Session::config() {
  if (!config_) {
    IMAGECACHE_TRY(config_, config::load(load_request()));
  }
  return &*config_;
}

Result<std::string> Session::project() {
  if (auto said = said_project(); !said.empty()) return said;
  IMAGECACHE_TRY(const auto token, this->token());
  if (!token.project_id.empty()) return token.project_id;
  if (!functions_.project_of) return std::string(default_project);
  const auto who = login();
  const config::Config* loaded = nullptr;
  if (!who && !has_url()) {
    IMAGECACHE_TRY(loaded, config());
  }
  IMAGECACHE_TRY(auto project, functions_.project_of(loaded, who, token.text));
  return project.empty() ? std::string(default_project) : std::move(project);
}

std::string Session::volume_path(const std::string& rest) {
  auto project = said_project();
  if (project.empty() && token()) project = token()->project_id;  // a failure is call()'s to tell
  return (project.empty() ? "/v3" : "/v3/" + encode(project)) + rest;
}

Tls Session::tls() const {
  return {.insecure = options_.tls.insecure,
          .ca_file = setting(options_.tls.ca_file, "OS_CACERT"),
          .cert_file = setting(options_.tls.cert_file, "OS_CERT"),
          .key_file = setting(options_.tls.key_file, "OS_KEY")};
}

std::optional<KeystoneLogin> Session::login() const {
  const auto env = [this](const char* name) { return setting("", name); };
  if (env("OS_AUTH_URL").empty()) return std::nullopt;
  const Tls files = tls();
  return KeystoneLogin{.auth_url = env("OS_AUTH_URL"),
                       .username = env("OS_USERNAME"),
                       .user_id = env("OS_USER_ID"),
                       .password = env("OS_PASSWORD"),
                       .user_domain_name = env("OS_USER_DOMAIN_NAME"),
                       .user_domain_id = env("OS_USER_DOMAIN_ID"),
                       .project_name = env("OS_PROJECT_NAME"),
                       .project_id = setting(options_.project_id, "OS_PROJECT_ID"),
                       .project_domain_name = env("OS_PROJECT_DOMAIN_NAME"),
                       .project_domain_id = env("OS_PROJECT_DOMAIN_ID"),
                       .system_scope = env("OS_SYSTEM_SCOPE"),
                       .application_credential_id = env("OS_APPLICATION_CREDENTIAL_ID"),
                       .application_credential_secret = env("OS_APPLICATION_CREDENTIAL_SECRET"),
                       .insecure = files.insecure,
                       .ca_file = files.ca_file,
                       .cert_file = files.cert_file,
                       .key_file = files.key_file};
}

const Result<Session::Token>& Session::token() {
  if (!token_) token_ = find_token();
  return *token_;
}

Result<Session::Token> Session::find_token() {
  auto given = setting(options_.token, "OS_TOKEN");
  if (given.empty()) given = setting("", "OS_AUTH_TOKEN");  // glance-cache-manage's
  if (!given.empty()) {
    // USER:PROJECT is noauth's; Keystone's have no colon.
    const auto colon = given.find(':');
    return Token{.text = given,
                 .source = Source::given,
                 .project_id = colon == std::string::npos ? "" : given.substr(colon + 1)};
  }
  if (functions_.login) {
    const auto who = login();
    // A daemon that --url names may be another's, which our configuration says nothing about.
    const config::Config* loaded = nullptr;
    if (!who && !has_url()) {
      IMAGECACHE_TRY(loaded, config());
    }
    if (who || loaded != nullptr) {
      IMAGECACHE_TRY(LoggedIn got, functions_.login(loaded, who));
      if (!got.token.empty()) {
        return Token{.text = std::move(got.token), .source = Source::keystone, .project_id = std::move(got.project_id)};
      }
    }
  }
  const auto said = said_project();
  const auto project = said.empty() ? std::string(default_project) : said;
  return Token{.text = "admin:" + project, .source = Source::made_up, .project_id = project};
}

Result<Session::Presence> Session::presence(Api api) {
  auto server = endpoint(api);
  if (!server) {
    if (!config_) return std::unexpected(std::move(server).error());
    return Presence{.there = false, .why_not = server.error().message};
  }
  IMAGECACHE_TRY(const bool there, somebody_listens(*server));
  return Presence{.there = there, .why_not = there ? "" : "nobody listens at " + server->to_string()};
}

Result<Endpoint> Session::endpoint(Api api) {
  if (!options_.url.empty()) {
    IMAGECACHE_TRY(auto named, parse_url(options_.url));
    named.tls = tls();
    return named;
  }
  IMAGECACHE_TRY(const auto* loaded, config());
  const auto bind = loaded->get_bind_address(config::own_section, bind_option(api));
  if (!bind.is_unix() && bind.port == 0) {
    return fail(Errc::invalid_argument,
                fmt::format("{} has port 0, so where the daemon listens cannot be known: say it "
                            "with --url",
                            bind_option(api)));
  }
  const bool https = api != Api::status && !loaded->get_string(config::own_section, "tls_cert_file").empty();
  auto server = reach(bind, https);
  server.tls = tls();
  return server;
}

Error Session::refusal(const HttpResponse& response) {
  auto message = explain(response);
  const auto& token = this->token();
  if (response.status == 401 && token) {
    switch (token->source) {
      case Source::given:
        message += fmt::format(": the token that was given is wrong, has expired or was revoked; {}", how_to_log_in);
        break;
      case Source::keystone:
        message += ": Keystone gave this token, and the daemon does not accept it; do both ask the same Keystone?";
        break;
      case Source::made_up:
        message += fmt::format(": the daemon checks tokens; {}", how_to_log_in);
        break;
    }
  }
  if (response.status == 400 && message.starts_with("Malformed request url")) {
    message += fmt::format(": the token is not one of project {}, which --os-project-id or OS_PROJECT_ID names",
                           said_project());
  }
  return {errc_of_status(response.status), std::move(message)};
}

Result<Session::Json> Session::call(const Request& request) {
  IMAGECACHE_TRY(const auto server, endpoint(request.api));
  IMAGECACHE_TRY(const auto token, this->token());
  HttpRequest http{.method = request.method, .path = request.path, .headers = request.headers, .body = {}};
  http.headers.push_back("X-Auth-Token: " + token.text);
  if (request.body) http.body = request.body->dump(-1, ' ', false, Json::error_handler_t::replace);
  auto response = exchange(server, http);
  if (!response) {
    const auto& error = response.error();
    if (error.code != Errc::unavailable) {
      return fail(error.code,
                  fmt::format("{} {} at {}: {}", request.method, request.path, server.to_string(), error.message));
    }
    if (server.base_url.starts_with("https:") && error.message.contains("SSL")) {
      return fail(error.code,
                  fmt::format("no TLS with the daemon at {}: {}; name its authority with --ca-file, its own "
                              "name with --url https://NAME:PORT, and our certificate with --cert and --key",
                              server.to_string(), error.message));
    }
    return fail(error.code,
                fmt::format("cannot reach the daemon at {} ({}): {}; start it with 'cinder-image-cache serve "
                            "--config-file FILE', or name another address with --config-file or --url",
                            server.to_string(), bind_option(request.api), error.message));
  }
  if (response->status >= 400) return std::unexpected(refusal(*response));
  auto json = Json::parse(response->body, nullptr, false);
  return json.is_discarded() ? Json() : std::move(json);  // 202 and 204 have a body of no meaning, or none
}

Result<void> Session::wait(std::chrono::seconds timeout, const std::function<Result<bool>()>& look) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    auto done = look();
    if (!done || *done || std::chrono::steady_clock::now() >= deadline) progress_.clear();
    if (!done) return std::unexpected(std::move(done).error());
    if (*done) return {};
    if (std::chrono::steady_clock::now() >= deadline) {
      return fail(Errc::timeout, fmt::format("not done after {} s; it goes on in the daemon", timeout.count()));
    }
    std::this_thread::sleep_for(surroundings_.poll_interval);
  }
}

nlohmann::json array_of(const nlohmann::json& answer, const std::string& name) {
  if (answer.is_array()) return answer;
  if (answer.is_object() && answer.contains(name) && answer[name].is_array()) return answer[name];
  return nlohmann::json::array();
}

nlohmann::json object_of(const nlohmann::json& answer, const std::string& name) {
  if (answer.is_object() && answer.contains(name) && answer[name].is_object()) return answer[name];
  return answer.is_object() ? answer : nlohmann::json::object();
}

std::string text_of(const nlohmann::json& object, const std::string& name) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_string()) return {};
  return object[name].get<std::string>();
}

std::uint64_t number_of(const nlohmann::json& object, const std::string& name) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_number_unsigned()) return 0;
  return object[name].get<std::uint64_t>();
}

Result<void> for_each_of(const std::vector<std::string>& names,
                         const std::function<Result<void>(const std::string&)>& act) {
  std::optional<Error> failed;
  for (const auto& name : names) {
    auto result = act(name);
    if (result) continue;
    if (failed) {
      failed->message += "\n" + result.error().message;
    } else {
      failed = std::move(result).error();
    }
  }
  if (failed) return std::unexpected(*std::move(failed));
  return {};
}

}  // namespace imagecache::cli
