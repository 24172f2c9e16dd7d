// What can be done with the image cache, whichever way: through the daemon's API while it runs, or on the directory
// itself while it does not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "imagecache/error.hpp"

namespace imagecache::cli {

enum class ImagesAction {
  list,
  queue,      ///< to be fetched later
  prefetch,   ///< fetched now; without ids, all that is queued
  remove,     ///< from the cache and the queue
  clear_all,  ///< all files and the queue
  clear_cache,
  clear_queue,
  prune,  ///< until the limit holds
  clean,  ///< stalled downloads and invalid files
  pin,
  unpin,
};

struct ImagesRequest {
  ImagesAction action = ImagesAction::list;
  std::vector<std::string> ids{};
  /// How far a download is; a total of 0 is unknown. Never called twice at once.
  std::function<void(const std::string& id, std::uint64_t done_bytes, std::uint64_t total_bytes)> on_progress{};
};

struct ListedImage {
  std::string image_id;
  std::string state;  ///< cached, queued, filling, or pinned and nothing else
  std::uint64_t size_bytes = 0;
  std::uint64_t hits = 0;
  double last_accessed = 0;  ///< seconds since the epoch; 0: never, or queued
  double last_modified = 0;
  std::optional<bool> pinned;  ///< absent: not known
};

/// What became of one image; no failure: done.
struct ImageOutcome {
  std::string image_id;
  std::optional<Error> failure;
};

struct ImagesReport {
  std::vector<ListedImage> images{};     ///< of list
  std::vector<ImageOutcome> outcomes{};  ///< one for each id, in order
  std::optional<std::uint64_t> files{};  ///< removed by prune, clean and clear, where that is known
  std::optional<std::uint64_t> bytes{};
};

/// Does it on the directory, as the only process that has the state directory's lock. Errc::conflict, with who has it,
/// if another process does. Blocks; given by the program, since this room knows no cache.
using OfflineFunction = std::function<Result<ImagesReport>(const config::Config&, const ImagesRequest&)>;

}  // namespace imagecache::cli
