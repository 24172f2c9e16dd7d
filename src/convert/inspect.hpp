// What an image file really is. The room `convert` stands between bytes that a tenant uploaded and everything that acts
// on them: it decides the format by its own parsers before any other program sees the file, refuses what could make
// that program read another file or lie about its size, and passes the content on as a raw disk (image_source.hpp).
//
// Called by the volume cache, once per build of an image-volume, on a blocking pool; everything here blocks. What must
// always be true: no file but the one that was handed in is ever opened on an image's word; nothing that an image says
// is believed before it is checked against the file's real length; a hostile image costs bounded time and memory and
// ends as Errc::unacceptable_image with the reason, never in a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "imagecache/error.hpp"

namespace imagecache::convert {

enum class Format {
  raw,    ///< also whatever nobody knows, and disks with an MBR or GPT
  iso,    ///< ISO 9660; its bytes are the disk, as with raw
  luks,   ///< an encrypted disk; its bytes are the disk, as with raw
  qcow2,  ///< version 2 or 3, without backing file, data file or encryption
  vmdk,   ///< one file, of an allowed createType
  vdi,
  vhd,  ///< dynamic, or fixed where the origin says vhd ("vpc" to qemu)
  vhdx,
  gzip,  ///< never accepted: see check_claim
};

/// "raw", "qcow2", "vhd"…: for messages and logs.
std::string_view to_string(Format format);

/// Is the disk, byte for byte, the file?
constexpr bool stored_as_raw(Format format) {
  return format == Format::raw || format == Format::iso || format == Format::luks;
}

struct InspectOptions {
  /// What the origin claims. It settles only what the bytes leave open: a fixed VHD is a raw disk with a footer.
  std::string disk_format;
  /// `vmdk_allowed_types`; empty: no VMDK at all.
  std::vector<std::string> vmdk_allowed_types = {"streamOptimized", "monolithicSparse"};
  /// Larger disks are refused. 0: no limit but 2^63.
  std::uint64_t max_virtual_size_bytes = 64 * 1024 * base::gib;
};

struct Inspection {
  std::string name;  ///< name_for_errors as it was given
  Format format = Format::raw;
  std::uint64_t virtual_size_bytes = 0;  ///< of the disk, never 0
  std::uint64_t file_size_bytes = 0;
  /// At most this many bytes of the disk are stored (zeroes among them included); virtual_size_bytes if not known.
  std::uint64_t data_bytes = 0;
  bool compressed = false;  ///< some of the data is stored compressed
  /// Any reader of the format can read it, however simple: whole sectors, and in a qcow2 whole clusters only, none of
  /// them compressed or marked as zeroes, and no snapshots inside. Never of another format than raw and qcow2.
  bool plain = false;
  std::string detail;  ///< for people: "qcow2 v3, 64 KiB clusters, zlib"
};

/// Looks at the regular file behind `fd`, which is read with pread only and not kept. `name_for_errors` is what
/// messages begin with: "image 4f3c…". Errc::unacceptable_image: "image 4f3c…: qcow2 names a backing file; refused". A
/// file that cannot be read is another Errc.
Result<Inspection> inspect(int fd, std::string_view name_for_errors, const InspectOptions& options);

/// What a program that guesses at formats would take a disk for whose first bytes (4 KiB are enough) are these; nothing
/// for a disk that begins as none of them. A raw disk has no format of its own to say that it is one.
std::optional<Format> container_at(std::span<const std::byte> head);

/// Refuses a disk inside an image that begins as an image again. Errc::unacceptable_image, with the reason.
Result<void> check_not_nested(std::span<const std::byte> head, std::string_view name_for_errors);

/// Is what was found what the origin claims? `disk_format` and `container_format` as Glance has them; both may be empty
/// (nothing is claimed then). "iso" wants raw bytes, "vhd" a VHD, "ami" is exempt, as in Cinder. A container
/// "compressed" and gzip content are refused. Errc::unacceptable_image with the reason.
Result<void> check_claim(const Inspection& found, std::string_view disk_format, std::string_view container_format);

/// Does the disk fit? Cinder's words: "Image <id> is unacceptable: Image virtual size is 3GB and doesn't fit in a
/// volume of size 1GB." (Errc::unacceptable_image). Sizes are whole GiB, the image's rounded up.
Result<void> check_fits(std::string_view image_id, std::uint64_t virtual_size_bytes, std::uint64_t volume_size_gb);

}  // namespace imagecache::convert
