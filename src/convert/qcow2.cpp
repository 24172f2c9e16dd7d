#include "convert/qcow2.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "base/try.hpp"

namespace imagecache::convert {
namespace {

constexpr std::uint64_t offset_mask = 0x00ff'ffff'ffff'fe00;
constexpr std::uint64_t l1_reserved = 0x7f00'0000'0000'01ff;
constexpr std::uint64_t l2_reserved = 0x3f00'0000'0000'01fe;
constexpr std::uint64_t flag_compressed = std::uint64_t{1} << 62;
constexpr std::uint64_t flag_zero = 1;
constexpr std::uint64_t l1_limit_bytes = 32 * base::mib;  // as in QEMU

constexpr std::uint64_t incompatible_dirty = 1;  // refcounts may be wrong; nobody here reads them
constexpr std::uint64_t incompatible_corrupt = 2;
constexpr std::uint64_t incompatible_data_file = 4;
constexpr std::uint64_t incompatible_compression = 8;
constexpr std::uint64_t incompatible_extended_l2 = 16;

// Which clusters of the file something has claimed already.
class ClaimedClusters {
 public:
  ClaimedClusters(std::uint64_t file_bytes, std::uint32_t cluster_bits)
      : cluster_bits_(cluster_bits), claimed_(div_ceil(file_bytes, std::uint64_t{1} << cluster_bits)) {}

  /// False if any of it was claimed before. The range lies in the file.
  bool claim(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return true;
    const std::uint64_t last = (offset + length - 1) >> cluster_bits_;
    bool free = true;
    for (std::uint64_t i = offset >> cluster_bits_; i <= last && i < claimed_.size(); ++i) {
      free = free && !claimed_[i];
      claimed_[i] = true;
    }
    return free;
  }

 private:
  std::uint32_t cluster_bits_;
  std::vector<bool> claimed_;
};

}  // namespace

Result<Qcow2> Qcow2::open(const SourceFile& file, const InspectOptions& options) {
  Qcow2 image;
  IMAGECACHE_CHECK(image.read_header(file, options));
  IMAGECACHE_CHECK(image.read_l1(file));
  return image;
}

Result<void> Qcow2::read_header(const SourceFile& file, const InspectOptions& options) {
  std::array<std::byte, 112> header{};
  IMAGECACHE_CHECK(file.read(0, std::span(header).first(72), "the qcow2 header"));
  version_ = load_be<std::uint32_t>(header, 4);
  if (version_ != 2 && version_ != 3) return file.refuse("qcow2 version " + std::to_string(version_) + " is not known");
  if (load_be<std::uint64_t>(header, 8) != 0) return file.refuse("qcow2 names a backing file");

  cluster_bits_ = load_be<std::uint32_t>(header, 20);
  if (cluster_bits_ < 9 || cluster_bits_ > 21)
    return file.refuse("qcow2 with 2^" + std::to_string(cluster_bits_) + " bytes a cluster makes no sense");
  virtual_size_bytes_ = load_be<std::uint64_t>(header, 24);
  if (load_be<std::uint32_t>(header, 32) != 0) return file.refuse("qcow2 is encrypted");
  l1_.resize(0);
  l1_offset_ = load_be<std::uint64_t>(header, 40);
  has_snapshots_ = load_be<std::uint32_t>(header, 60) != 0;

  std::uint64_t header_length = 72;
  if (version_ == 3) {
    IMAGECACHE_CHECK(file.read(72, std::span(header).subspan(72, 32), "the qcow2 header"));
    const auto incompatible = load_be<std::uint64_t>(header, 72);
    if (incompatible & incompatible_data_file) return file.refuse("qcow2 keeps its data in another file");
    if (incompatible & incompatible_corrupt)
      return file.refuse("qcow2 is marked corrupt; repair it with qemu-img check");
    if (incompatible & incompatible_extended_l2)
      return file.refuse("qcow2 with extended L2 entries (incompatible feature 4) is not supported, nor by Cinder");
    if (incompatible & ~(incompatible_dirty | incompatible_compression))
      return file.refuse("qcow2 needs features that nobody here knows (incompatible features " +
                         std::to_string(incompatible) + ")");
    header_length = load_be<std::uint32_t>(header, 100);
    if (header_length < 104 || header_length % 8 != 0 || header_length > cluster_bytes())
      return file.refuse("qcow2 header of " + std::to_string(header_length) + " bytes makes no sense");
    std::uint8_t type = 0;
    if (header_length >= 112) {
      IMAGECACHE_CHECK(file.read(104, std::span(header).subspan(104, 8), "the qcow2 header"));
      type = load_be<std::uint8_t>(header, 104);
    }
    if (type > 1 || (type == 1) != ((incompatible & incompatible_compression) != 0))
      return file.refuse("qcow2 compression type " + std::to_string(type) + " is not known or not declared");
    if (type == 1) compression_ = Compression::zstd;
  }

  if (virtual_size_bytes_ == 0) return file.refuse("qcow2 holds a disk of no size");
  const std::uint64_t most = options.max_virtual_size_bytes != 0
                                 ? options.max_virtual_size_bytes
                                 : static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (virtual_size_bytes_ > most)
    return file.refuse("qcow2 disk of " + base::format_bytes(virtual_size_bytes_) + " is above the limit of " +
                       base::format_bytes(most));
  const std::uint64_t l1_needed = div_ceil(virtual_size_bytes_, l2_span_bytes());
  const std::uint64_t l1_entries = load_be<std::uint32_t>(header, 36);
  if (l1_entries * 8 > l1_limit_bytes) return file.refuse("qcow2 L1 table of more than 32 MiB makes no sense");
  if (l1_entries < l1_needed) return file.refuse("qcow2 L1 table is too small for its disk");
  if (l1_offset_ == 0 || l1_offset_ % cluster_bytes() != 0) return file.refuse("qcow2 L1 table is out of place");
  if (!file.holds(l1_offset_, l1_entries * 8))
    return file.refuse("the qcow2 L1 table lies beyond the end of the file (truncated?)");
  l1_.resize(l1_needed);
  return check_extensions(file, header_length);
}

// QEMU ignores a data file's name without the feature bit; whoever writes one means to have it read.
Result<void> Qcow2::check_extensions(const SourceFile& file, std::uint64_t header_length) const {
  std::uint64_t at = header_length;
  const std::uint64_t end = std::min(cluster_bytes(), file.size_bytes);
  while (at + 8 <= end) {
    std::array<std::byte, 8> head{};
    IMAGECACHE_CHECK(file.read(at, head, "a qcow2 header extension"));
    const auto type = load_be<std::uint32_t>(head, 0);
    const std::uint64_t length = load_be<std::uint32_t>(head, 4);
    if (type == 0) break;
    if (type == 0x44415441) return file.refuse("qcow2 names a data file");
    if (length > end - at - 8) return file.refuse("a qcow2 header extension reaches out of the header");
    at += 8 + div_ceil(length, 8) * 8;
  }
  return {};
}

Result<void> Qcow2::read_l1(const SourceFile& file) {
  IMAGECACHE_CHECK(file.read(l1_offset_, std::as_writable_bytes(std::span(l1_)), "the qcow2 L1 table"));
  for (std::uint64_t& entry : l1_) {
    if constexpr (std::endian::native == std::endian::little) entry = std::byteswap(entry);
    if (entry & l1_reserved) return file.refuse("qcow2 L1 table holds nonsense");
    entry &= offset_mask;
    if (entry % cluster_bytes() != 0) return file.refuse("a qcow2 L2 table is out of place");
    if (entry != 0 && !file.holds(entry, cluster_bytes()))
      return file.refuse("a qcow2 L2 table lies beyond the end of the file (truncated?)");
  }
  return {};
}

Result<void> Qcow2::read_l2(const SourceFile& file, std::uint64_t l2_offset, std::uint64_t first,
                            std::vector<std::uint64_t>& into) const {
  IMAGECACHE_CHECK(file.read(l2_offset + first * 8, std::as_writable_bytes(std::span(into)), "a qcow2 L2 table"));
  if constexpr (std::endian::native == std::endian::little)
    for (std::uint64_t& entry : into) entry = std::byteswap(entry);
  return {};
}

Result<Qcow2Cluster> Qcow2::classify(const SourceFile& file, std::uint64_t l2_entry, std::uint64_t needed_bytes) const {
  using Kind = Qcow2Cluster::Kind;
  if (l2_entry & flag_compressed) {
    const unsigned offset_bits = 62 - (cluster_bits_ - 8);
    const std::uint64_t offset = l2_entry & ((std::uint64_t{1} << offset_bits) - 1);
    const std::uint64_t more_sectors = (l2_entry & (flag_compressed - 1)) >> offset_bits;
    if (l2_entry >> 63) return file.refuse("a qcow2 compressed cluster is marked as if it were not");
    if (offset >= file.size_bytes) return file.refuse("qcow2 data lies beyond the end of the file (truncated?)");
    // The length counts whole sectors, and the file may end in the last of them.
    const std::uint64_t length = (more_sectors + 1) * 512 - offset % 512;
    if (length > file.size_bytes - offset && length - (file.size_bytes - offset) >= 512)
      return file.refuse("qcow2 data lies beyond the end of the file (truncated?)");
    return Qcow2Cluster{Kind::compressed, offset, std::min(length, file.size_bytes - offset)};
  }
  if (l2_entry & l2_reserved) return file.refuse("qcow2 L2 table holds nonsense");
  const std::uint64_t offset = l2_entry & offset_mask;
  if (offset % cluster_bytes() != 0) return file.refuse("a qcow2 cluster is out of place");
  if (l2_entry & flag_zero) {
    if (version_ < 3) return file.refuse("qcow2 version 2 cannot have zero clusters");
    return Qcow2Cluster{};
  }
  if (offset == 0) return Qcow2Cluster{};
  if (!file.holds(offset, needed_bytes)) return file.refuse("qcow2 data lies beyond the end of the file (truncated?)");
  return Qcow2Cluster{Kind::data, offset, needed_bytes};
}

Result<Qcow2::Stored> Qcow2::check_tables(const SourceFile& file) const {
  // Without this, a small file could have one L2 table read a million times over.
  ClaimedClusters claimed(file.size_bytes, cluster_bits_);
  claimed.claim(0, 1);
  if (!claimed.claim(l1_offset_, l1_.size() * 8)) return file.refuse("the qcow2 L1 table lies on the header");
  for (const std::uint64_t l2_offset : l1_)
    if (l2_offset != 0 && !claimed.claim(l2_offset, cluster_bytes()))
      return file.refuse("a qcow2 L2 table lies on top of something else");

  Stored stored;
  stored.plain = !has_snapshots_ && virtual_size_bytes_ % 512 == 0;
  std::vector<std::uint64_t> entries;
  for (std::uint64_t index = 0; index < l1_.size(); ++index) {
    if (l1_[index] == 0) continue;
    const std::uint64_t start = index * l2_span_bytes();
    const std::uint64_t left = virtual_size_bytes_ - start;
    entries.resize(std::min(l2_entries(), div_ceil(left, cluster_bytes())));
    IMAGECACHE_CHECK(read_l2(file, l1_[index], 0, entries));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (entries[i] == 0) continue;
      const std::uint64_t needed = std::min(cluster_bytes(), left - i * cluster_bytes());
      IMAGECACHE_TRY(const Qcow2Cluster cluster, classify(file, entries[i], needed));
      stored.plain =
          stored.plain && cluster.kind == Qcow2Cluster::Kind::data && file.holds(cluster.offset, cluster_bytes());
      if (cluster.kind == Qcow2Cluster::Kind::zero) continue;
      if (cluster.kind == Qcow2Cluster::Kind::data && !claimed.claim(cluster.offset, cluster.length_bytes))
        return file.refuse("a qcow2 cluster lies on top of something else");
      stored.compressed = stored.compressed || cluster.kind == Qcow2Cluster::Kind::compressed;
      stored.data_bytes += needed;
    }
  }
  return stored;
}

std::string Qcow2::describe() const {
  return "qcow2 v" + std::to_string(version_) + ", " + base::format_bytes(cluster_bytes()) + " clusters, " +
         (compression_ == Compression::zstd ? "zstd" : "zlib");
}

}  // namespace imagecache::convert
