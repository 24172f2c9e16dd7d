#include "backends/file/volume_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace imagecache::backends {
namespace {

// Enough for every disk there is; what is not aligned so goes through the page cache.
constexpr std::uintptr_t alignment_bytes = 4096;

bool is_aligned(std::uint64_t offset, std::span<const std::byte> data) {
  return ((reinterpret_cast<std::uintptr_t>(data.data()) | offset | data.size()) & (alignment_bytes - 1)) == 0;
}

}  // namespace

VolumeWriter::VolumeWriter(int directory, int file, std::string name)
    : file_(file),
      name_(std::move(name)),
      direct_(::openat(directory, name_.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {}

Result<void> VolumeWriter::write(std::uint64_t offset_bytes, std::span<const std::byte> data) const {
  while (direct_ && is_aligned(offset_bytes, data) && !data.empty()) {
    const ssize_t n = ::pwrite(direct_.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    // A disk that wants more alignment than ours, or a file system that changed its mind.
    if (n < 0 && errno == EINVAL) break;
    if (n < 0) return base::fail_errno(name_, errno);
    data = data.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
  return base::write_all_at(file_, data, offset_bytes, name_);
}

}  // namespace imagecache::backends
