// config: what the files say, without a daemon.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/commands.hpp"
#include "config/pipeline.hpp"
#include "config/serving.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

Result<void> check(Session& session, const Arguments&) {
  const auto request = session.load_request();
  auto config = config::load(request);
  // serve would refuse such a pipeline, and is not where an operator should learn it.
  if (config) {
    if (auto pipeline = config::image_pipeline(*config); !pipeline) config = std::unexpected(pipeline.error());
  }
  Json files = Json::array();
  for (const auto& source : request.sources) files.push_back(source.path.native());
  const auto serving = config ? config::check_serving(*config) : std::unexpected(config.error());
  std::vector<std::string> warnings;
  if (config) warnings = config->warnings();
  if (serving) std::ranges::copy(serving->warnings, std::back_inserter(warnings));
  if (session.output().format() == Format::json) {
    Json problems = Json::array();
    if (!serving) problems = base::split(serving.error().message, '\n');
    session.output().record({{"files", files}, {"problems", problems}, {"warnings", warnings}});
  }
  if (!serving) return std::unexpected(serving.error());
  for (const auto& warning : warnings) session.output().say("warning: " + warning);
  session.output().say(fmt::format("no mistakes in {}",
                                   files.empty() ? "the defaults: no file was named" : format_cell(files, Kind::text)));
  return {};
}

Result<void> show(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto* config, session.config());
  Json rows = Json::array();
  for (const auto& row : config->show()) {
    if (arguments.only_set && row.source == "default") continue;
    rows.push_back({{"section", row.section}, {"option", row.option}, {"value", row.value}, {"source", row.source}});
  }
  session.output().list({{"Section", "section"}, {"Option", "option"}, {"Value", "value"}, {"Source", "source"}}, rows);
  return {};
}

Result<void> sample(Session& session, const Arguments&) {
  session.output().raw(config::sample());
  return {};
}

}  // namespace

void add_config(Commands& commands) {
  auto& noun = commands.noun("config", "The configuration, without a daemon");
  commands.verb(noun, "check", "Tell all mistakes in the configuration at once; exit code 1 if there are any", check);
  commands.verb(noun, "show", "Show every option, its value and the line it comes from", show)
      .add_flag("--set", commands.arguments().only_set, "Only what a file or the environment sets");
  commands.verb(noun, "sample", "Print cinder.conf.sample: every option, its default and what it does", sample);
}

}  // namespace imagecache::cli
