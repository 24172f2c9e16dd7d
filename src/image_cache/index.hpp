// What Glance knows of its cache: one row an image file, by which glance-api and its tools list, count and prune. Two
// drivers keep it, byte for byte as Glance's drivers of the same names do, so that either can be started on a directory
// that the other has filled:
//   sqlite   rows in <image_cache_dir>/cache.db (one table, journal mode delete, no other file beside it)
//   xattr    user.hits on each file; times are the file's own
//
// Blocks; any thread, one call at a time. Errc::busy when another process holds the database for more than two seconds.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "image_cache/names.hpp"
#include "imagecache/error.hpp"

namespace imagecache::image_cache {

struct IndexRow {
  std::string image_id;
  double last_accessed = 0;  ///< seconds since the epoch, with a fraction (xattr: whole seconds)
  double last_modified = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t hits = 0;
};

struct IndexHits {
  std::string image_id;
  std::uint64_t more_hits = 0;
  double last_accessed = 0;
};

/// Which file it was: any write, replacement or restore of a backup changes one of these.
struct Stamp {
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
  bool operator==(const Stamp&) const = default;
};
Stamp stamp_of(const struct stat& info);

/// Writing an attribute moves a file's ctime: it is the same file still, under another stamp. `before` was looked at
/// just before our own write; a `before` that nobody knows is a file that somebody else has changed.
struct Restamped {
  std::string image_id;
  Stamp before;
  Stamp after;
};

class Index {
 public:
  virtual ~Index() = default;
  /// All of them, in any order. Another program may write meanwhile: a row that it writes anew may be there twice, and
  /// is never missing. Nobody is kept waiting for longer than some ten milliseconds.
  virtual Result<std::vector<IndexRow>> rows(Reading& reading) = 0;
  /// Whether a file is its own row, so that there is none without the other.
  virtual bool rows_are_files() const = 0;
  /// May somebody else (a glance-api on the same directory, its tools) have written since the last time that this was
  /// asked? True where it cannot be told.
  virtual Result<bool> changed_by_others() = 0;
  /// On a verified file that is about to be renamed into place: what must be on the file itself by then.
  virtual Result<void> prepare(int fd) = 0;
  /// On a file that now stands in invalid/: the reason, where the driver keeps one. Best effort.
  virtual void mark_invalid(const std::filesystem::path& file, std::string_view reason) = 0;
  /// All or, where the driver has no transactions, each by itself. Rows of `puts` are inserted, or replaced but for
  /// their hits; rows of `removals` deleted; hits are added to rows (files) that are there and to no other.
  /// Errc::corrupt: what was stored is lost and an empty index has taken its place; write all rows again.
  virtual Result<std::vector<Restamped>> apply(const std::vector<IndexRow>& puts,
                                               const std::vector<std::string>& removals,
                                               const std::vector<IndexHits>& hits) = 0;
};

/// `lock_path`: oslo.concurrency's directory of lock files, where glance-api's "image_cache_db_init" is held while the
/// database is made; empty: the cache directory, as in Glance. A file that is no database, or another, is moved to
/// .cinder-image-cache/ beside it with a warning and an empty one takes its place. Waits for other holders for ten
/// seconds at most.
Result<std::unique_ptr<Index>> open_sqlite_index(const std::filesystem::path& database,
                                                 const std::filesystem::path& lock_path);
/// Refuses, with the mend, a directory on a file system without user attributes or mounted noatime. Leaves no probe
/// file behind.
Result<std::unique_ptr<Index>> open_xattr_index(const std::filesystem::path& directory);

}  // namespace imagecache::image_cache
