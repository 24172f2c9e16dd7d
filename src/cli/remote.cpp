#include "cli/remote.hpp"

namespace imagecache::cli {

CLI::App& remote_verb(Commands& commands, CLI::App& noun, const std::string& name, const std::string& help,
                      Commands::Action action, Commands::Prints prints) {
  auto& app = commands.verb(noun, name, help, std::move(action), prints);
  auto& common = commands.common();
  const auto add = [&](const std::string& option, std::string& value, const std::string& text) {
    app.add_option(option, value, text)->option_text("TEXT")->group("Common options");
  };
  app.add_flag("--insecure", common.tls.insecure, "Do not look at the certificate of an https address")
      ->group("Common options");
  add("--ca-file", common.tls.ca_file, "Authorities that may have signed it (default: $OS_CACERT, or the system's)");
  add("--cert", common.tls.cert_file, "Our certificate, where the daemon asks for one (default: $OS_CERT)");
  add("--key", common.tls.key_file, "Its key (default: $OS_KEY)");
  add("--url", common.url,
      "Address of the API that this command talks to, instead of the configured one: "
      "http://host:port or unix:/path");
  add("--os-project-id", common.project_id,
      "The project to act in (default: $OS_PROJECT_ID, that of the token, or admin)");
  add("--os-token", common.token,
      "X-Auth-Token to send (default: $OS_TOKEN; else one that Keystone gives for $OS_AUTH_URL, $OS_USERNAME…; else "
      "one "
      "of the service's own account in the configuration; else admin:PROJECT, which is noauth's)");
  return app;
}

}  // namespace imagecache::cli
