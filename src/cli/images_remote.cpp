// Glance's own cache API on the image port; pins and downloads under way on the status port.
#include "cli/images_remote.hpp"

#include <fmt/format.h>

#include <functional>
#include <map>

#include "base/try.hpp"

namespace imagecache::cli {
namespace {

using Json = nlohmann::json;

double seconds_of(const Json& object, const std::string& name) {
  return object.is_object() && object.contains(name) && object[name].is_number() ? object[name].get<double>() : 0;
}

Result<std::vector<ListedImage>> listed(Session& session) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::image, "/v2/cache"));
  std::vector<ListedImage> images;
  for (const auto& image : array_of(answer, "cached_images")) {
    images.push_back({.image_id = text_of(image, "image_id"),
                      .state = "cached",
                      .size_bytes = number_of(image, "size"),
                      .hits = number_of(image, "hits"),
                      .last_accessed = seconds_of(image, "last_accessed"),
                      .last_modified = seconds_of(image, "last_modified"),
                      .pinned = std::nullopt});
  }
  for (const auto& id : array_of(answer, "queued_images")) {
    if (id.is_string()) images.push_back({.image_id = id.get<std::string>(), .state = "queued", .pinned = {}});
  }
  return images;
}

/// The images of the status API, a page after the other. How long a page is, the daemon decides.
Result<std::vector<Json>> managed(Session& session) {
  std::vector<Json> all;
  for (std::string marker;;) {
    const auto query = marker.empty() ? "" : "&marker=" + encode(marker);
    IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/images?limit=1000" + query));
    const auto images = array_of(answer, "images");
    if (images.empty() || text_of(images.back(), "image_id") <= marker) return all;
    marker = text_of(images.back(), "image_id");
    all.insert(all.end(), images.begin(), images.end());
  }
}

Result<ImagesReport> list(Session& session) {
  ImagesReport report;
  IMAGECACHE_TRY(report.images, listed(session));
  if (session.has_url()) return report;  // one API's address: the other's is not known
  const auto more = managed(session);
  if (!more) return report;  // what it adds is an extra: the list is worth having without
  std::map<std::string, std::size_t> place;
  for (std::size_t at = 0; at < report.images.size(); ++at) place[report.images[at].image_id] = at;
  for (auto& image : report.images) image.pinned = false;
  for (const auto& row : *more) {
    const auto id = text_of(row, "image_id");
    const bool pinned = row.contains("pinned") && row["pinned"] == true;
    if (const auto known = place.find(id); known != place.end()) {
      report.images[known->second].pinned = pinned;
    } else if (const auto state = text_of(row, "state"); state != "cached") {
      // Being filled, or pinned and nothing else. What is cached has been so only since the list was asked for.
      report.images.push_back({.image_id = id, .state = state, .pinned = pinned});
    }
  }
  return report;
}

/// The same call for each image; what fails is said of that image and the others go on.
ImagesReport for_each_image(Session& session, const std::vector<std::string>& ids,
                            const std::function<Session::Request(const std::string& id)>& request_of) {
  ImagesReport report;
  for (const auto& id : ids) {
    auto done = session.call(request_of(id));
    report.outcomes.push_back({id, done ? std::nullopt : std::optional(std::move(done).error())});
  }
  return report;
}

ImagesReport queue(Session& session, const std::vector<std::string>& ids) {
  return for_each_image(session, ids, [](const std::string& id) -> Session::Request {
    return {.api = Api::image, .method = "PUT", .path = "/v2/cache/" + encode(id)};
  });
}

ImagesReport pin(Session& session, const ImagesRequest& request) {
  const std::string method = request.action == ImagesAction::pin ? "PUT" : "DELETE";
  return for_each_image(session, request.ids, [&](const std::string& id) -> Session::Request {
    return {.api = Api::status, .method = method, .path = "/v1/images/" + encode(id) + "/pin"};
  });
}

Result<ImagesReport> clear(Session& session, const std::string& target) {
  Session::Request request{.api = Api::image, .method = "DELETE", .path = "/v2/cache"};
  if (!target.empty()) request.headers.push_back("x-image-cache-clear-target: " + target);
  IMAGECACHE_CHECK(session.call(request));
  return ImagesReport{};
}

Result<ImagesReport> prune(Session& session) {
  IMAGECACHE_TRY(const auto answer, session.call({.api = Api::image, .method = "POST", .path = "/v2/cache/prune"}));
  return ImagesReport{.files = number_of(answer, "total_files_pruned"),
                      .bytes = number_of(answer, "total_bytes_pruned")};
}

Result<ImagesReport> clean(Session& session) {
  IMAGECACHE_CHECK(session.call({.api = Api::image, .method = "POST", .path = "/v2/cache/clean"}));
  return ImagesReport{};
}

/// Waits for images that are on their way. What is queued is downloaded by the daemon, which tries a failed one again
/// after a while: one that stays queued while nothing is downloaded counts as failed here.
class Waiting {
 public:
  Waiting(Session& session, const ImagesRequest& request, const std::vector<std::string>& ids)
      : session_(session), request_(request) {
    for (const auto& id : ids) looks_in_vain_[id] = 0;
  }

  bool done() const { return looks_in_vain_.empty(); }
  ImagesReport take_report() { return std::move(report_); }

  Result<bool> look() {
    constexpr unsigned most_in_vain = 4;  // between two states an image may be in neither list for a moment
    constexpr unsigned most_queued = 20;  // 10 s in which the daemon downloads nothing at all
    IMAGECACHE_TRY(const auto images, listed(session_));
    std::map<std::string, std::string> states;
    for (const auto& image : images) states[image.image_id] = image.state;
    const auto filling = downloads();
    for (auto entry = looks_in_vain_.begin(); entry != looks_in_vain_.end();) {
      auto& [id, in_vain] = *entry;
      const auto state = states.find(id);
      const bool queued = state != states.end() && state->second == "queued";
      if (state != states.end() && state->second == "cached") {
        report_.outcomes.push_back({id, std::nullopt});
        entry = looks_in_vain_.erase(entry);
        continue;
      }
      const bool moves = filling.contains(id) || (queued && !filling.empty());
      in_vain = moves ? 0 : in_vain + 1;
      if (in_vain < (queued ? most_queued : most_in_vain)) {
        ++entry;
        continue;
      }
      const std::string what = queued ? "is queued, but the daemon does not download it now; it tries again later"
                                      : "is neither cached nor queued any more, so its download failed";
      report_.outcomes.push_back({id, Error{Errc::unavailable, what + "; the daemon's log says why"}});
      entry = looks_in_vain_.erase(entry);
    }
    return done();
  }

  /// For what is still not there when the wait is over.
  void give_up(const Error& error) {
    for (const auto& [id, in_vain] : looks_in_vain_) report_.outcomes.push_back({id, error});
    looks_in_vain_.clear();
  }

 private:
  std::map<std::string, std::uint64_t> downloads() {
    std::map<std::string, std::uint64_t> found;
    // Only for people: where the status API is not to be had, the wait goes on without bytes.
    const auto answer = session_.get(Api::status, "/v1/fills");
    if (!answer) return found;
    for (const auto& fill : array_of(*answer, "fills")) {
      const auto id = text_of(fill, "image_id");
      const auto done_bytes = number_of(fill, "done_bytes");
      found[id] = done_bytes;
      if (looks_in_vain_.contains(id) && request_.on_progress) {
        request_.on_progress(id, done_bytes, number_of(fill, "total_bytes"));
      }
    }
    return found;
  }

  Session& session_;
  const ImagesRequest& request_;
  std::map<std::string, unsigned> looks_in_vain_;
  ImagesReport report_;
};

Result<ImagesReport> prefetch(Session& session, const ImagesRequest& request, std::chrono::seconds timeout) {
  std::vector<std::string> wanted;
  ImagesReport report;
  if (request.ids.empty()) {
    IMAGECACHE_TRY(const auto images, listed(session));
    for (const auto& image : images) {
      if (image.state == "queued") wanted.push_back(image.image_id);
    }
  } else {
    for (auto& outcome : queue(session, request.ids).outcomes) {
      if (outcome.failure) {
        report.outcomes.push_back(std::move(outcome));
      } else {
        wanted.push_back(outcome.image_id);
      }
    }
  }
  Waiting waiting(session, request, wanted);
  if (!waiting.done()) {
    const auto waited = session.wait(timeout, [&] { return waiting.look(); });
    if (!waited) waiting.give_up(waited.error());
  }
  for (auto& outcome : waiting.take_report().outcomes) report.outcomes.push_back(std::move(outcome));
  return report;
}

}  // namespace

Result<ImagesReport> ask_daemon(Session& session, const ImagesRequest& request, std::chrono::seconds timeout) {
  switch (request.action) {
    case ImagesAction::list:
      return list(session);
    case ImagesAction::queue:
      return queue(session, request.ids);
    case ImagesAction::prefetch:
      return prefetch(session, request, timeout);
    case ImagesAction::remove:
      return for_each_image(session, request.ids, [](const std::string& id) -> Session::Request {
        return {.api = Api::image, .method = "DELETE", .path = "/v2/cache/" + encode(id)};
      });
    case ImagesAction::clear_all:
      return clear(session, "");
    case ImagesAction::clear_cache:
      return clear(session, "cache");
    case ImagesAction::clear_queue:
      return clear(session, "queue");
    case ImagesAction::prune:
      return prune(session);
    case ImagesAction::clean:
      return clean(session);
    case ImagesAction::pin:
    case ImagesAction::unpin:
      return pin(session, request);
  }
  return fail(Errc::internal, "an action that nobody knows");
}

}  // namespace imagecache::cli
