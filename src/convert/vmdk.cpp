#include <algorithm>
#include <array>
#include <optional>

#include "base/text.hpp"
#include "base/try.hpp"
#include "convert/other_formats.hpp"

namespace imagecache::convert {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t grain_directory_at_end = ~std::uint64_t{0};
constexpr std::uint64_t descriptor_limit_bytes = 1 * base::mib;
constexpr std::size_t longest_leftover = 8;  // a content id is at most so many digits

struct Descriptor {
  std::string create_type;
  unsigned extents = 0;
};

std::string unquote(std::string_view value) {
  value = base::trim(value);
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
  return std::string(value);
}

bool is_extent(std::string_view line) {
  const std::string_view access = line.substr(0, line.find(' '));
  return access == "RW" || access == "RDONLY" || access == "NOACCESS";
}

// Strict: a line that we cannot read is a line that somebody else may read otherwise.
Result<Descriptor> parse_descriptor(const SourceFile& file, std::string_view text) {
  if (const auto nul = text.find('\0'); nul != text.npos) {
    // qemu-img writes a shorter content id over a longer one and leaves the old text's last few bytes behind the new
    // end. No more than that: a second descriptor there would be read by whoever does not stop at the first NUL.
    const auto last = text.find_last_not_of('\0');
    if (last != text.npos && last > nul + longest_leftover) return file.refuse("vmdk descriptor goes on after its end");
    text = text.substr(0, nul);
  }
  if (!text.starts_with("# Disk DescriptorFile")) return file.refuse("vmdk descriptor has no heading");
  Descriptor found;
  for (const std::string& raw_line : base::split(text, '\n')) {
    const std::string_view line = base::trim(raw_line);
    if (line.empty() || line.starts_with('#')) continue;
    for (const char c : line)
      if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
        return file.refuse("vmdk descriptor holds control characters");
    if (is_extent(line)) {
      if (line.find('/') != line.npos || line.find('\\') != line.npos)
        return file.refuse("vmdk names an extent by a path");
      if (line.find(" SPARSE ") == line.npos)
        return file.refuse("vmdk has an extent that is not a sparse one of its own");
      ++found.extents;
      continue;
    }
    const auto equals = line.find('=');
    if (equals == line.npos || equals == 0) return file.refuse("vmdk descriptor has a line that is not understood");
    const std::string key = base::to_lower(base::trim(line.substr(0, equals)));
    const std::string value = unquote(line.substr(equals + 1));
    if (key == "createtype") {
      if (!found.create_type.empty()) return file.refuse("vmdk descriptor has two createTypes");
      found.create_type = value;
    } else if (key == "parentcid") {
      if (base::to_lower(value) != "ffffffff") return file.refuse("vmdk names a parent");
    } else if (key == "parentfilenamehint") {
      return file.refuse("vmdk names a parent file");
    }
  }
  if (found.extents != 1) return file.refuse("vmdk has " + std::to_string(found.extents) + " extents instead of one");
  if (found.create_type.empty()) return file.refuse("vmdk descriptor has no createType");
  return found;
}

struct Header {
  std::uint64_t capacity, grain, descriptor_offset, descriptor_size, grain_directory;  // all in sectors
  std::uint32_t version, table_entries;
  std::uint16_t compression;
  bool operator==(const Header&) const = default;
};

Result<Header> read_header(const SourceFile& file, std::uint64_t offset, std::string_view what) {
  std::array<std::byte, 512> raw{};
  IMAGECACHE_CHECK(file.read(offset, raw, what));
  if (!has_bytes(raw, 0, "KDMV")) return file.refuse(std::string(what) + " is not one");
  return Header{.capacity = load_le<std::uint64_t>(raw, 12),
                .grain = load_le<std::uint64_t>(raw, 20),
                .descriptor_offset = load_le<std::uint64_t>(raw, 28),
                .descriptor_size = load_le<std::uint64_t>(raw, 36),
                .grain_directory = load_le<std::uint64_t>(raw, 56),
                .version = load_le<std::uint32_t>(raw, 4),
                .table_entries = load_le<std::uint32_t>(raw, 44),
                .compression = load_le<std::uint16_t>(raw, 77)};
}

Result<void> check_header(const SourceFile& file, const Header& header) {
  if (header.version < 1 || header.version > 3) return file.refuse("vmdk version is not known");
  if (header.capacity == 0) return file.refuse("vmdk holds a disk of no size");
  if (header.capacity > (std::uint64_t{1} << 54)) return file.refuse("vmdk capacity makes no sense");
  if (header.grain < 8 || header.grain > 4096 || (header.grain & (header.grain - 1)) != 0)
    return file.refuse("vmdk grain size makes no sense");
  if (header.table_entries == 0 || header.table_entries > 512) return file.refuse("vmdk table size makes no sense");
  if (header.compression > 1) return file.refuse("vmdk compression is not known");
  if (header.descriptor_offset != 1) return file.refuse("vmdk descriptor is not in its place");
  if (header.descriptor_size == 0 || header.descriptor_size > descriptor_limit_bytes / sector)
    return file.refuse("vmdk descriptor size makes no sense");
  return {};
}

// Follows the tables to every grain, so that a file cut short is not taken for a disk with zeroes at its end.
Result<void> check_grains(const SourceFile& file, const Header& header, std::uint64_t directory) {
  const std::string_view beyond = "vmdk data lies beyond the end of the file (truncated?)";
  const std::uint64_t tables = div_ceil(header.capacity, header.grain * header.table_entries);
  if (directory == 0 || directory > file.size_bytes / sector || !file.holds(directory * sector, tables * 4))
    return file.refuse("the vmdk grain directory lies beyond the end of the file (truncated?)");
  std::vector<std::byte> raw(tables * 4);
  IMAGECACHE_CHECK(file.read(directory * sector, raw, "the vmdk grain directory"));
  std::vector<std::uint32_t> starts;
  for (std::size_t i = 0; i < tables; ++i)
    if (const auto start = load_le<std::uint32_t>(raw, i * 4); start != 0) starts.push_back(start);
  std::ranges::sort(starts);
  // Else a small file could have one table read a million times over.
  if (std::ranges::adjacent_find(starts) != starts.end()) return file.refuse("two vmdk grain tables lie in one place");
  raw.resize(header.table_entries * std::size_t{4});
  for (const std::uint32_t start : starts) {
    IMAGECACHE_CHECK(file.read(start * sector, raw, "a vmdk grain table"));
    for (std::size_t i = 0; i < raw.size(); i += 4) {
      const std::uint64_t grain = load_le<std::uint32_t>(raw, i);  // 0: a hole, 1: zeroes
      // A compressed grain's length stands before it; the last grain of a disk need not be whole.
      if (grain > 1 && !file.holds(grain * sector, sector)) return file.refuse(beyond);
    }
  }
  return {};
}

}  // namespace

Result<OtherDisk> inspect_vmdk(const SourceFile& file, const InspectOptions& options) {
  std::array<std::byte, 4> magic{};
  IMAGECACHE_CHECK(file.read(0, magic, "the vmdk header"));
  if (!has_bytes(magic, 0, "KDMV"))
    return file.refuse("vmdk is a descriptor of other files, or of a type that is not supported");
  IMAGECACHE_TRY(const Header header, read_header(file, 0, "the vmdk header"));
  IMAGECACHE_CHECK(check_header(file, header));

  std::string text(header.descriptor_size * sector, '\0');
  IMAGECACHE_CHECK(file.read(sector, std::as_writable_bytes(std::span(text)), "the vmdk descriptor"));
  IMAGECACHE_TRY(const Descriptor descriptor, parse_descriptor(file, text));
  if (std::ranges::find(options.vmdk_allowed_types, descriptor.create_type) == options.vmdk_allowed_types.end())
    return file.refuse("vmdk createType '" + descriptor.create_type.substr(0, 40) + "' is not in vmdk_allowed_types");

  std::uint64_t directory = header.grain_directory;
  if (directory == grain_directory_at_end) {
    // A footer takes the header's place for whoever reads the disk: it may differ in where the directory is, no more.
    if (file.size_bytes < 2 * sector) return file.refuse("vmdk has no room for its footer");
    IMAGECACHE_TRY(Header footer, read_header(file, file.size_bytes - 2 * sector, "the vmdk footer (truncated?)"));
    directory = footer.grain_directory;
    footer.grain_directory = header.grain_directory;
    // Some writers leave the descriptor out of the footer.
    if (footer.descriptor_offset == 0 && footer.descriptor_size == 0) {
      footer.descriptor_offset = header.descriptor_offset;
      footer.descriptor_size = header.descriptor_size;
    }
    if (footer != header) return file.refuse("vmdk footer says something else than the header");
  }
  IMAGECACHE_CHECK(check_grains(file, header, directory));
  return OtherDisk{.virtual_size_bytes = header.capacity * sector,
                   .compressed = header.compression == 1,
                   .detail = "vmdk " + descriptor.create_type};
}

}  // namespace imagecache::convert
