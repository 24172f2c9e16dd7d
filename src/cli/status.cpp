// status and backends: what the daemon says of itself.
#include <algorithm>

#include "base/try.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

Result<void> show_status(Session& session, const Arguments&) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/status"));
  session.output().record(answer);
  return {};
}

Result<void> list_backends(Session& session, const Arguments&) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/backends"));
  const auto backends = array_of(answer, "backends");
  std::vector<Column> columns = {{"Name", "name"},
                                 {"Volume backend name", "volume_backend_name"},
                                 {"Driver", "driver"},
                                 {"Clones by", "clone"},
                                 {"Image-volumes", "image_volumes", Kind::number},
                                 {"Free", "free_bytes", Kind::bytes},
                                 {"Total", "total_bytes", Kind::bytes}};
  const auto has_error = [](const nlohmann::json& backend) { return !text_of(backend, "error").empty(); };
  if (std::ranges::any_of(backends, has_error)) columns.push_back({"Error", "error"});
  session.output().list(columns, backends);
  return {};
}

}  // namespace

void add_backends(Commands& commands) {
  auto& noun = commands.noun("backends", "Storage backends");
  remote_verb(commands, noun, "list", "List the enabled backends: how each makes a clone, and its space",
              list_backends);
}

void add_status(Commands& commands) {
  remote_verb(commands, commands.root(), "status", "Show what the daemon holds and does", show_status);
}

}  // namespace imagecache::cli
