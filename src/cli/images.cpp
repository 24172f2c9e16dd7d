// images: the image cache, through the daemon while it runs and on its directory while it does not.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/images_remote.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

Result<ImagesReport> on_the_directory(Session& session, const ImagesRequest& request) {
  if (!session.offline()) return fail(Errc::unsupported, "this program cannot work without the daemon");
  IMAGECACHE_TRY(const auto* config, session.config());
  return session.offline()(*config, request);
}

Result<ImagesReport> perform(Session& session, const Arguments& arguments, ImagesRequest request) {
  request.on_progress = [&session](const std::string& id, std::uint64_t done_bytes, std::uint64_t total_bytes) {
    session.progress().show("image " + id, done_bytes, total_bytes);
  };
  const std::chrono::seconds timeout(arguments.timeout_s);
  if (arguments.offline) return on_the_directory(session, request);
  if (arguments.online || session.has_url() || !session.offline()) return ask_daemon(session, request, timeout);
  IMAGECACHE_TRY(const auto presence, session.presence(Api::image));
  if (presence.there) return ask_daemon(session, request, timeout);
  auto report = on_the_directory(session, request);
  if (!report && report.error().code == Errc::conflict) {
    return fail(Errc::conflict, fmt::format("{}, and cannot be asked: {}", report.error().message, presence.why_not));
  }
  return report;
}

Json json_of(const ListedImage& image) {
  Json row{{"image_id", image.image_id}, {"state", image.state}};
  if (image.pinned) row["pinned"] = *image.pinned;
  if (image.state != "cached") return row;
  row["size"] = image.size_bytes;
  row["hits"] = image.hits;
  row["last_accessed"] = image.last_accessed;
  row["last_modified"] = image.last_modified;
  return row;
}

Result<void> list(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto report, perform(session, arguments, {.action = ImagesAction::list}));
  Json rows = Json::array();
  bool pins_known = false;
  for (const auto& image : report.images) {
    rows.push_back(json_of(image));
    pins_known = pins_known || image.pinned.has_value();
  }
  std::vector<Column> columns = {{"Image", "image_id"},
                                 {"State", "state"},
                                 {"Size", "size", Kind::bytes},
                                 {"Hits", "hits", Kind::number},
                                 {"Last used", "last_accessed", Kind::epoch}};
  if (pins_known) columns.push_back({"Pinned", "pinned"});
  session.output().list(columns, rows);
  return {};
}

/// Says what became of each image, `done` being the word for success; all failures as one Error.
Result<void> tell(Session& session, const ImagesReport& report, const std::string& done) {
  session.progress().clear();
  std::optional<Error> failed;
  Json rows = Json::array();
  for (const auto& [id, failure] : report.outcomes) {
    Json row{{"image_id", id}, {"result", failure ? "failed" : done}};
    if (failure) row["error"] = failure->message;
    rows.push_back(std::move(row));
    if (!failure) {
      session.output().say(fmt::format("image {}: {}", id, done));
      continue;
    }
    // Our own messages begin with the image, those of the daemon do not.
    const std::string thing = "image " + id;
    const auto line = failure->message.starts_with(thing) ? failure->message : thing + ": " + failure->message;
    if (failed) {
      failed->message += "\n" + line;
    } else {
      failed = Error{failure->code, line};
    }
  }
  if (session.output().format() == Format::json) session.output().list({}, rows);
  if (failed) return std::unexpected(*std::move(failed));
  return {};
}

Commands::Action for_each(ImagesAction action, const std::string& done) {
  return [=](Session& session, const Arguments& arguments) -> Result<void> {
    IMAGECACHE_TRY(const auto report, perform(session, arguments, {.action = action, .ids = arguments.ids}));
    return tell(session, report, done);
  };
}

Result<void> cache(Session& session, const Arguments& arguments) {
  const auto action = arguments.wait ? ImagesAction::prefetch : ImagesAction::queue;
  return for_each(action, arguments.wait ? "cached" : "queued")(session, arguments);
}

Result<void> prefetch(Session& session, const Arguments& arguments) {
  IMAGECACHE_TRY(const auto report,
                 perform(session, arguments, {.action = ImagesAction::prefetch, .ids = arguments.ids}));
  if (report.outcomes.empty()) session.output().say("nothing is queued");
  return tell(session, report, "cached");
}

Result<void> clear(Session& session, const Arguments& arguments) {
  const auto action = arguments.target == "cache"   ? ImagesAction::clear_cache
                      : arguments.target == "queue" ? ImagesAction::clear_queue
                                                    : ImagesAction::clear_all;
  IMAGECACHE_CHECK(perform(session, arguments, {.action = action}));
  if (session.output().format() == Format::json) session.output().record(Json::object());
  session.output().say("cleared");
  return {};
}

Commands::Action sweep(ImagesAction action, const std::string& did, const std::string& what) {
  return [=](Session& session, const Arguments& arguments) -> Result<void> {
    IMAGECACHE_TRY(const auto report, perform(session, arguments, {.action = action}));
    Json object = Json::object();
    if (report.files) object["total_files_" + did] = *report.files;
    if (report.bytes) object["total_bytes_" + did] = *report.bytes;
    if (session.output().format() == Format::json) session.output().record(object);
    session.output().say(report.files ? fmt::format("{} {} {}, {}", did, *report.files, what,
                                                    base::format_bytes(report.bytes.value_or(0)))
                                      : did);
    return {};
  };
}

CLI::App& images_verb(Commands& commands, CLI::App& noun, const std::string& name, const std::string& help,
                      Commands::Action action) {
  auto& app = remote_verb(commands, noun, name, help, std::move(action));
  auto& arguments = commands.arguments();
  auto* offline = app.add_flag("--offline", arguments.offline,
                               "Work on the directory itself; fails while the daemon runs (default: if nobody listens "
                               "where the daemon would)");
  app.add_flag("--online", arguments.online, "Ask the daemon; fails while it does not run")->excludes(offline);
  return app;
}

}  // namespace

void add_images(Commands& commands) {
  auto& noun = commands.noun("images", "Image files in the image cache; the daemon need not run");
  auto& arguments = commands.arguments();
  const auto ids = [&](CLI::App& app, bool required = true) {
    app.add_option("IMAGE", arguments.ids, "Ids of images")->required(required);
  };
  const auto verb = [&](const std::string& name, const std::string& help, Commands::Action action) -> CLI::App& {
    return images_verb(commands, noun, name, help, std::move(action));
  };
  verb("list", "List the images that are cached, queued or pinned", list);
  ids(verb("queue", "Have images downloaded into the cache; without the daemon they are by the next prefetch",
           for_each(ImagesAction::queue, "queued")));
  auto& caching = verb("cache", "As queue; with --wait, as prefetch of these images", cache);
  ids(caching);
  commands.add_wait(caching, "until they are cached");
  auto& fetching =
      verb("prefetch", "Download images into the cache, or all that is queued; exit code 1 if any fails", prefetch);
  ids(fetching, false);
  fetching.add_option("--timeout", arguments.timeout_s, "Longest wait for the daemon in seconds (default: 3600)")
      ->check(CLI::Range(1, 7 * 86400))
      ->option_text("SECONDS");
  ids(verb("delete", "Remove images from the cache and the queue",
           for_each(ImagesAction::remove, "no longer cached or queued")));
  verb("clear", "Remove all images from the cache and the queue", clear)
      .add_option("--target", arguments.target, "Only the cache, or only the queue (default: both)")
      ->check(CLI::IsMember({"cache", "queue", "both"}));
  verb("prune", "Remove images by the eviction policy until image_cache_max_size is kept",
       sweep(ImagesAction::prune, "pruned", "image(s)"));
  verb("clean", "Remove stalled downloads and invalid files", sweep(ImagesAction::clean, "cleaned", "file(s)"));
  ids(verb("pin", "Keep images from being evicted; one may be pinned before it is cached",
           for_each(ImagesAction::pin, "pinned")));
  ids(verb("unpin", "Let images be evicted again", for_each(ImagesAction::unpin, "no longer pinned")));
}

}  // namespace imagecache::cli
