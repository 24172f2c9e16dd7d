#include "base/volume_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/try.hpp"

namespace imagecache::base {

namespace {

class VolumeFile final : public VolumeReader {
 public:
  VolumeFile(Fd fd, std::string name, std::uint64_t size_bytes, bool share)
      : fd_(std::move(fd)), name_(std::move(name)), size_bytes_(size_bytes), share_(share) {}

  std::uint64_t size_bytes() const override { return size_bytes_; }

  Result<std::uint64_t> next_data(std::uint64_t offset_bytes) override {
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(offset_bytes), SEEK_DATA);
    if (data >= 0) return std::min(static_cast<std::uint64_t>(data), size_bytes_);
    if (errno == ENXIO) return size_bytes_;    // nothing but a hole up to the end
    if (errno == EINVAL) return offset_bytes;  // a device, which knows no holes
    return fail_errno(name_, errno);
  }

  Result<void> read(std::uint64_t offset_bytes, std::span<std::byte> into) override {
    while (!into.empty()) {
      IMAGECACHE_TRY(const std::size_t got, read_at(fd_.get(), into, offset_bytes, name_));
      if (got == 0) return fail(Errc::corrupt, name_ + ": became shorter while it was read");
      offset_bytes += got;
      into = into.subspan(got);
    }
    return {};
  }

  std::optional<int> raw_fd() const override { return share_ ? std::optional(fd_.get()) : std::nullopt; }

 private:
  const Fd fd_;
  const std::string name_;
  const std::uint64_t size_bytes_;
  const bool share_;
};

}  // namespace

Result<std::unique_ptr<VolumeReader>> read_volume_file(Fd fd, std::string name, bool share) {
  // Not fstat(2): a block device has no size there.
  const off_t end = ::lseek(fd.get(), 0, SEEK_END);
  if (end < 0) return fail_errno(name, errno);
  return std::make_unique<VolumeFile>(std::move(fd), std::move(name), static_cast<std::uint64_t>(end), share);
}

}  // namespace imagecache::base
