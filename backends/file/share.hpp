// One share of a section: a directory that somebody else mounts, and the file driver that works in it while it is.
//
// Any thread. What must always be true: nothing is ever written into the bare directory below a mount point. So the
// directory is opened first and then asked whether it is the root of a mount, and all that follows goes through that
// descriptor.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backends/file/file_driver.hpp"
#include "backends/file/nfs_shares.hpp"

namespace imagecache::backends {

class Share {
 public:
  /// As Cinder measures it (its nfs.py, _get_capacity_info).
  struct Room {
    std::uint64_t total_bytes = 0;
    std::uint64_t available_bytes = 0;
    std::uint64_t promised_bytes = 0;  ///< sizes of the files, holes included
  };

  /// `options` as for a FileDriver; its directory is the mount point.
  Share(ShareAddress address, FileDriver::Options options)
      : address_(std::move(address)), options_(std::move(options)) {}

  const ShareAddress& address() const { return address_; }
  const std::string& label() const { return options_.label; }

  /// The driver of its files. Errc::unavailable while it is not mounted or cannot be worked in, and asked anew each
  /// time. If something else is mounted there now, that is what is worked in; calls in flight end where they began.
  Result<std::shared_ptr<FileDriver>> files();

  /// The files' sizes are summed up now and then only, and kept in step by promise() in between; `anew` does it now.
  Result<Room> room(FileDriver& files, bool anew);
  /// So many bytes more (or less) of files.
  void promise(std::int64_t bytes);

 private:
  Result<std::shared_ptr<FileDriver>> open();
  bool is_still_mounted() const;

  const ShareAddress address_;
  const FileDriver::Options options_;

  std::mutex mutex_;
  // Protected by mutex_.
  std::shared_ptr<FileDriver> files_;
  dev_t device_ = 0;  // of files_' directory
  ino_t inode_ = 0;
  std::string problem_;  // the last that was logged

  std::mutex room_mutex_;
  // Protected by room_mutex_.
  std::optional<std::uint64_t> promised_bytes_;
  std::chrono::steady_clock::time_point summed_at_;
  bool summing_ = false;
};

}  // namespace imagecache::backends
