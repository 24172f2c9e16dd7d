#include "backends/lvm/device.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

constexpr std::size_t piece_bytes = 4 * base::mib;
constexpr std::size_t granule_bytes = 64 * base::kib;  // the unit in which zeroes are looked for; a thin chunk, mostly
constexpr std::size_t zeroes_bytes = 64 * base::mib;   // one second of a slow disk that has to write them all
constexpr std::size_t alignment_bytes = 4096;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

bool all_zero(std::span<const std::byte> data) {
  return data.empty() ||
         (data.front() == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

}  // namespace

Result<std::optional<Device>> Device::open(const std::string& path, const std::string& name, Use use) {
  const int flags = use == Use::write ? O_RDWR | O_EXCL : use == Use::read ? O_RDONLY | O_DIRECT : O_RDONLY;
  base::Fd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT || errno == ENXIO) return std::nullopt;  // ENXIO: a node that outlived its device
    if (errno == EBUSY) return fail(Errc::conflict, name + ": " + path + " is in use on this host");
    return base::fail_errno(name + ": cannot open " + path, errno);
  }
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), name));
  if (!S_ISBLK(info.st_mode)) return fail(Errc::conflict, name + ": " + path + " is no block device");
  std::uint64_t size_bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &size_bytes) != 0) return base::fail_errno(name + ": " + path, errno);
  base::Fd direct;
  if (use == Use::write) direct = base::Fd(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK));
  return Device(std::move(fd), std::move(direct), size_bytes, name);
}

Result<void> Device::write(std::uint64_t offset_bytes, std::span<const std::byte> data) const {
  return writer_.write(offset_bytes, data);
}

Result<void> Device::zero(std::uint64_t begin, std::uint64_t end, const std::stop_token& stop) const {
  while (begin < end) {
    if (stop.stop_requested()) return fail(Errc::cancelled, name_ + ": writing zeroes was called off");
    // In steps, so that a stop, a signal or a full pool is met soon.
    std::uint64_t range[2] = {begin, std::min<std::uint64_t>(end - begin, zeroes_bytes)};
    if (::ioctl(fd_.get(), BLKZEROOUT, range) != 0) {
      if (errno == EINTR) continue;
      return base::fail_errno(name_ + ": cannot write zeroes", errno);
    }
    begin += range[1];
  }
  return {};
}

Result<void> Device::copy_from(const Device& source, const std::stop_token& stop,
                               std::uint64_t& copied_to_bytes) const {
  const std::unique_ptr<std::byte[], Free> buffer(
      static_cast<std::byte*>(std::aligned_alloc(alignment_bytes, piece_bytes)));
  if (!buffer) return fail(Errc::internal, name_ + ": no memory to copy with");
  std::uint64_t zeroes_from = 0;  // up to where we are, all is zero and not yet written
  for (std::uint64_t at = 0; at < source.size_bytes_;) {
    if (stop.stop_requested()) return fail(Errc::cancelled, name_ + ": copying " + source.name_ + " was called off");
    const std::size_t wanted = std::min<std::uint64_t>(piece_bytes, source.size_bytes_ - at);
    const std::span<std::byte> piece(buffer.get(), wanted);
    IMAGECACHE_TRY(const std::size_t got, base::read_at(source.fd_.get(), piece, at, source.name_));
    if (got != wanted) return fail(Errc::corrupt, source.name_ + ": became shorter while it was copied");
    const auto is_zero = [&](std::size_t i) {
      return all_zero(piece.subspan(i, std::min(granule_bytes, piece.size() - i)));
    };
    for (std::size_t i = 0; i < piece.size();) {
      std::size_t end = i;
      while (end < piece.size() && !is_zero(end)) end = std::min(end + granule_bytes, piece.size());
      if (end > i) {
        IMAGECACHE_CHECK(zero(zeroes_from, at + i, stop));
        copied_to_bytes = at + end;
        IMAGECACHE_CHECK(write(at + i, piece.subspan(i, end - i)));
        zeroes_from = at + end;
      }
      i = end;
      while (i < piece.size() && is_zero(i)) i = std::min(i + granule_bytes, piece.size());
    }
    at += wanted;
  }
  return zero(zeroes_from, size_bytes_, stop);
}

Result<void> Device::sync() const {
  return base::sync_file(fd_.get(), name_);
}

}  // namespace imagecache::backends
