// Common options of the verbs that talk to the daemon. Private to the room.
#pragma once

#include "cli/commands.hpp"

namespace imagecache::cli {

/// A verb like Commands::verb() that also has --url, --os-project-id, --os-token and what https needs.
CLI::App& remote_verb(Commands& commands, CLI::App& noun, const std::string& name, const std::string& help,
                      Commands::Action action, Commands::Prints prints = Commands::Prints::record);

}  // namespace imagecache::cli
