// How a noun's verbs get onto the command line. Private to the room.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/session.hpp"

namespace imagecache::cli {

/// The options of all verbs; a verb declares those it has.
struct Arguments {
  std::vector<std::string> ids;
  std::string id;
  std::string image;
  std::string name;
  std::string type;
  std::string backend;
  std::vector<std::string> backends;
  std::string target;
  std::string project;
  std::vector<std::string> limits;
  std::uint64_t size_gb = 0;
  std::uint64_t timeout_s = 3600;
  bool wait = false;
  bool all_projects = false;
  bool internal = false;
  bool only_set = false;
  bool by_project = false;
  bool refused = false;
  bool offline = false;
  bool online = false;
};

class Commands {
 public:
  using Action = std::function<Result<void>(Session&, const Arguments&)>;

  explicit Commands(CLI::App& app) : app_(app) {}

  CLI::App& noun(const std::string& name, const std::string& help);
  /// A verb with the common options; `action` is what it does once it was chosen.
  /// What is a list can be printed as CSV too.
  enum class Prints { record, list };
  CLI::App& verb(CLI::App& noun, const std::string& name, const std::string& help, Action action,
                 Prints prints = Prints::record);
  /// --config-file and --config-dir, whose order among each other counts.
  void add_config_options(CLI::App& command);
  void add_wait(CLI::App& command, const std::string& for_what);

  CLI::App& root() { return app_; }
  Arguments& arguments() { return arguments_; }
  CommonOptions& common() { return common_; }
  const Action& chosen() const { return chosen_; }

 private:
  CLI::App& app_;
  Arguments arguments_;
  CommonOptions common_;
  Action chosen_;
};

void add_images(Commands& commands);
void add_image_volumes(Commands& commands);
void add_volumes(Commands& commands);
void add_quota(Commands& commands);
void add_backends(Commands& commands);
void add_config(Commands& commands);
void add_status(Commands& commands);

}  // namespace imagecache::cli
