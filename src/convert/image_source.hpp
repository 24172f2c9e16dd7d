// An inspected image file as the raw disk that a driver is given.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>

#include "base/fd.hpp"
#include "convert/inspect.hpp"
#include "convert/limits.hpp"
#include "imagecache/types.hpp"

namespace imagecache::convert {

/// Opens the disk in an image file. `fd` is the file that was inspected, open for reading; it must not change while the
/// ImageFile lives. May be called, and its ImageFile used, on any thread that may block.
///
/// raw (iso, luks): costs nothing here; raw_fd() is the file. qcow2: read by us, nothing is written anywhere. All else:
/// qemu-img converts it into a nameless scratch file in options.conversion_dir before this returns, under the limits
/// and the timeout of `options` (Errc::timeout), killed on a stop (Errc::cancelled); its space is given back when the
/// ImageFile goes. The caller has made sure of scratch_bytes_needed() bytes there; Errc::no_space if that was not true.
///
/// for_each_data calls the sink from options.threads threads, in about the order of the disk, with pieces of at most
/// options.batch_bytes; an image whose data turns out to be broken is Errc::unacceptable_image.
Result<std::unique_ptr<ImageFile>> open_as_raw(base::Fd fd, const Inspection& inspection, const ConvertOptions& options,
                                               std::stop_token stop);

/// The most that open_as_raw will take in options.conversion_dir; 0 for raw and qcow2.
std::uint64_t scratch_bytes_needed(const Inspection& inspection);

/// Removes what a crash may have left in a conversion directory, and nothing else. Called before any conversion. A
/// directory that is not there is a success.
Result<void> remove_leftovers(const std::filesystem::path& conversion_dir);

/// Can qemu-img be run? Errc::not_found with what to install, else how it failed. Without it raw and qcow2 still work.
Result<void> check_qemu_img(const ConvertOptions& options);

}  // namespace imagecache::convert
