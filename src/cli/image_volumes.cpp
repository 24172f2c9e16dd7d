// image-volumes: volumes that hold an image's content, kept to be cloned.
#include <fmt/format.h>

#include <chrono>
#include <map>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

Result<void> list(Session& session, const Arguments&) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/image-volumes"));
  session.output().list({{"ID", "id"},
                         {"Backend", "backend"},
                         {"Image", "image_id"},
                         {"State", "state"},
                         {"Size", "size_gb", Kind::gib},
                         {"Clones", "clones", Kind::number},
                         {"Pinned", "pinned"},
                         {"Import", "import"},
                         {"Last used", "last_used"}},
                        array_of(answer, "image_volumes"));
  return {};
}

Result<void> show(Session& session, const Arguments& arguments) {
  auto answer = session.get(Api::status, "/v1/image-volumes/" + encode(arguments.id));
  if (!answer)
    return fail(answer.error().code, fmt::format("image-volume {}: {}", arguments.id, answer.error().message));
  session.output().record(object_of(*answer, "image_volume"));
  return {};
}

// Those that were named, or all that keep image-volumes.
Result<std::vector<std::string>> backends_to_warm(Session& session, const Arguments& arguments) {
  if (!arguments.backends.empty()) return arguments.backends;
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/backends"));
  std::vector<std::string> names;
  for (const auto& backend : array_of(answer, "backends")) {
    if (backend.value("image_volume_cache_enabled", false)) names.push_back(text_of(backend, "name"));
  }
  if (names.empty())
    return fail(Errc::invalid_argument,
                "no backend keeps image-volumes: set image_volume_cache_enabled in the section of one");
  return names;
}

Result<bool> look(Session& session, const std::string& job, const std::string& what, Json& last) {
  IMAGECACHE_TRY(last, session.get(Api::status, "/v1/jobs/" + encode(job)));
  last = object_of(last, "job");
  const auto state = text_of(last, "state");
  if (state == "done") return true;
  if (state == "failed") {
    const auto error = text_of(last, "error");
    return fail(Errc::internal, what + ": " + (error.empty() ? "failed; the daemon's log says why" : error));
  }
  const auto phase = text_of(last, "phase");
  session.progress().show(phase.empty() ? "build" : phase, number_of(last, "done_bytes"),
                          number_of(last, "total_bytes"));
  return false;
}

Result<Json> warm_one(Session& session, const Arguments& arguments, const std::string& backend) {
  const auto what = fmt::format("image {} on backend {}", arguments.image, backend);
  auto answer = session.call({.api = Api::status,
                              .method = "POST",
                              .path = "/v1/image-volumes",
                              .body = Json{{"image", arguments.image}, {"backend", backend}}});
  if (!answer) return fail(answer.error().code, what + ": " + answer.error().message);
  return std::move(*answer);
}

// All are begun before any is waited for: one download serves them all.
Result<void> warm(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto backends, backends_to_warm(session, arguments));
  std::map<std::string, Json> begun;
  auto all = for_each_of(backends, [&](const std::string& backend) -> Result<void> {
    IMAGECACHE_TRY(begun[backend], warm_one(session, arguments, backend));
    return {};
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(arguments.timeout_s);
  auto waited = for_each_of(backends, [&](const std::string& backend) -> Result<void> {
    const auto job = text_of(begun[backend], "job");
    if (!arguments.wait || job.empty()) return {};
    const auto what = fmt::format("image {} on backend {}", arguments.image, backend);
    const auto left = std::chrono::ceil<std::chrono::seconds>(deadline - std::chrono::steady_clock::now());
    return session.wait(left, [&] { return look(session, job, what, begun[backend]); });
  });
  Json rows = Json::array();
  for (auto& [backend, row] : begun) {
    if (!row.is_object()) continue;
    row["backend"] = backend;
    rows.push_back(row);
  }
  if (rows.size() == 1) session.output().record(rows[0]);
  if (rows.size() > 1 && arguments.wait) {
    session.output().list({{"Backend", "backend"}, {"State", "state"}, {"Image-volume", "result"}}, rows);
  } else if (rows.size() > 1) {
    session.output().list({{"Backend", "backend"}, {"Job", "job"}}, rows);
  }
  if (!all) return all;
  return waited;
}

Json uses_of(const Json& image_volumes) {
  Json rows = Json::array();
  for (const auto& image_volume : image_volumes) {
    for (const auto& use : array_of(image_volume, "uses")) {
      Json row = use;
      row["backend"] = image_volume.value("backend", "");
      row["image_volume"] = image_volume.value("id", "");
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

const std::vector<Column>& refusal_columns() {
  static const std::vector<Column> columns{{"Image", "image_id"},
                                           {"Backend", "backend"},
                                           {"Project", "project_id"},
                                           {"Size", "size_gb", Kind::gib},
                                           {"Times", "count", Kind::number},
                                           {"Last", "last_at"},
                                           {"Kind", "kind"},
                                           {"Reason", "reason"}};
  return columns;
}

Result<void> report(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/image-volumes/report"));
  Output& output = session.output();
  const auto refusals = array_of(answer, "refusals");
  if (arguments.refused) {
    output.list(refusal_columns(), refusals);
    return {};
  }
  const auto image_volumes = array_of(answer, "image_volumes");
  if (arguments.by_project) {
    output.list({{"Project", "project_id"},
                 {"Image", "image_id"},
                 {"Backend", "backend"},
                 {"Clones", "clones", Kind::number},
                 {"Saved", "saved_s", Kind::seconds},
                 {"Last used", "last_used"}},
                uses_of(image_volumes));
    return {};
  }
  if (output.format() == Format::json) {
    output.record(answer);
    return {};
  }
  output.list({{"Image", "image_id"},
               {"Backend", "backend"},
               {"Requested by", "requesting_project"},
               {"State", "state"},
               {"Import", "import"},
               {"Clones", "clones", Kind::number},
               {"Living", "living_clones", Kind::number},
               {"Size", "size_gb", Kind::gib},
               {"Used", "used_bytes", Kind::known_bytes},
               {"Saved", "saved_s", Kind::seconds}},
              image_volumes);
  if (refusals.empty() || output.format() == Format::csv) return {};
  output.say("Not kept:");
  output.list(refusal_columns(), refusals);
  return {};
}

Commands::Action each(std::string method, std::string suffix, std::string done) {
  return [=](Session& session, const Arguments& arguments) {
    return for_each_of(arguments.ids, [&](const std::string& id) -> Result<void> {
      auto result =
          session.call({.api = Api::status, .method = method, .path = "/v1/image-volumes/" + encode(id) + suffix});
      if (!result) return fail(result.error().code, fmt::format("image-volume {}: {}", id, result.error().message));
      session.output().say(fmt::format("image-volume {}: {}", id, done));
      return {};
    });
  };
}

}  // namespace

void add_image_volumes(Commands& commands) {
  auto& noun = commands.noun("image-volumes", "Volumes that hold an image's content, kept to be cloned");
  auto& arguments = commands.arguments();
  remote_verb(commands, noun, "list", "List the image-volumes of all backends", list, Commands::Prints::list);
  remote_verb(commands, noun, "show", "Show one image-volume", show)
      .add_option("IMAGE_VOLUME", arguments.id, "Id of an image-volume")
      ->required();
  auto& warming = remote_verb(commands, noun, "warm", "Make an image-volume before anybody asks for a volume", warm);
  warming.add_option("IMAGE", arguments.image, "Id of an image")->required();
  warming
      .add_option("--backend", arguments.backends,
                  "Section name of a backend; may come again (default: all that keep image-volumes)")
      ->allow_extra_args(false)
      ->option_text("NAME");
  commands.add_wait(warming, "until it is there");
  auto& reporting = remote_verb(
      commands, noun, "report",
      "Show what each image-volume holds, whom it has served and what that has spared, and what was not kept", report,
      Commands::Prints::list);
  reporting.add_flag("--by-project", arguments.by_project, "A line for each project that has got clones");
  reporting.add_flag("--refused", arguments.refused, "Only what was not kept, and why");
  const auto add_each = [&](const std::string& name, const std::string& help, Commands::Action action) {
    remote_verb(commands, noun, name, help, std::move(action))
        .add_option("IMAGE_VOLUME", arguments.ids, "Ids of image-volumes")
        ->required();
  };
  add_each("evict", "Delete image-volumes; volumes that were cloned from them live on", each("DELETE", "", "evicted"));
  add_each("pin", "Keep image-volumes from being evicted", each("PUT", "/pin", "pinned"));
  add_each("unpin", "Let image-volumes be evicted again", each("DELETE", "/pin", "no longer pinned"));
}

}  // namespace imagecache::cli
