#include "base/direct_writer.hpp"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace imagecache::base {
namespace {

// Enough for every disk there is; what is not aligned so goes through the page cache, whose pages are of this size too:
// no direct write ever shares one with a buffered write.
constexpr std::uintptr_t alignment_bytes = 4096;

bool is_aligned(std::uint64_t offset, std::span<const std::byte> data) {
  return ((reinterpret_cast<std::uintptr_t>(data.data()) | offset | data.size()) & (alignment_bytes - 1)) == 0;
}

}  // namespace

DirectWriter::DirectWriter(int file, Fd direct, std::string name)
    : file_(file), direct_(std::move(direct)), name_(std::move(name)) {}

Result<void> DirectWriter::write(std::uint64_t offset_bytes, std::span<const std::byte> data) const {
  while (direct_ && is_aligned(offset_bytes, data) && !data.empty()) {
    const ssize_t n = ::pwrite(direct_.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    // A disk that wants more alignment than ours, or a file system that changed its mind.
    if (n < 0 && errno == EINVAL) break;
    if (n < 0) return fail_errno(name_, errno);
    data = data.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
  return write_all_at(file_, data, offset_bytes, name_);
}

}  // namespace imagecache::base
