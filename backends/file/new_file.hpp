// A file that has no name until it is whole.
//
// Where the file system has O_TMPFILE the file is nameless, so whatever ends the process, the kernel takes it away.
// Elsewhere (NFS) it has a name in the work directory, which FileDriver empties when it starts.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::backends {

class NewFile {
 public:
  /// Where new files come to be. The descriptors are the caller's and must outlive every NewFile made of it.
  struct Place {
    int directory = -1;       ///< where they get their names
    int work_directory = -1;  ///< on the same file system, for those that cannot be nameless
    bool nameless = false;    ///< O_TMPFILE and linkat of such a file work here
    mode_t mode = 0660;       ///< what new files get, whatever the umask
    std::optional<std::pair<uid_t, gid_t>> owner = std::nullopt;  ///< to give them to, which takes root; else ours
  };

  /// Empty, open for reading and writing, of the place's mode and owner. `name` is what link() will give it.
  static Result<NewFile> open(const Place& place, const std::string& name);
  NewFile(NewFile&&) noexcept = default;
  NewFile& operator=(NewFile&&) = delete;  // would forget to drop the work name
  /// Without a link() before, nothing of the file remains.
  ~NewFile();

  int fd() const { return fd_.get(); }
  /// Of a nameless one: a name in the work directory, which it loses with link(), so that a sync keeps it from a crash.
  Result<void> link_aside(const std::string& work_name);
  /// Gives it its name, never over a file that is there (Errc::already_exists). Not yet durable: the caller syncs file
  /// and directory.
  Result<void> link();

 private:
  NewFile(const Place& place, std::string name) : place_(place), name_(std::move(name)) {}
  int link_nameless(int directory, const std::string& name) const;  // as linkat(2)
  void drop_work_name();

  Place place_;
  std::string name_;
  std::string work_name_;  // empty: nameless, or not there any more
  base::Fd fd_;
};

}  // namespace imagecache::backends
