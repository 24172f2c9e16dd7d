// What a conversion may cost. The program fills it from its configuration; each field is an option of ours.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/text.hpp"

namespace imagecache::convert {

struct ConvertOptions {
  /// Where qemu-img's output lives while a volume is filled from it (`image_conversion_dir`). Not used for raw and
  /// qcow2, which need no scratch space.
  std::filesystem::path conversion_dir = "/var/lib/cinder-image-cache/conversion";
  /// Threads that read and decompress one image, the caller's included. 0 counts as 1.
  unsigned threads = 2;
  /// Memory per thread: an image is passed on in pieces of this many bytes. Rounded up to a multiple of 2 MiB.
  std::uint64_t batch_bytes = 4 * base::mib;
  /// Zeroes between data are left out only where at least this many stand together (an exact bound inside a piece, half
  /// of it at a piece's edges). Smaller: less space; larger: fewer extents, and a clone costs by the extent. 0: leave
  /// out every 64 KiB of zeroes.
  std::uint64_t min_zero_run_bytes = 1 * base::mib;

  /// The program for what we do not read ourselves: a name to look up in PATH, or a path.
  std::string qemu_img = "qemu-img";
  /// Its rlimits; 0: none.
  std::uint64_t cpu_limit_s = 3600;
  std::uint64_t address_space_limit_bytes = 4 * base::gib;
  /// After this it is killed, with all that it started.
  std::chrono::seconds timeout{3600};
};

}  // namespace imagecache::convert
