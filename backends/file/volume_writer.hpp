// Writing an image's data into a volume's file: past the page cache where that can be had.
//
// The data is written once and read by others much later, so a copy of it in the page cache costs a pass over memory
// and buys nothing; and on XFS direct writes to one file run side by side where buffered ones wait for each other.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::backends {

class VolumeWriter {
 public:
  /// `file` is open for writing and outlives the writer; `name` is its name in `directory`.
  VolumeWriter(int directory, int file, std::string name);

  /// Several threads at once, for ranges that do not overlap. Not synced.
  Result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data) const;

 private:
  const int file_;
  const std::string name_;
  base::Fd direct_;  // none where the file system cannot
};

}  // namespace imagecache::backends
