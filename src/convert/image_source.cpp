#include "convert/image_source.hpp"

#include "convert/qcow2_file.hpp"
#include "convert/qemu_img.hpp"
#include "convert/raw_file.hpp"

namespace imagecache::convert {

Result<std::unique_ptr<ImageFile>> open_as_raw(base::Fd fd, const Inspection& inspection, const ConvertOptions& options,
                                               std::stop_token stop) {
  if (inspection.format == Format::gzip)
    return fail(Errc::unacceptable_image, inspection.name + ": its content is compressed with gzip; refused");
  if (stored_as_raw(inspection.format)) return open_raw(std::move(fd), inspection, options);
  if (inspection.format == Format::qcow2) return open_qcow2(std::move(fd), inspection, options);
  return open_by_qemu_img(std::move(fd), inspection, options, std::move(stop));
}

std::uint64_t scratch_bytes_needed(const Inspection& inspection) {
  const bool read_by_us = stored_as_raw(inspection.format) || inspection.format == Format::qcow2;
  return read_by_us ? 0 : inspection.virtual_size_bytes;
}

}  // namespace imagecache::convert
