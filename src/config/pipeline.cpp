#include "config/pipeline.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "base/fd.hpp"
#include "base/try.hpp"
#include "config/paste_walk.hpp"

namespace imagecache::config {
namespace {

constexpr std::string_view glance_paste = "glance-api-paste.ini";

// What Glance ships, the same since Essex.
struct Shipped {
  std::string_view flavor;
  bool checks_tokens, caches, manages_cache;
};
constexpr auto shipped = std::to_array<Shipped>({
    {.flavor = "", .checks_tokens = false, .caches = false, .manages_cache = false},
    {.flavor = "caching", .checks_tokens = false, .caches = true, .manages_cache = false},
    {.flavor = "cachemanagement", .checks_tokens = false, .caches = true, .manages_cache = true},
    {.flavor = "keystone", .checks_tokens = true, .caches = false, .manages_cache = false},
    {.flavor = "keystone+caching", .checks_tokens = true, .caches = true, .manages_cache = false},
    {.flavor = "keystone+cachemanagement", .checks_tokens = true, .caches = true, .manages_cache = true},
});

std::string application_of(std::string_view flavor) {
  return flavor.empty() ? "glance-api" : fmt::format("glance-api-{}", flavor);
}

// What the operator most likely meant; empty if nothing is near.
std::string meant_by(std::string_view flavor, const std::vector<std::string>& flavors) {
  std::string wanted(flavor);
  if (flavor.ends_with("cachemanage")) wanted = std::string(flavor) + "ment";
  if (flavor.ends_with("cache")) wanted = std::string(flavor.substr(0, flavor.size() - 1)) + "ing";
  if (flavor.ends_with("cachingmanagement")) wanted.replace(wanted.size() - 17, 17, "cachemanagement");
  if (const auto plus = flavor.find_first_of(" -_,"); plus != std::string_view::npos) wanted[plus] = '+';
  return std::ranges::find(flavors, wanted) != flavors.end() && wanted != flavor ? wanted : std::string();
}

std::unexpected<Error> no_such_flavor(std::string_view flavor, const std::vector<std::string>& flavors,
                                      std::string_view source) {
  const auto meant = meant_by(flavor, flavors);
  std::vector<std::string> shown;
  shown.reserve(flavors.size());
  for (const auto& one : flavors) shown.push_back(one.empty() ? "none at all" : one);
  return fail(Errc::invalid_argument,
              fmt::format("[paste_deploy] flavor = {}: {}{} has the flavors: {}", flavor,
                          meant.empty() ? std::string() : fmt::format("write flavor = {}; ", meant), source,
                          fmt::join(shown, ", ")));
}

std::unexpected<Error> refuse_trusted_auth(std::string_view flavor) {
  const auto managed = flavor.find("cache") == std::string_view::npos ? "keystone" : "keystone+cachemanagement";
  return fail(
      Errc::invalid_argument,
      fmt::format("[paste_deploy] flavor = {}: believes whatever X-User-Id and X-Roles a client sends, and left "
                  "Glance in Rocky; write flavor = {}",
                  flavor, managed));
}

Result<Pipeline> pipeline_as_shipped(std::string_view flavor) {
  constexpr std::string_view source = "Glance's pipelines as shipped";
  const auto found = std::ranges::find(shipped, flavor, &Shipped::flavor);
  if (found != shipped.end()) {
    return Pipeline{.name = application_of(flavor),
                    .source = std::string(source),
                    .known = true,
                    .checks_tokens = found->checks_tokens,
                    .caches = found->caches,
                    .manages_cache = found->manages_cache,
                    .healthcheck = true};
  }
  std::vector<std::string> flavors;
  flavors.reserve(shipped.size());
  for (const auto& one : shipped) flavors.emplace_back(one.flavor);
  return no_such_flavor(flavor, flavors, "no paste file was found, and what Glance ships");
}

bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// glance-api takes the last --config-file's; ours may be the last here, so the others are asked too.
std::optional<std::filesystem::path> find_paste_file(const Config& config, const PasteSearch& search) {
  const auto& sources = config.sources();
  for (auto source = sources.rbegin(); source != sources.rend(); ++source) {
    if (source->kind != ConfigSource::Kind::file || source->path.extension() != ".conf") continue;
    if (auto found = config.find_file(source->path.stem().native() + "-paste.ini")) return found;
  }
  if (auto found = config.find_file(glance_paste)) return found;
  for (const auto& directory : search.directories) {
    if (auto path = directory / glance_paste; is_file(path)) return path;
  }
  return std::nullopt;
}

Result<Pipeline> from_files(const Config& config, const PasteSearch& search, const std::string& flavor) {
  std::optional<std::filesystem::path> path;
  if (const auto named = config.get_string(paste_section, "config_file"); !named.empty()) {
    path = std::filesystem::absolute(named);
    if (!is_file(*path)) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}: [paste_deploy] config_file = {}: there is no such file{}",
                              config.section(paste_section).where("config_file"), named,
                              named.starts_with('/') ? "" : ", seen from the directory that this was started in"));
    }
  } else {
    path = find_paste_file(config, search);
  }
  if (!path) return pipeline_as_shipped(flavor);
  auto text = base::read_small_file(*path);
  if (!text) {
    return fail(Errc::invalid_argument,
                fmt::format("{}; let this service's user read it, or name a copy in [paste_deploy] config_file",
                            text.error().message));
  }
  return pipeline_of(*text, path->native(), flavor);
}

}  // namespace

Result<Pipeline> pipeline_of(std::string_view paste_text, const std::string& path, const std::string& flavor) {
  const auto as_mistake = [](Error error) { return fail(Errc::invalid_argument, std::move(error.message)); };
  IMAGECACHE_TRY(const auto file, parse_paste(paste_text, path));
  const auto name = application_of(flavor);
  auto start = file.find_app(name);
  if (!start) return as_mistake(std::move(start.error()));
  if (*start == nullptr) return no_such_flavor(flavor, flavors_of(file), path);
  PasteWalk images(file, flavor);
  if (auto walked = images.application(name, "/v2/images"); !walked) return as_mistake(std::move(walked.error()));
  PasteWalk health(file, flavor);
  if (auto walked = health.application(name, "/healthcheck"); !walked) return as_mistake(std::move(walked.error()));
  return Pipeline{.name = name,
                  .source = path,
                  .known = true,
                  .checks_tokens = images.passes(Filter::auth_token),
                  .caches = images.passes(Filter::cache),
                  .manages_cache = images.passes(Filter::cache_manage),
                  .healthcheck = health.passes(Filter::healthcheck)};
}

Result<Pipeline> image_pipeline(const Config& config, const PasteSearch& search) {
  const auto directory = config.get_string("DEFAULT", "image_cache_dir");
  if (!config.is_set(paste_section, "flavor") && !config.is_set(paste_section, "config_file")) {
    const bool on = !directory.empty();
    return Pipeline{.name = {},
                    .source = on ? "image_cache_dir" : "image_cache_dir, which is not set",
                    .known = false,
                    .checks_tokens = config.get_string("DEFAULT", "auth_strategy") == "keystone",
                    .caches = on,
                    .manages_cache = on,
                    .healthcheck = true};
  }
  const auto flavor = config.get_string(paste_section, "flavor");
  const auto place = config.section(paste_section).where("flavor");
  const auto placed = [&](Error error) {
    if (error.message.starts_with("[paste_deploy] flavor")) error.message.insert(0, place + ": ");
    return std::unexpected(std::move(error));
  };
  if (flavor.starts_with("trusted-auth")) return placed(refuse_trusted_auth(flavor).error());
  auto pipeline = from_files(config, search, flavor);
  if (!pipeline) return placed(std::move(pipeline.error()));
  if (pipeline->caches && directory.empty()) {
    return placed({Errc::invalid_argument,
                   fmt::format("[paste_deploy] flavor = {}: the pipeline {} caches images, so that [DEFAULT] "
                               "image_cache_dir must name a directory",
                               flavor, pipeline->name)});
  }
  return pipeline;
}

}  // namespace imagecache::config
