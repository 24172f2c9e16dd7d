// What the message bus says of images, put to the origin: only what that answers has consequences, in both caches.
//
// take() is called by the listener's thread and waits for nothing; the rest is a Task. A hint for an image that waits
// already joins it, and beyond the limit one is dropped and counted: volume_cache's poll finds out what was missed.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "base/task.hpp"
#include "events/counters.hpp"
#include "events/image_listener.hpp"
#include "image_cache/image_cache.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::app {

class ImageHints {
 public:
  /// The references outlive it.
  ImageHints(image_cache::ImageCache& images, volume_cache::VolumeCache& volumes, base::Executor executor,
             std::size_t limit, events::Counters& counters);

  void take(const events::ImageHint& hint);
  /// Drops what waits; returns when what is being asked has ended. Before it is destroyed, on a running executor.
  base::Task<void> stop();

 private:
  base::Task<void> work_off();
  base::Task<void> look_at(std::string image_id, bool is_said_deleted);

  image_cache::ImageCache& images_;
  volume_cache::VolumeCache& volumes_;
  const base::Executor executor_;
  const std::size_t limit_;
  events::Counters& counters_;

  std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, bool> waiting_;  // whether one of them said that the image is deleted
  bool is_working_ = false;
  bool stopping_ = false;

  base::TaskGroup group_;
};

}  // namespace imagecache::app
