// Whether the image cache is on, as an operator of Glance says it: by the pipeline that [paste_deploy] flavor selects
// in the paste file that glance-api runs with.
//
// What counts is which filters a request for /v2/images passes, and a filter is known by its factory, since operators
// rename sections; the section's name is asked only where the factory is nobody's that we know. A file of any release
// since Essex is understood: [pipeline:...] and [composite:...] applications, root applications that map paths, and
// today's pipeline_factory, whose section has a line for each flavor.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "imagecache/error.hpp"

namespace imagecache::config {

struct Pipeline {
  std::string name;    ///< the application, "glance-api-keystone+caching"; empty if not known
  std::string source;  ///< the paste file, or who else says so: for the log
  /// Neither flavor nor config_file is set anywhere: there is no Glance whose pipeline could count (stand-alone use),
  /// so image_cache_dir decides whether images are cached and managed, and auth_strategy whether tokens are checked.
  bool known = false;
  bool checks_tokens = false;
  bool caches = false;         ///< serves hits and keeps what it fetches; false: every request is passed on
  bool manages_cache = false;  ///< the older routes, /v2/cached_images and /v2/queued_images; /v2/cache needs none
  bool healthcheck = false;    ///< /healthcheck is answered
};

/// Where a paste file is looked for that nobody names.
struct PasteSearch {
  std::vector<std::filesystem::path> directories = {"/etc/glance"};
};

/// Blocks on the paste file. Without one, Glance's pipelines as they are shipped. Errc::invalid_argument says what to
/// write: for a flavor that the file does not have (with those that it has), for a filter or application without a
/// section, for trusted-auth, and for a pipeline that caches without image_cache_dir.
Result<Pipeline> image_pipeline(const Config& config, const PasteSearch& search = {});

/// The same for one paste file's text; `path` stands in messages and is where `use = config:...` begins.
Result<Pipeline> pipeline_of(std::string_view paste_text, const std::string& path, const std::string& flavor);

}  // namespace imagecache::config
