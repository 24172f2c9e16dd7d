#include "cli/cli.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "base/text.hpp"
#include "cli/commands.hpp"
#include "cli/table.hpp"

extern char** environ;

namespace imagecache::cli {
namespace {

constexpr auto program = "cinder-image-cache";
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

constexpr auto description =
    "A cache for images and for volumes made of them, beside Cinder and Glance or without them.";
constexpr auto footer =
    "Begin with:\n"
    "  cinder-image-cache config sample > cinder-image-cache.conf\n"
    "  cinder-image-cache config check --config-file cinder-image-cache.conf\n"
    "  cinder-image-cache serve --config-file cinder-image-cache.conf\n"
    "  cinder-image-cache volumes create --image ID --size 10 --wait\n"
    "Each command says more with --help.";

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (const auto equals = text.find('='); equals != std::string_view::npos) {
      found.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return found;
}

void complain(const Surroundings& surroundings, const std::string& message) {
  for (const auto& line : base::split(message, '\n')) {
    surroundings.err << program << ": " << printable(line) << '\n';
  }
}

int usage_error(const CLI::App& app, const CLI::ParseError& error, const Surroundings& surroundings) {
  complain(surroundings, error.what());
  const CLI::App* deepest = &app;
  std::string name = program;
  for (auto chosen = deepest->get_subcommands(); !chosen.empty(); chosen = deepest->get_subcommands()) {
    deepest = chosen.front();
    name += " " + deepest->get_name();
  }
  surroundings.err << "Try '" << name << " --help'.\n";
  return exit_usage;
}

int act(const Commands& commands, const CommonOptions& common, const Arguments& arguments, const Program& functions,
        const Surroundings& surroundings) {
  Session session(common, functions, surroundings);
  const auto result = commands.chosen()(session, arguments);
  if (result) return 0;
  session.progress().clear();
  complain(surroundings, result.error().message);
  return exit_failed;
}

}  // namespace

std::vector<std::string> arguments_of_name(const std::string& program_path) {
  const auto name = std::filesystem::path(program_path).filename().native();
  if (name == "cinder-image-cache-pruner") return {"images", "prune", "--quiet"};
  if (name == "cinder-image-cache-cleaner") return {"images", "clean", "--quiet"};
  if (name == "cinder-image-cache-prefetcher") return {"images", "prefetch", "--quiet"};
  return {};
}

int run(const std::vector<std::string>& arguments, const Program& functions, const Surroundings& surroundings) {
  CLI::App app(description, program);
  app.require_subcommand(1);
  app.footer(footer);
  app.set_version_flag("--version", fmt::format("{} {}", program, IMAGECACHE_VERSION));
  Commands commands(app);
  auto* serving = app.add_subcommand("serve", "Run the service until SIGTERM; SIGHUP reopens the log");
  commands.add_config_options(*serving);
  add_images(commands);
  add_image_volumes(commands);
  add_volumes(commands);
  add_quota(commands);
  add_backends(commands);
  add_status(commands);
  add_config(commands);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return usage_error(app, error, surroundings);
    return app.exit(error, surroundings.out, surroundings.err);  // --help, --version
  }
  if (serving->parsed()) return functions.serve(Session(commands.common(), functions, surroundings).load_request());
  return act(commands, commands.common(), commands.arguments(), functions, surroundings);
}

int run(int argc, char** argv, const Program& functions) {
  const Surroundings surroundings{.out = std::cout,
                                  .err = std::cerr,
                                  .err_is_terminal = ::isatty(STDERR_FILENO) == 1,
                                  .environment = process_environment()};
  auto arguments = argc > 0 ? arguments_of_name(argv[0]) : std::vector<std::string>();
  arguments.insert(arguments.end(), argv + std::min(argc, 1), argv + argc);
  return run(arguments, functions, surroundings);
}

}  // namespace imagecache::cli
