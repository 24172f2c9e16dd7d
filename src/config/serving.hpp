// What a daemon needs beyond a Config that loads: files that it must be able to read, somebody to ask about tokens, and
// the pipeline. Not part of load(), because the command line loads the same files as another user, who need not be able
// to read a key. `serve` and `config check` call it.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"
#include "config/pipeline.hpp"

namespace imagecache::config {

struct Serving {
  Pipeline pipeline;
  std::vector<std::string> warnings;  ///< beside Config::warnings(), one line each
};

/// Blocks on files; asks nobody over a network. Errc::invalid_argument with all mistakes, one a line, each with what to
/// write.
Result<Serving> check_serving(const Config& config, const PasteSearch& search = {});

}  // namespace imagecache::config
