// volumes: through the Block Storage v3 API, as any of its clients.
#include <fmt/format.h>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

// All pages of a list; `query` without marker.
Result<Json> pages(Session& session, const std::string& query) {
  constexpr unsigned most_pages = 10000;  // a server that never says "last page" must not keep us for ever
  Json rows = Json::array();
  std::string marker;
  for (unsigned page = 0; page < most_pages; ++page) {
    const auto path =
        session.volume_path("/volumes/detail?" + query + (marker.empty() ? "" : "&marker=" + encode(marker)));
    IMAGECACHE_TRY(const auto answer, session.get(Api::volume, path));
    const auto volumes = array_of(answer, "volumes");
    for (const auto& volume : volumes) rows.push_back(volume);
    if (volumes.empty() || array_of(answer, "volumes_links").empty()) break;
    marker = text_of(volumes.back(), "id");
  }
  return rows;
}

// A volume's id from what people say: its id or its name.
Result<std::string> find(Session& session, const std::string& volume) {
  if (base::is_uuid(volume)) return volume;
  IMAGECACHE_TRY(const auto rows, pages(session, "name=" + encode(volume)));
  if (rows.empty()) return fail(Errc::not_found, fmt::format("volume {}: there is no such volume", volume));
  if (rows.size() > 1) {
    return fail(Errc::invalid_argument,
                fmt::format("volume {}: {} volumes have that name; give an id", volume, rows.size()));
  }
  return text_of(rows[0], "id");
}

Result<Json> fetch(Session& session, const std::string& id) {
  auto answer = session.get(Api::volume, session.volume_path("/volumes/" + encode(id)));
  if (!answer) return fail(answer.error().code, fmt::format("volume {}: {}", id, answer.error().message));
  return object_of(*answer, "volume");
}

Result<void> list(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto rows, pages(session, arguments.all_projects ? "all_tenants=1" : "limit=1000"));
  std::vector<Column> columns = {{"ID", "id"},
                                 {"Name", "name"},
                                 {"Status", "status"},
                                 {"Size", "size", Kind::gib},
                                 {"Type", "volume_type"},
                                 {"Bootable", "bootable"},
                                 {"Created", "created_at"}};
  if (arguments.all_projects) columns.push_back({"Project", "os-vol-tenant-attr:tenant_id"});
  session.output().list(columns, rows);
  return {};
}

Result<void> show(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto id, find(session, arguments.id));
  IMAGECACHE_TRY(auto volume, fetch(session, id));
  if (session.output().format() == Format::table) volume.erase("links");
  session.output().record(volume);
  return {};
}

Result<bool> look(Session& session, const std::string& id, Json& volume) {
  IMAGECACHE_TRY(volume, fetch(session, id));
  const auto status = text_of(volume, "status");
  if (status == "available") return true;
  if (status != "creating" && status != "downloading") {
    // The reason is for the operator, so it is not in Cinder's answer; the job has it while the daemon remembers.
    std::string reason = "the daemon's log says why";
    if (const auto job = session.get(Api::status, "/v1/jobs/" + encode(id))) {
      if (auto error = text_of(object_of(*job, "job"), "error"); !error.empty()) reason = std::move(error);
    }
    return fail(Errc::internal, fmt::format("volume {}: is in status {}: {}", id, status, reason));
  }
  if (const auto job = session.get(Api::status, "/v1/jobs/" + encode(id))) {
    const auto progress = object_of(*job, "job");
    const auto phase = text_of(progress, "phase");
    session.progress().show(phase.empty() ? status : phase, number_of(progress, "done_bytes"),
                            number_of(progress, "total_bytes"));
  }
  return false;
}

Result<void> create(Session& session, const Arguments& arguments) {
  Json volume = {{"size", arguments.size_gb}};
  if (!arguments.image.empty()) volume["imageRef"] = arguments.image;
  if (!arguments.name.empty()) volume["name"] = arguments.name;
  if (!arguments.type.empty()) volume["volume_type"] = arguments.type;
  auto answer = session.call({.api = Api::volume,
                              .method = "POST",
                              .path = session.volume_path("/volumes"),
                              .body = Json{{"volume", std::move(volume)}}});
  if (!answer) {
    const auto what = arguments.image.empty() ? std::string("new volume") : "volume from image " + arguments.image;
    return fail(answer.error().code, what + ": " + answer.error().message);
  }
  auto created = object_of(*answer, "volume");
  const auto id = text_of(created, "id");
  if (arguments.wait) {
    IMAGECACHE_CHECK(
        session.wait(std::chrono::seconds(arguments.timeout_s), [&] { return look(session, id, created); }));
  }
  if (session.output().format() == Format::table) created.erase("links");
  session.output().record(created);
  return {};
}

Result<void> remove(Session& session, const Arguments& arguments) {
  return for_each_of(arguments.ids, [&](const std::string& volume) -> Result<void> {
    IMAGECACHE_TRY(const auto id, find(session, volume));
    auto removed =
        session.call({.api = Api::volume, .method = "DELETE", .path = session.volume_path("/volumes/" + encode(id))});
    if (!removed) return fail(removed.error().code, fmt::format("volume {}: {}", volume, removed.error().message));
    if (arguments.wait) {
      IMAGECACHE_CHECK(session.wait(std::chrono::seconds(arguments.timeout_s), [&]() -> Result<bool> {
        const auto left = fetch(session, id);
        if (!left && left.error().code == Errc::not_found) return true;
        if (!left) return std::unexpected(left.error());
        if (text_of(*left, "status") == "deleting") return false;
        return fail(Errc::internal, fmt::format("volume {}: is in status {}", volume, text_of(*left, "status")));
      }));
    }
    session.output().say(fmt::format("volume {}: {}", volume, arguments.wait ? "deleted" : "is being deleted"));
    return {};
  });
}

}  // namespace

void add_volumes(Commands& commands) {
  auto& noun = commands.noun("volumes", "Volumes, through the Block Storage API");
  auto& arguments = commands.arguments();
  remote_verb(commands, noun, "list", "List a project's volumes", list)
      .add_flag("--all-projects", arguments.all_projects, "Of all projects, the internal tenant's among them");
  remote_verb(commands, noun, "show", "Show one volume", show)
      .add_option("VOLUME", arguments.id, "Id or name of a volume")
      ->required();
  auto& creating = remote_verb(commands, noun, "create", "Create a volume", create);
  creating.add_option("--image", arguments.image, "Id of an image that the volume holds (default: an empty volume)")
      ->option_text("ID");
  creating.add_option("--size", arguments.size_gb, "Size in GiB")
      ->required()
      ->check(CLI::Range(1, 2147483647))
      ->option_text("GIB");
  creating.add_option("--name", arguments.name, "A name for people")->option_text("NAME");
  creating.add_option("--type", arguments.type, "Volume type (default: default_volume_type, or the first backend)")
      ->option_text("TYPE");
  commands.add_wait(creating, "until it is available");
  auto& deleting = remote_verb(commands, noun, "delete", "Delete volumes", remove);
  deleting.add_option("VOLUME", arguments.ids, "Ids or names of volumes")->required();
  commands.add_wait(deleting, "until they are gone");
}

}  // namespace imagecache::cli
