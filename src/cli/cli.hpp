// The room `cli`: the sub-commands of the one binary.
//
// It exists so that an operator can look into the running daemon and steer it with words (`images list`, `image-volumes
// warm`) instead of curl, and find a mistake in the configuration before a start does. main calls run() once, on the
// main thread. Always true: only `serve` starts the service (through the function that main gives, so that this room
// knows no other); `config` reads files; everything else is HTTP to a daemon that already runs, at the addresses that
// the same configuration gives it. Where none runs, `images` works on the image cache's directory, through another
// function of main's. Nothing here touches the state, the caches or the backends directly.
//
// Exit codes: 0 done; 1 failed, with one line per reason on standard error; 2 wrong usage.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "cli/images_door.hpp"
#include "config/config.hpp"

namespace imagecache::cli {

/// Runs the service until it is told to stop; its result is the exit code. It prints its own errors.
using ServeFunction = std::function<int(const config::LoadRequest&)>;

/// Who asks Keystone for a token; what OpenStack's clients read from OS_*.
struct KeystoneLogin {
  std::string auth_url;
  std::string username, user_id, password, user_domain_name, user_domain_id;
  std::string project_name, project_id, project_domain_name, project_domain_id, system_scope;
  std::string application_credential_id, application_credential_secret;
  bool insecure = false;
  std::string ca_file, cert_file, key_file;
};
struct LoggedIn {
  std::string token;         ///< empty where the configuration asks for no tokens
  std::string project_id{};  ///< that the token is of; may be empty
};
/// A token for `login`, or without one a token of the service's own account in the configuration. Blocks.
using LoginFunction =
    std::function<Result<LoggedIn>(const config::Config* config, const std::optional<KeystoneLogin>& login)>;

/// The project that a token is of which was given; empty where the configuration asks for no tokens. `login` is where
/// Keystone is, else the configuration. Blocks.
using ProjectFunction = std::function<Result<std::string>(
    const config::Config* config, const std::optional<KeystoneLogin>& login, const std::string& token)>;

/// What this room has others do.
struct Program {
  ServeFunction serve;
  OfflineFunction offline{};  ///< empty: `images` needs the daemon
  LoginFunction login{};      ///< empty: a token must be given
  ProjectFunction project_of{};
};

/// What a command takes from the process; a test gives its own.
struct Surroundings {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
  std::map<std::string, std::string> environment;
  std::chrono::milliseconds poll_interval{500};  ///< between two looks at something that is waited for
  /// Read when neither an option nor CINDER_IMAGE_CACHE_CONFIG names any, and it is there.
  std::filesystem::path default_config = "/etc/cinder-image-cache/cinder-image-cache.conf";
};

/// Called as cinder-image-cache-pruner, -cleaner or -prefetcher (a link to the program, for cron lines that named
/// Glance's tools), it is `images prune`, `clean` or `prefetch` with --quiet.
int run(int argc, char** argv, const Program& program);
/// `arguments` without the program's name.
int run(const std::vector<std::string>& arguments, const Program& program, const Surroundings& surroundings);
/// The arguments that the name stands for, e.g. {"images", "prune", "--quiet"}; none for the program's own.
std::vector<std::string> arguments_of_name(const std::string& program_path);

}  // namespace imagecache::cli
