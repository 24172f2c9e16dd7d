// Checks of the formats that qemu-img will read after us: enough to know the disk's size and that the image stands
// alone and lies inside its file. Each returns {virtual size, detail}. Private to the room.
#pragma once

#include <cstdint>
#include <string>

#include "convert/bytes.hpp"
#include "convert/inspect.hpp"

namespace imagecache::convert {

struct OtherDisk {
  std::uint64_t virtual_size_bytes = 0;
  bool compressed = false;
  std::string detail;
};

/// A sparse extent ("KDMV") with its descriptor inside.
Result<OtherDisk> inspect_vmdk(const SourceFile& file, const InspectOptions& options);
Result<OtherDisk> inspect_vdi(const SourceFile& file);
/// `fixed`: only a footer at the end; else footer and tables at the beginning.
Result<OtherDisk> inspect_vhd(const SourceFile& file, bool fixed);
Result<OtherDisk> inspect_vhdx(const SourceFile& file);

}  // namespace imagecache::convert
