#include <algorithm>
#include <array>

#include "base/try.hpp"
#include "convert/other_formats.hpp"

namespace imagecache::convert {

Result<OtherDisk> inspect_vdi(const SourceFile& file) {
  std::array<std::byte, 512> header{};
  IMAGECACHE_CHECK(file.read(0, header, "the vdi header"));
  const auto u32 = [&](std::size_t offset) { return load_le<std::uint32_t>(header, offset); };
  if (u32(0x44) != 0x00010001) return file.refuse("vdi version is not known");
  const std::uint32_t type = u32(0x4c);
  if (type != 1 && type != 2) return file.refuse("vdi is neither dynamic nor fixed (a difference to another file?)");
  const auto parent = std::span(header).subspan(0x1b8, 16);
  if (std::ranges::any_of(parent, [](std::byte b) { return b != std::byte{0}; }))
    return file.refuse("vdi names a parent");

  const auto disk_bytes = load_le<std::uint64_t>(header, 0x170);
  const std::uint64_t block_bytes = u32(0x178);
  const std::uint64_t blocks = u32(0x180);
  const std::uint64_t allocated = u32(0x184);
  if (disk_bytes == 0) return file.refuse("vdi holds a disk of no size");
  if (u32(0x168) != 512 || block_bytes != base::mib) return file.refuse("vdi block size is not supported");
  if (div_ceil(disk_bytes, block_bytes) > blocks) return file.refuse("vdi has too few blocks for its disk");
  if (allocated > blocks) return file.refuse("vdi has more blocks than it can have");
  if (!file.holds(u32(0x154), blocks * 4))
    return file.refuse("the vdi block map lies beyond the end of the file (truncated?)");
  if (!file.holds(u32(0x158), allocated * block_bytes))
    return file.refuse("vdi data lies beyond the end of the file (truncated?)");
  return OtherDisk{.virtual_size_bytes = div_ceil(disk_bytes, 512) * 512,
                   .detail = type == 1 ? "vdi dynamic" : "vdi fixed"};
}

}  // namespace imagecache::convert
