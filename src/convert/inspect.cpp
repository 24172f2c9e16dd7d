#include "convert/inspect.hpp"

#include <algorithm>
#include <limits>

#include "base/try.hpp"
#include "convert/other_formats.hpp"
#include "convert/qcow2.hpp"

namespace imagecache::convert {
namespace {

constexpr std::size_t head_bytes = 34 * 1024;  // as far as ISO 9660's first volume descriptor

// QEMU takes a text as a VMDK if its first line that is neither blank nor a comment is a version (block/vmdk.c,
// vmdk_probe); we, as soon as the usual heading is there, too.
bool is_vmdk_descriptor(std::span<const std::byte> head) {
  static constexpr std::string_view heading = "# disk descriptorfile";
  static constexpr std::size_t probed_bytes = 512;
  std::string text;
  for (const std::byte b : head.first(std::min(head.size(), probed_bytes))) text.push_back(static_cast<char>(b));
  if (base::to_lower(text.substr(0, heading.size())) == heading) return true;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line == "version=1" || line == "version=2" || line == "version=3") return end != rest.npos;
    const bool passed_over = line.starts_with('#') || (line.starts_with(' ') && base::trim(line).empty());
    if (!passed_over || end == rest.npos) return false;
    rest.remove_prefix(end + 1);
  }
  return false;
}

bool has_vhd_footer(const SourceFile& file) {
  std::array<std::byte, 8> cookie{};
  return file.size_bytes >= 512 && file.read(file.size_bytes - 512, cookie, "the vhd footer") &&
         has_bytes(cookie, 0, "conectix");
}

Result<Inspection> inspect_other(const SourceFile& file, Format format, Result<OtherDisk> disk,
                                 const InspectOptions& options) {
  if (!disk) return std::unexpected(std::move(disk).error());
  const std::uint64_t most = options.max_virtual_size_bytes != 0
                                 ? options.max_virtual_size_bytes
                                 : static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (disk->virtual_size_bytes > most)
    return file.refuse(std::string(to_string(format)) + " disk of " + base::format_bytes(disk->virtual_size_bytes) +
                       " is above the limit of " + base::format_bytes(most));
  return Inspection{.name = file.name,
                    .format = format,
                    .virtual_size_bytes = disk->virtual_size_bytes,
                    .file_size_bytes = file.size_bytes,
                    .data_bytes = disk->virtual_size_bytes,
                    .compressed = disk->compressed,
                    .plain = stored_as_raw(format) && file.size_bytes % 512 == 0,
                    .detail = std::move(disk->detail)};
}

Result<Inspection> inspect_qcow2(const SourceFile& file, const InspectOptions& options) {
  IMAGECACHE_TRY(const Qcow2 image, Qcow2::open(file, options));
  IMAGECACHE_TRY(const Qcow2::Stored stored, image.check_tables(file));
  return Inspection{.name = file.name,
                    .format = Format::qcow2,
                    .virtual_size_bytes = image.virtual_size_bytes(),
                    .file_size_bytes = file.size_bytes,
                    .data_bytes = stored.data_bytes,
                    .compressed = stored.compressed,
                    .plain = stored.plain,
                    .detail = image.describe()};
}

Format raw_kind(std::span<const std::byte> head) {
  if (has_bytes(head, 0, std::string_view("LUKS\xba\xbe", 6))) return Format::luks;
  if (has_bytes(head, 0x8001, "CD001")) return Format::iso;
  return Format::raw;
}

}  // namespace

std::string_view to_string(Format format) {
  switch (format) {
    case Format::raw:
      return "raw";
    case Format::iso:
      return "iso";
    case Format::luks:
      return "luks";
    case Format::qcow2:
      return "qcow2";
    case Format::vmdk:
      return "vmdk";
    case Format::vdi:
      return "vdi";
    case Format::vhd:
      return "vhd";
    case Format::vhdx:
      return "vhdx";
    case Format::gzip:
      return "gzip";
  }
  return "unknown";
}

std::optional<Format> container_at(std::span<const std::byte> head) {
  if (has_bytes(head, 0, "QFI\xfb")) return Format::qcow2;
  if (has_bytes(head, 0, "KDMV") || has_bytes(head, 0, "COWD") || is_vmdk_descriptor(head)) return Format::vmdk;
  if (has_bytes(head, 0x40, "\x7f\x10\xda\xbe")) return Format::vdi;
  if (has_bytes(head, 0, "vhdxfile")) return Format::vhdx;
  if (has_bytes(head, 0, "conectix")) return Format::vhd;
  return std::nullopt;
}

Result<void> check_not_nested(std::span<const std::byte> head, std::string_view name_for_errors) {
  const std::optional<Format> inside = container_at(head);
  // No image here is read as QED, but QEMU knows it, and it has a backing file as QCOW2 has.
  const bool is_qed = has_bytes(head, 0, std::string_view("QED\0", 4));
  if (!inside && !is_qed) return {};
  return fail(Errc::unacceptable_image,
              std::string(name_for_errors) + ": the disk in it begins as a " +
                  (is_qed ? "qed" : std::string(to_string(*inside))) +
                  " image, and whoever guesses at the volume's format would open that; refused");
}

Result<Inspection> inspect(int fd, std::string_view name_for_errors, const InspectOptions& options) {
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd, name_for_errors));
  if (!S_ISREG(info.st_mode))
    return fail(Errc::invalid_argument, std::string(name_for_errors) + ": is not a regular file");
  const SourceFile file{fd, static_cast<std::uint64_t>(info.st_size), std::string(name_for_errors)};
  if (file.size_bytes == 0) return file.refuse("the file is empty");
  IMAGECACHE_TRY(const std::vector<std::byte> head, file.read_some(0, head_bytes));

  const std::optional<Format> container = container_at(head);
  if (container == Format::qcow2) {
    if (has_bytes(head, 4, std::string_view("\0\0\0\1", 4))) return file.refuse("qcow version 1 is not supported");
    return inspect_qcow2(file, options);
  }
  if (has_bytes(head, 0, std::string_view("QED\0", 4)))
    return file.refuse("qed images are not accepted, nor by Cinder; convert it to qcow2");
  if (container == Format::vmdk) return inspect_other(file, Format::vmdk, inspect_vmdk(file, options), options);
  if (container == Format::vdi) return inspect_other(file, Format::vdi, inspect_vdi(file), options);
  if (container == Format::vhdx) return inspect_other(file, Format::vhdx, inspect_vhdx(file), options);
  // A fixed VHD that claims nothing else begins as its disk does; a copy of the footer at the start makes it dynamic.
  if (container == Format::vhd) return inspect_other(file, Format::vhd, inspect_vhd(file, /*fixed=*/false), options);
  const std::string claim = base::to_lower(options.disk_format);
  if ((claim == "vhd" || claim == "vpc") && has_vhd_footer(file))
    return inspect_other(file, Format::vhd, inspect_vhd(file, /*fixed=*/true), options);

  const Format format = has_bytes(head, 0, "\x1f\x8b\x08") ? Format::gzip : raw_kind(head);
  return inspect_other(file, format,
                       OtherDisk{.virtual_size_bytes = file.size_bytes,
                                 .compressed = format == Format::gzip,
                                 .detail = std::string(to_string(format))},
                       options);
}

Result<void> check_claim(const Inspection& found, std::string_view disk_format, std::string_view container_format) {
  const auto refuse = [&](std::string_view reason) {
    return fail(Errc::unacceptable_image, found.name + ": " + std::string(reason) + "; refused");
  };
  if (base::to_lower(container_format) == "compressed")
    return refuse("container format 'compressed' is not supported; upload the disk itself");
  if (found.format == Format::gzip) return refuse("its content is compressed with gzip; upload the disk itself");

  const std::string claim = base::to_lower(disk_format);
  if (claim.empty() || claim == "ami") return {};
  const auto matches = [&] {
    if (claim == "raw" || claim == "gpt") return stored_as_raw(found.format);
    if (claim == "iso") return found.format == Format::iso || found.format == Format::raw;
    if (claim == "vpc") return found.format == Format::vhd;
    return claim == to_string(found.format);
  };
  if (matches()) return {};
  return refuse("its disk_format says '" + claim.substr(0, 40) + "' but its content is " +
                std::string(to_string(found.format)));
}

Result<void> check_fits(std::string_view image_id, std::uint64_t virtual_size_bytes, std::uint64_t volume_size_gb) {
  const std::uint64_t image_gb = base::to_gib_ceil(virtual_size_bytes);
  if (image_gb <= volume_size_gb) return {};
  return fail(Errc::unacceptable_image, "Image " + std::string(image_id) + " is unacceptable: Image virtual size is " +
                                            std::to_string(image_gb) + "GB and doesn't fit in a volume of size " +
                                            std::to_string(volume_size_gb) + "GB.");
}

}  // namespace imagecache::convert
