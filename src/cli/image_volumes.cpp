// image-volumes: volumes that hold an image's content, kept to be cloned.
#include <fmt/format.h>

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

Result<std::string> the_only_backend(Session& session) {
  IMAGECACHE_TRY(const auto answer, session.get(Api::status, "/v1/backends"));
  const auto backends = array_of(answer, "backends");
  if (backends.size() == 1) return text_of(backends[0], "name");
  std::string names;
  for (const auto& backend : backends) names += (names.empty() ? "" : ", ") + text_of(backend, "name");
  if (names.empty()) return fail(Errc::invalid_argument, "no backend is enabled: set enabled_backends");
  return fail(Errc::invalid_argument, "name one of the backends with --backend: " + names);
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

Result<void> warm(Session& session, const Arguments& arguments) {
  auto backend = arguments.backend;
  if (backend.empty()) {
    IMAGECACHE_TRY(backend, the_only_backend(session));
  }
  const auto what = fmt::format("image {} on backend {}", arguments.image, backend);
  auto answer = session.call({.api = Api::status,
                              .method = "POST",
                              .path = "/v1/image-volumes",
                              .body = Json{{"image", arguments.image}, {"backend", backend}}});
  if (!answer) return fail(answer.error().code, what + ": " + answer.error().message);
  const auto job = text_of(*answer, "job");
  if (!arguments.wait || job.empty()) {
    session.output().record(*answer);
    return {};
  }
  Json last;
  IMAGECACHE_CHECK(
      session.wait(std::chrono::seconds(arguments.timeout_s), [&] { return look(session, job, what, last); }));
  session.output().record(last);
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
  remote_verb(commands, noun, "list", "List the image-volumes of all backends", list);
  remote_verb(commands, noun, "show", "Show one image-volume", show)
      .add_option("IMAGE_VOLUME", arguments.id, "Id of an image-volume")
      ->required();
  auto& warming = remote_verb(commands, noun, "warm", "Make an image-volume before anybody asks for a volume", warm);
  warming.add_option("IMAGE", arguments.image, "Id of an image")->required();
  warming
      .add_option("--backend", arguments.backend, "Section name of a backend; may be left out where there is only one")
      ->option_text("NAME");
  commands.add_wait(warming, "until it is there");
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
