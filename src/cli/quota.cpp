// quota: what a project may have, and has.
#include <fmt/format.h>

#include <charconv>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

// The project that is asked about: as named, the internal tenant, or the caller's own.
Result<std::string> project_of(Session& session, const Arguments& arguments) {
  if (!arguments.project.empty()) return arguments.project;
  if (!arguments.internal) return session.project();
  IMAGECACHE_TRY(const auto* config, session.config());
  auto project = config->get_string("DEFAULT", "cinder_internal_tenant_project_id");
  if (project.empty())
    return fail(Errc::not_found, "cinder_internal_tenant_project_id is not set: there is no internal tenant");
  return project;
}

Result<void> show(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto project, project_of(session, arguments));
  auto answer = session.get(Api::volume, session.volume_path("/os-quota-sets/" + encode(project) + "?usage=True"));
  if (!answer)
    return fail(answer.error().code, fmt::format("quota of project {}: {}", project, answer.error().message));
  const auto quota = object_of(*answer, "quota_set");
  if (session.output().format() == Format::json) {
    session.output().record(quota);
    return {};
  }
  Json rows = Json::array();
  for (const auto& [resource, usage] : quota.items()) {
    if (!usage.is_object()) continue;
    Json row = usage;
    row["resource"] = resource;
    if (row.contains("limit") && row["limit"] == -1) row["limit"] = "no limit";
    rows.push_back(std::move(row));
  }
  session.output().list({{"Resource", "resource"},
                         {"Limit", "limit", Kind::number},
                         {"In use", "in_use", Kind::number},
                         {"Reserved", "reserved", Kind::number}},
                        rows);
  return {};
}

Result<Json> parse_limits(const std::vector<std::string>& texts) {
  Json limits = Json::object();
  for (const auto& text : texts) {
    const auto equals = text.find('=');
    std::int64_t limit = 0;
    const auto* begin = equals == std::string::npos ? text.data() + text.size() : text.data() + equals + 1;
    const auto* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(begin, end, limit);
    if (equals == 0 || begin == end || error != std::errc() || at != end || limit < -1) {
      return fail(Errc::invalid_argument, text + ": must be RESOURCE=LIMIT, such as volumes=20; -1 is no limit");
    }
    limits[text.substr(0, equals)] = limit;
  }
  return limits;
}

Result<void> set(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(auto limits, parse_limits(arguments.limits));
  IMAGECACHE_TRY(const auto project, project_of(session, arguments));
  auto answer = session.call({.api = Api::volume,
                              .method = "PUT",
                              .path = session.volume_path("/os-quota-sets/" + encode(project)),
                              .body = Json{{"quota_set", std::move(limits)}}});
  if (!answer)
    return fail(answer.error().code, fmt::format("quota of project {}: {}", project, answer.error().message));
  session.output().record(object_of(*answer, "quota_set"));
  return {};
}

}  // namespace

void add_quota(Commands& commands) {
  auto& noun = commands.noun("quota", "What a project may have, and has");
  auto& arguments = commands.arguments();
  const auto add_project = [&](CLI::App& verb) {
    auto* project = verb.add_option("--project", arguments.project, "Id of the project (default: the caller's)");
    project->option_text("ID");
    verb.add_flag("--internal", arguments.internal, "The internal tenant, which owns the image-volumes")
        ->excludes(project);
  };
  add_project(remote_verb(commands, noun, "show", "Show a project's limits and usage", show));
  auto& setting = remote_verb(commands, noun, "set", "Set a project's limits", set);
  add_project(setting);
  setting.add_option("RESOURCE=LIMIT", arguments.limits, "Such as volumes=20 or gigabytes=500; -1 is no limit")
      ->required();
}

}  // namespace imagecache::cli
