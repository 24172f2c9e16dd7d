#include "cli/commands.hpp"

namespace imagecache::cli {

CLI::App& Commands::noun(const std::string& name, const std::string& help) {
  auto* app = app_.add_subcommand(name, help);
  app->require_subcommand(1);
  return *app;
}

CLI::App& Commands::verb(CLI::App& noun, const std::string& name, const std::string& help, Action action,
                         Prints prints) {
  auto* app = noun.add_subcommand(name, help);
  add_config_options(*app);
  std::map<std::string, Format> formats{{"table", Format::table}, {"json", Format::json}};
  if (prints == Prints::list) formats.emplace("csv", Format::csv);
  app->add_option("-f,--format,-o", common_.format, "How to print (default: table)")
      ->transform(CLI::CheckedTransformer(formats, CLI::ignore_case))
      ->option_text(prints == Prints::list ? "table|json|csv" : "table|json")
      ->group("Common options");
  app->add_flag("-q,--quiet", common_.quiet, "Print no sentences, only what was asked for and failures")
      ->group("Common options");
  app->final_callback([this, action = std::move(action)] { chosen_ = action; });
  return *app;
}

void Commands::add_config_options(CLI::App& command) {
  const auto add = [&](const std::string& name, config::ConfigSource::Kind kind, const std::string& help) {
    command
        .add_option_function<std::string>(
            name, [this, kind](const std::string& path) { common_.sources.push_back({kind, path}); }, help)
        ->trigger_on_parse()
        ->group("Common options");
  };
  add("--config-file", config::ConfigSource::Kind::file,
      "A configuration file; may come again, later ones win (default: $CINDER_IMAGE_CACHE_CONFIG)");
  add("--config-dir", config::ConfigSource::Kind::directory, "A directory whose *.conf are read in the order of names");
}

void Commands::add_wait(CLI::App& command, const std::string& for_what) {
  command.add_flag("--wait", arguments_.wait, "Wait " + for_what + ", showing how far it is");
  command.add_option("--timeout", arguments_.timeout_s, "Longest wait in seconds (default: 3600)")
      ->check(CLI::Range(1, 7 * 86400))
      ->option_text("SECONDS");
}

}  // namespace imagecache::cli
