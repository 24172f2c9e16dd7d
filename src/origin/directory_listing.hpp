// Which image id is which file of a directory: listed once, and again when the directory has changed. Private to the
// room; any thread.
//
// Only regular files directly in the directory are images: no hidden ones, no links, nothing that a name could lead out
// of it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::origin {

class DirectoryListing {
 public:
  explicit DirectoryListing(std::string directory) : directory_(std::move(directory)) {}

  struct File {
    base::Fd fd;  ///< open for reading, a regular file
    std::string name;
  };
  /// Errc::not_found if no file has this id.
  Result<File> open(const std::string& image_id);

  /// The names as last listed.
  std::set<std::string> names() const;

 private:
  struct Listed {
    std::map<std::string, std::string> names_by_id;
    std::uint64_t inode = 0;
    std::int64_t mtime_ns = -1;
    bool settled = false;  // the directory was old enough when it was listed for a later change to show in mtime_ns
  };
  std::optional<std::string> name_of(const std::string& image_id) const;
  /// Lists again if the directory may have changed, or if `force`.
  Result<void> refresh(bool force);
  Result<Listed> list(int directory_fd) const;
  Result<base::Fd> open_file(const std::string& name) const;

  const std::string directory_;
  mutable std::mutex mutex_;
  Listed listed_;             // protected by mutex_
  std::mutex refresh_mutex_;  // one lists at a time
};

}  // namespace imagecache::origin
