// The room `cli`: the sub-commands of the one binary.
//
// It exists so that an operator can look into the running daemon and steer it with words (`images list`, `image-volumes
// warm`) instead of curl, and find a mistake in the configuration before a start does. main calls run() once, on the
// main thread. Always true: only `serve` starts the service (through the function that main gives, so that this room
// knows no other); `config` reads files; everything else is HTTP to a daemon that already runs, at the addresses that
// the same configuration gives it. Nothing here touches the state, the caches or the backends directly.
//
// Exit codes: 0 done; 1 failed, with one line per reason on standard error; 2 wrong usage.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace imagecache::cli {

/// Runs the service until it is told to stop; its result is the exit code. It prints its own errors.
using ServeFunction = std::function<int(const config::LoadRequest&)>;

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

int run(int argc, char** argv, const ServeFunction& serve);
/// `arguments` without the program's name.
int run(const std::vector<std::string>& arguments, const ServeFunction& serve, const Surroundings& surroundings);

}  // namespace imagecache::cli
