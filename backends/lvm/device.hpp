// An active logical volume's block device: writing, zeroing, copying. Any thread; blocks on the disk.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "base/direct_writer.hpp"
#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::backends {

class Device {
 public:
  enum class Use {
    look,   ///< size only
    read,   ///< past the page cache
    write,  ///< exclusively: Errc::conflict if it is mounted or otherwise claimed
  };

  /// nullopt if there is no block device at `path`. `name` is for messages.
  static Result<std::optional<Device>> open(const std::string& path, const std::string& name, Use use);

  std::uint64_t size_bytes() const { return size_bytes_; }
  /// Past the page cache where it is aligned to 4 KiB. Several threads at once, for ranges that do not overlap.
  Result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data) const;
  /// Makes [begin, end) read as zeroes, by the device's own means where it has some. Multiples of 512. Ends soon after
  /// a stop, with Errc::cancelled.
  Result<void> zero(std::uint64_t begin, std::uint64_t end, const std::stop_token& stop = {}) const;
  /// All of `source`, which is no larger, and zeroes behind it. Whatever was here is gone. Ends soon after a stop, with
  /// Errc::cancelled. Whether it fails or not, nothing of the source is at `copied_to_bytes` or behind it.
  Result<void> copy_from(const Device& source, const std::stop_token& stop, std::uint64_t& copied_to_bytes) const;
  /// What has been written, and the thin pool's knowledge of where it is, is on the disk.
  Result<void> sync() const;

 private:
  Device(base::Fd fd, base::Fd direct, std::uint64_t size_bytes, const std::string& name)
      : fd_(std::move(fd)), size_bytes_(size_bytes), name_(name), writer_(fd_.get(), std::move(direct), name) {}

  base::Fd fd_;
  std::uint64_t size_bytes_ = 0;
  std::string name_;
  base::DirectWriter writer_;
};

}  // namespace imagecache::backends
