// Tokens for the command line.
#pragma once

#include "cli/cli.hpp"

namespace imagecache::app {

/// A cli::LoginFunction.
Result<cli::LoggedIn> log_in(const config::Config* config, const std::optional<cli::KeystoneLogin>& login);
/// A cli::ProjectFunction.
Result<std::string> project_of(const config::Config* config, const std::optional<cli::KeystoneLogin>& login,
                               const std::string& token);

}  // namespace imagecache::app
