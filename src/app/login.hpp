// Tokens for the command line.
#pragma once

#include "cli/cli.hpp"

namespace imagecache::app {

/// A cli::LoginFunction.
Result<cli::LoggedIn> log_in(const config::Config* config, const std::optional<cli::KeystoneLogin>& login);

}  // namespace imagecache::app
