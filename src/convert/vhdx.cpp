#include <array>
#include <optional>

#include "base/try.hpp"
#include "convert/other_formats.hpp"

namespace imagecache::convert {
namespace {

// A GUID as it stands in the file: the first three fields little-endian.
using Guid = std::array<unsigned char, 16>;
constexpr Guid bat_region = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                             0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
constexpr Guid metadata_region = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                  0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
constexpr Guid file_parameters = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                  0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
constexpr Guid virtual_disk_size = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                    0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
constexpr Guid parent_locator = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};

bool is(std::span<const std::byte> bytes, std::size_t offset, const Guid& guid) {
  return std::memcmp(bytes.subspan(offset, 16).data(), guid.data(), 16) == 0;
}

struct Region {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

Result<Region> find_metadata(const SourceFile& file, std::uint64_t table_offset) {
  std::vector<std::byte> table(64 * base::kib);
  IMAGECACHE_CHECK(file.read(table_offset, table, "the vhdx region table"));
  if (!has_bytes(table, 0, "regi")) return file.refuse("vhdx has no region table");
  const std::uint32_t count = load_le<std::uint32_t>(table, 8);
  if (count > 2047) return file.refuse("vhdx region table makes no sense");
  std::optional<Region> metadata;
  bool bat = false;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::size_t at = 16 + std::size_t{i} * 32;
    const Region region{load_le<std::uint64_t>(table, at + 16), load_le<std::uint32_t>(table, at + 24)};
    if (!file.holds(region.offset, region.length))
      return file.refuse("a vhdx region lies beyond the end of the file (truncated?)");
    if (is(table, at, metadata_region)) {
      if (metadata) return file.refuse("vhdx has two metadata regions");
      metadata = region;
    } else if (is(table, at, bat_region)) {
      bat = true;
    } else if (load_le<std::uint32_t>(table, at + 28) & 1) {
      return file.refuse("vhdx needs a region that nobody here knows");
    }
  }
  if (!metadata || !bat) return file.refuse("vhdx lacks a region");
  return *metadata;
}

}  // namespace

Result<OtherDisk> inspect_vhdx(const SourceFile& file) {
  // Both copies of the region table must say the same: a reader may take either.
  IMAGECACHE_TRY(const Region region, find_metadata(file, 192 * base::kib));
  IMAGECACHE_TRY(const Region second, find_metadata(file, 256 * base::kib));
  if (region.offset != second.offset || region.length != second.length)
    return file.refuse("vhdx region tables contradict each other");

  std::vector<std::byte> table(64 * base::kib);
  IMAGECACHE_CHECK(file.read(region.offset, table, "the vhdx metadata table"));
  if (!has_bytes(table, 0, "metadata")) return file.refuse("vhdx has no metadata table");
  const std::uint32_t count = load_le<std::uint16_t>(table, 10);
  if (count > 2047) return file.refuse("vhdx metadata table makes no sense");
  std::optional<std::uint64_t> size;
  bool parameters = false;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::size_t at = 32 + std::size_t{i} * 32;
    const std::uint64_t item = region.offset + load_le<std::uint32_t>(table, at + 16);
    std::array<std::byte, 8> value{};
    if (is(table, at, parent_locator)) return file.refuse("vhdx names a parent");
    if (is(table, at, virtual_disk_size)) {
      IMAGECACHE_CHECK(file.read(item, value, "the vhdx disk size"));
      if (size) return file.refuse("vhdx gives its size twice");
      size = load_le<std::uint64_t>(value, 0);
    } else if (is(table, at, file_parameters)) {
      IMAGECACHE_CHECK(file.read(item, value, "the vhdx file parameters"));
      if (load_le<std::uint32_t>(value, 4) & 2) return file.refuse("vhdx is a difference to another file");
      parameters = true;
    }
  }
  if (!size || !parameters) return file.refuse("vhdx lacks its size or its file parameters");
  if (*size == 0 || *size % 512 != 0) return file.refuse("vhdx disk size makes no sense");
  return OtherDisk{.virtual_size_bytes = *size, .detail = "vhdx"};
}

}  // namespace imagecache::convert
