// Whatever a tenant uploads: inspection and our readers end with a result, never read outside the file, and pass on
// nothing outside the disk. qemu-img is not part of it.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "base/try.hpp"
#include "convert/image_source.hpp"

namespace {

using namespace imagecache;

// Disks larger than this are inspected and not read: a valid file of a few bytes can hold a very long way of zeroes.
constexpr std::uint64_t read_limit_bytes = 64 * base::mib;

Result<void> try_image(base::Fd fd, const char* claim) {
  convert::InspectOptions inspect_options;
  inspect_options.disk_format = claim;
  IMAGECACHE_TRY(const convert::Inspection found, convert::inspect(fd.get(), "image", inspect_options));
  if (found.virtual_size_bytes == 0) std::abort();
  static_cast<void>(convert::check_claim(found, claim, "bare"));
  if (convert::scratch_bytes_needed(found) != 0 || found.virtual_size_bytes > read_limit_bytes) return {};
  convert::ConvertOptions options;
  options.threads = 1;
  options.batch_bytes = 2 * base::mib;
  IMAGECACHE_TRY(const auto image, convert::open_as_raw(std::move(fd), found, options, {}));
  const std::uint64_t size = image->virtual_size_bytes();
  if (size != found.virtual_size_bytes) std::abort();
  std::uint64_t sum = 0;
  const convert::ConvertOptions* used = &options;
  return image->for_each_data(
      [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
        if (data.empty() || data.size() > used->batch_bytes || offset > size || data.size() > size - offset)
          std::abort();
        for (const std::byte b : data) sum += static_cast<std::uint64_t>(b);  // ASan and MSan look at each
        return {};
      },
      {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const char* claim : {"qcow2", "vhd"}) {
    base::Fd fd(::memfd_create("image", MFD_CLOEXEC));
    if (!fd || !base::write_all_at(fd.get(), std::as_bytes(std::span(data, size)), 0, "memfd")) std::abort();
    static_cast<void>(try_image(std::move(fd), claim));
  }
  return 0;
}
