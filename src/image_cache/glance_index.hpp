// Glance's cache.db: the rows by which glance-api lists, counts and prunes. Written so that a glance-api on the same
// directory finds just what it would have written itself (one table, journal mode delete, no other file beside it).
//
// Blocks; any thread. Errc::busy when another process holds the file for more than two seconds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "image_cache/index.hpp"
#include "imagecache/error.hpp"

namespace imagecache::image_cache {

class GlanceIndex {
 public:
  static Result<std::unique_ptr<GlanceIndex>> open(const std::filesystem::path& path);
  ~GlanceIndex();

  Result<std::vector<IndexRow>> rows();
  /// One transaction. Rows of `puts` are inserted, or replaced but for their hits; rows of `removals` deleted; hits are
  /// added to rows that are there and to no other.
  Result<void> apply(const std::vector<IndexRow>& puts, const std::vector<std::string>& removals,
                     const std::vector<IndexHits>& hits);

 private:
  struct Impl;
  explicit GlanceIndex(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imagecache::image_cache
