// What the origin said last of an image to a project that it let have it. Right most of the time and nothing to rely
// on: head_start.cpp begins with it what the origin's answer to the request at hand then allows, or undoes.
//
// Any thread. Cost O(log n); memory is the entries that were allowed for.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "origin/origin.hpp"

namespace imagecache::volume_cache {

class LastAnswers {
 public:
  /// Of more than `max_entries` the one that was longest not said is forgotten; 0: nothing is kept.
  explicit LastAnswers(std::size_t max_entries) : max_entries_(max_entries) {}

  void yes(const std::string& project_id, const origin::ImageInfo& image);
  /// Anything else, no answer included: a project that is refused again and again sets nothing in motion.
  void no(const std::string& project_id, const std::string& image_id);
  /// Of any project: somebody says that the image is not what it was.
  void forget(const std::string& image_id);
  std::optional<origin::ImageInfo> find(const std::string& project_id, const std::string& image_id) const;

 private:
  using Key = std::pair<std::string, std::string>;  // project, image
  struct Yes {
    Key key;
    origin::ImageInfo image;
  };

  const std::size_t max_entries_;
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::list<Yes> by_age_;  // the newest stands in front
  std::map<Key, std::list<Yes>::iterator> entries_;
};

}  // namespace imagecache::volume_cache
