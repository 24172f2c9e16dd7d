#include <algorithm>
#include <array>

#include "base/try.hpp"
#include "convert/other_formats.hpp"

namespace imagecache::convert {
namespace {

constexpr std::uint64_t largest_geometry = std::uint64_t{65535} * 16 * 255;

// The disk's size as QEMU counts it: by geometry, unless the writer is known to mean what it says in bytes.
std::uint64_t disk_bytes(std::span<const std::byte> footer) {
  const std::uint64_t sectors = std::uint64_t{load_be<std::uint16_t>(footer, 56)} * load_be<std::uint8_t>(footer, 58) *
                                load_be<std::uint8_t>(footer, 59);
  static constexpr std::array<std::string_view, 6> by_bytes = {
      "win ", "qem2", "d2v ", std::string_view("tap\0", 4), "CTXS", std::string_view("wa\0\0", 4)};
  const bool known = std::ranges::any_of(by_bytes, [&](std::string_view app) { return has_bytes(footer, 28, app); });
  if (known || sectors == largest_geometry) return load_be<std::uint64_t>(footer, 48) / 512 * 512;
  return sectors * 512;
}

Result<void> check_dynamic(const SourceFile& file, std::span<const std::byte> footer, std::uint64_t disk) {
  std::array<std::byte, 1024> header{};
  const auto at = load_be<std::uint64_t>(footer, 16);
  IMAGECACHE_CHECK(file.read(at, header, "the vhd header"));
  if (!has_bytes(header, 0, "cxsparse")) return file.refuse("vhd has no dynamic disk header");
  const auto table = load_be<std::uint64_t>(header, 16);
  const std::uint64_t entries = load_be<std::uint32_t>(header, 28);
  const std::uint64_t block = load_be<std::uint32_t>(header, 32);
  if (block < 512 || (block & (block - 1)) != 0) return file.refuse("vhd block size makes no sense");
  if (div_ceil(disk, block) > entries) return file.refuse("vhd has too few blocks for its disk");
  if (!file.holds(table, entries * 4))
    return file.refuse("the vhd block table lies beyond the end of the file (truncated?)");
  const std::uint64_t bitmap = div_ceil(block / 512, 512 * 8) * 512;
  std::array<std::byte, 64 * 1024> piece{};
  for (std::uint64_t done = 0; done < entries * 4; done += piece.size()) {
    const auto part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), entries * 4 - done));
    IMAGECACHE_CHECK(file.read(table + done, part, "the vhd block table"));
    for (std::size_t i = 0; i < part.size(); i += 4) {
      const std::uint64_t start = load_be<std::uint32_t>(part, i);
      if (start != 0xffffffff && !file.holds(start * 512, bitmap + block))
        return file.refuse("vhd data lies beyond the end of the file (truncated?)");
    }
  }
  return {};
}

}  // namespace

Result<OtherDisk> inspect_vhd(const SourceFile& file, bool fixed) {
  std::array<std::byte, 512> footer{};
  if (file.size_bytes < 512) return file.refuse("vhd is shorter than its footer");
  IMAGECACHE_CHECK(file.read(fixed ? file.size_bytes - 512 : 0, footer, "the vhd footer"));
  const auto type = load_be<std::uint32_t>(footer, 60);
  if (type == 4) return file.refuse("vhd is a difference to another file");
  if (type != (fixed ? 2U : 3U)) return file.refuse("vhd type " + std::to_string(type) + " is not supported");
  const std::uint64_t disk = disk_bytes(footer);
  if (disk == 0) return file.refuse("vhd holds a disk of no size");
  if (fixed && disk > file.size_bytes - 512) return file.refuse("vhd is shorter than its disk (truncated?)");
  if (!fixed) IMAGECACHE_CHECK(check_dynamic(file, footer, disk));
  return OtherDisk{.virtual_size_bytes = disk, .detail = fixed ? "vhd fixed" : "vhd dynamic"};
}

}  // namespace imagecache::convert
