// images: the image cache, through Glance's own cache API.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "base/try.hpp"
#include "cli/remote.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

Result<Json> listed(Session& session) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::image, "/v2/cache"));
  Json rows = Json::array();
  for (const auto& image : array_of(answer, "cached_images")) {
    Json row = image;
    row["state"] = "cached";
    rows.push_back(std::move(row));
  }
  for (const auto& id : array_of(answer, "queued_images")) rows.push_back({{"image_id", id}, {"state", "queued"}});
  return rows;
}

Result<void> list(Session& session, const Arguments&) {
  IMAGECACHE_TRY(const auto rows, listed(session));
  session.output().list({{"Image", "image_id"},
                         {"State", "state"},
                         {"Size", "size", Kind::bytes},
                         {"Hits", "hits", Kind::number},
                         {"Last used", "last_accessed", Kind::epoch}},
                        rows);
  return {};
}

// One look at an image that is on its way: true once it is cached. `misses` counts the looks at which it was nowhere.
Result<bool> look(Session& session, const std::string& id, unsigned& misses) {
  constexpr unsigned most_misses = 3;  // between two states it may be in neither list for a moment
  IMAGECACHE_TRY(const auto rows, listed(session));
  const auto row = std::ranges::find_if(rows, [&](const Json& one) { return text_of(one, "image_id") == id; });
  if (row != rows.end() && text_of(*row, "state") == "cached") return true;
  bool on_its_way = row != rows.end();
  // Only for people: where the status API is not to be had, the wait goes on without bytes.
  if (const auto answer = session.get(Api::status, "/v1/fills")) {
    for (const auto& fill : array_of(*answer, "fills")) {
      if (text_of(fill, "image_id") != id) continue;
      on_its_way = true;
      session.progress().show("image " + id, number_of(fill, "done_bytes"), number_of(fill, "total_bytes"));
    }
  }
  misses = on_its_way ? 0 : misses + 1;
  if (misses < most_misses) return false;
  return fail(
      Errc::unavailable,
      "image " + id + ": is neither cached nor queued any more, so its download failed; the daemon's log says why");
}

Result<void> cache(Session& session, const Arguments& arguments) {
  return for_each_of(arguments.ids, [&](const std::string& id) -> Result<void> {
    auto queued = session.call({.api = Api::image, .method = "PUT", .path = "/v2/cache/" + encode(id)});
    if (!queued) return fail(queued.error().code, fmt::format("image {}: {}", id, queued.error().message));
    if (arguments.wait) {
      unsigned misses = 0;
      auto waited = session.wait(std::chrono::seconds(arguments.timeout_s), [&] { return look(session, id, misses); });
      if (!waited) return fail(waited.error().code, waited.error().message);
    }
    session.output().say(fmt::format("image {}: {}", id, arguments.wait ? "cached" : "queued"));
    return {};
  });
}

Result<void> remove(Session& session, const Arguments& arguments) {
  return for_each_of(arguments.ids, [&](const std::string& id) -> Result<void> {
    auto removed = session.call({.api = Api::image, .method = "DELETE", .path = "/v2/cache/" + encode(id)});
    if (!removed) return fail(removed.error().code, fmt::format("image {}: {}", id, removed.error().message));
    session.output().say(fmt::format("image {}: no longer cached or queued", id));
    return {};
  });
}

Result<void> clear(Session& session, const Arguments& arguments) {
  Session::Request request{.api = Api::image, .method = "DELETE", .path = "/v2/cache"};
  if (arguments.target == "cache" || arguments.target == "queue") {
    request.headers.push_back("x-image-cache-clear-target: " + arguments.target);
  }
  IMAGECACHE_CHECK(session.call(request));
  session.output().say("cleared");
  return {};
}

Result<void> prune(Session& session, const Arguments&) {
  IMAGECACHE_TRY(const auto answer, session.call({.api = Api::image, .method = "POST", .path = "/v2/cache/prune"}));
  if (session.output().format() == Format::json) {
    session.output().record(answer);
  } else {
    session.output().say(fmt::format("pruned {} image(s), {}", number_of(answer, "total_files_pruned"),
                                     base::format_bytes(number_of(answer, "total_bytes_pruned"))));
  }
  return {};
}

Result<void> clean(Session& session, const Arguments&) {
  IMAGECACHE_CHECK(session.call({.api = Api::image, .method = "POST", .path = "/v2/cache/clean"}));
  session.output().say("cleaned");
  return {};
}

}  // namespace

void add_images(Commands& commands) {
  auto& noun = commands.noun("images", "Image files in the image cache");
  auto& arguments = commands.arguments();
  remote_verb(commands, noun, "list", "List the images that are cached or queued", list);
  auto& caching = remote_verb(commands, noun, "cache", "Download images into the cache", cache);
  caching.add_option("IMAGE", arguments.ids, "Ids of images")->required();
  commands.add_wait(caching, "until they are cached");
  remote_verb(commands, noun, "delete", "Remove images from the cache and the queue", remove)
      .add_option("IMAGE", arguments.ids, "Ids of images")
      ->required();
  remote_verb(commands, noun, "clear", "Remove all images from the cache and the queue", clear)
      .add_option("--target", arguments.target, "Only the cache, or only the queue (default: both)")
      ->check(CLI::IsMember({"cache", "queue", "both"}));
  remote_verb(commands, noun, "prune", "Remove the images that were used least recently until the limit is kept",
              prune);
  remote_verb(commands, noun, "clean", "Remove stalled downloads and invalid files", clean);
}

}  // namespace imagecache::cli
