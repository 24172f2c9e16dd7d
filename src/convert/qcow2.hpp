// The qcow2 format (QEMU's docs/interop/qcow2.txt) as far as it takes to read a disk that stands alone: versions 2 and
// 3, zlib and zstd. Refcounts and snapshots are not looked at. Private to the room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/bytes.hpp"
#include "convert/inspect.hpp"

namespace imagecache::convert {

/// What one entry of an L2 table says, checked against the file's length.
struct Qcow2Cluster {
  enum class Kind { zero, data, compressed };
  Kind kind = Kind::zero;
  std::uint64_t offset = 0;        ///< in the file
  std::uint64_t length_bytes = 0;  ///< in the file; for compressed the most that the stream may take
};

class Qcow2 {
 public:
  enum class Compression { zlib, zstd };

  /// Reads and checks header and L1 table. Memory: the L1 table, which is never larger than the file or 32 MiB.
  static Result<Qcow2> open(const SourceFile& file, const InspectOptions& options);

  /// Reads every L2 table once and refuses a file in which anything lies beyond its end or on top of something else.
  /// Returns what is stored; memory: a bit for each cluster of the file.
  struct Stored {
    std::uint64_t data_bytes = 0;
    bool compressed = false;
    bool plain = true;  ///< Inspection::plain
  };
  Result<Stored> check_tables(const SourceFile& file) const;

  std::uint64_t virtual_size_bytes() const { return virtual_size_bytes_; }
  std::uint64_t cluster_bytes() const { return std::uint64_t{1} << cluster_bits_; }
  /// How much of the disk one L2 table maps.
  std::uint64_t l2_span_bytes() const { return l2_entries() << cluster_bits_; }
  Compression compression() const { return compression_; }
  std::string describe() const;

  std::uint64_t l2_entries() const { return cluster_bytes() / 8; }
  std::uint64_t l1_entries() const { return l1_.size(); }
  /// Where the L2 table lies; 0: the whole span reads as zeroes. index < l1_entries().
  std::uint64_t l2_offset(std::uint64_t index) const { return l1_[index]; }

  /// Entries [first, first + into.size()) of the L2 table at `l2_offset`, as they stand in the file.
  Result<void> read_l2(const SourceFile& file, std::uint64_t l2_offset, std::uint64_t first,
                       std::vector<std::uint64_t>& into) const;
  /// `needed_bytes`: how much of the cluster belongs to the disk (less than a cluster only at its end).
  Result<Qcow2Cluster> classify(const SourceFile& file, std::uint64_t l2_entry, std::uint64_t needed_bytes) const;

 private:
  Qcow2() = default;
  Result<void> read_header(const SourceFile& file, const InspectOptions& options);
  Result<void> check_extensions(const SourceFile& file, std::uint64_t header_length) const;
  Result<void> read_l1(const SourceFile& file);

  std::uint32_t version_ = 0;
  std::uint32_t cluster_bits_ = 0;
  std::uint64_t virtual_size_bytes_ = 0;
  std::uint64_t l1_offset_ = 0;
  bool has_snapshots_ = false;
  Compression compression_ = Compression::zlib;
  std::vector<std::uint64_t> l1_;  // offsets of L2 tables, flags taken off; only the entries that the disk's size needs
};

}  // namespace imagecache::convert
