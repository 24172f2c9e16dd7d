// Writing an image's data into a volume, a file or a device: past the page cache where that can be had.
//
// The data is written once and read by others much later, so a copy of it in the page cache costs a pass over memory
// and buys nothing; and on XFS direct writes to one file run side by side where buffered ones wait for each other.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::base {

class DirectWriter {
 public:
  /// `file` is open for writing and outlives the writer; `direct` is the same thing opened with O_DIRECT, or nothing
  /// where that cannot be had. `name` is for messages.
  DirectWriter(int file, Fd direct, std::string name);

  /// Several threads at once, for ranges that do not overlap. Not synced.
  Result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data) const;

 private:
  int file_;
  Fd direct_;
  std::string name_;
};

}  // namespace imagecache::base
