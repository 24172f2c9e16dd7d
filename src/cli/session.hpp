// One command's way to the daemon, and its way to speak.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/cli.hpp"
#include "cli/http_client.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"

namespace imagecache::cli {

/// The options that every command has.
struct CommonOptions {
  std::vector<config::ConfigSource> sources;
  std::string url;  ///< instead of the configured address
  std::string project_id;
  std::string token;
  Tls tls{};
  bool quiet = false;
  Format format = Format::table;
};

enum class Api { image, volume, status };

class Session {
 public:
  using Json = nlohmann::json;

  Session(const CommonOptions& options, const Program& functions, const Surroundings& surroundings)
      : options_(options),
        functions_(functions),
        surroundings_(surroundings),
        output_(surroundings.out, options.format, options.quiet),
        progress_(surroundings.err, surroundings.err_is_terminal) {}

  Output& output() { return output_; }
  Progress& progress() { return progress_; }
  config::LoadRequest load_request() const;
  /// Loaded once.
  Result<const config::Config*> config();

  struct Request {
    Api api = Api::status;
    std::string method = "GET";
    std::string path;
    std::optional<Json> body{};
    std::vector<std::string> headers{};
  };
  /// The answer's JSON, null where it has none. A status of 400 or more is an Error with the server's reason; nobody
  /// there, an Error that says which address was tried and how to start the daemon.
  Result<Json> call(const Request& request);
  Result<Json> get(Api api, const std::string& path) { return call({.api = api, .path = path}); }

  /// Whether the daemon is there to be asked. Its address may be one that cannot be known (port 0): not there, and why.
  struct Presence {
    bool there = false;
    std::string why_not{};
  };
  Result<Presence> presence(Api api);
  /// --url was given: no other address, and no other way, is meant.
  bool has_url() const { return !options_.url.empty(); }
  const OfflineFunction& offline() const { return functions_.offline; }

  /// The caller's project: --os-project-id, OS_PROJECT_ID, that of the token, or "admin" where no tokens are asked for.
  /// Keystone may have to be asked.
  Result<std::string> project();
  /// "/v3/{project}" + rest, or "/v3" + rest, which means the token's project, where that is not known.
  std::string volume_path(const std::string& rest);

  /// Looks again and again until `look` is done (true) or fails. Errc::timeout after `timeout`.
  Result<void> wait(std::chrono::seconds timeout, const std::function<Result<bool>()>& look);

 private:
  Result<Endpoint> endpoint(Api api);
  /// Where a token came from, which is what can be wrong with it.
  enum class Source { given, keystone, made_up };
  struct Token {
    std::string text;
    Source source = Source::made_up;
    std::string project_id;  ///< empty: not known, or none
  };
  /// As the options, the environment or the configuration have it; asked once, also where it fails: a wrong password
  /// that is sent again and again locks the account.
  const Result<Token>& token();
  Result<Token> find_token();
  std::string said_project() const { return setting(options_.project_id, "OS_PROJECT_ID"); }
  /// What went wrong, and what a person can do about it.
  Error refusal(const HttpResponse& response);
  std::optional<KeystoneLogin> login() const;
  Tls tls() const;
  std::string setting(const std::string& option, const std::string& variable) const;

  const CommonOptions& options_;
  const Program& functions_;
  const Surroundings& surroundings_;
  Output output_;
  Progress progress_;
  std::optional<config::Config> config_;
  std::optional<Result<Token>> token_;
};

/// The array in `answer`: itself, its member `name`, or its only member.
nlohmann::json array_of(const nlohmann::json& answer, const std::string& name);
/// The same for an object.
nlohmann::json object_of(const nlohmann::json& answer, const std::string& name);
/// A member as text, "" if it is not there or none.
std::string text_of(const nlohmann::json& object, const std::string& name);
/// A member as a size or count, 0 if it is not there or none.
std::uint64_t number_of(const nlohmann::json& object, const std::string& name);

/// Calls `act` for each; the messages of all failures in one Error, a line each.
Result<void> for_each_of(const std::vector<std::string>& names,
                         const std::function<Result<void>(const std::string&)>& act);

}  // namespace imagecache::cli
