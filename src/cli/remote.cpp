#include "cli/remote.hpp"

namespace imagecache::cli {

CLI::App& remote_verb(Commands& commands, CLI::App& noun, const std::string& name, const std::string& help,
                      Commands::Action action) {
  auto& app = commands.verb(noun, name, help, std::move(action));
  auto& common = commands.common();
  const auto add = [&](const std::string& option, std::string& value, const std::string& text) {
    app.add_option(option, value, text)->option_text("TEXT")->group("Common options");
  };
  add("--url", common.url,
      "Address of the API that this command talks to, instead of the configured one: "
      "http://host:port or unix:/path");
  add("--os-project-id", common.project_id, "The project to act in (default: $OS_PROJECT_ID or admin)");
  add("--os-token", common.token, "X-Auth-Token to send (default: $OS_TOKEN, or admin:PROJECT, which is noauth's)");
  return app;
}

}  // namespace imagecache::cli
