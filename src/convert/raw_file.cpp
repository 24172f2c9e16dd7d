#include "convert/raw_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/try.hpp"
#include "convert/bytes.hpp"

namespace imagecache::convert {
namespace {

class RawReader final : public PieceReader {
 public:
  explicit RawReader(const SourceFile& file) : file_(file) {}
  Result<bool> read(std::uint64_t offset, std::span<std::byte> into, std::uint64_t& stored) override {
    IMAGECACHE_CHECK(file_.read(offset, into, "the disk"));
    stored = into.size();
    return true;
  }

 private:
  const SourceFile& file_;
};

class RawFile final : public ImageFile, private PieceSource {
 public:
  RawFile(base::Fd fd, SourceFile file, std::uint64_t virtual_size_bytes, std::uint64_t data_bytes,
          ConvertOptions options)
      : fd_(std::move(fd)),
        file_(std::move(file)),
        virtual_size_bytes_(virtual_size_bytes),
        data_bytes_(data_bytes),
        options_(std::move(options)) {}

  std::uint64_t virtual_size_bytes() const override { return virtual_size_bytes_; }
  std::optional<int> raw_fd() const override { return fd_.get(); }
  Result<void> for_each_data(const Sink& sink, std::stop_token stop) const override {
    return pass_on(*this, virtual_size_bytes_, options_, sink, std::move(stop));
  }

 private:
  Result<std::optional<std::uint64_t>> next_data(std::uint64_t from) const override {
    const off_t at = ::lseek(fd_.get(), static_cast<off_t>(from), SEEK_DATA);
    if (at >= 0) return static_cast<std::uint64_t>(at);
    if (errno == ENXIO) return std::nullopt;
    return from;  // A file system that knows no holes.
  }
  std::unique_ptr<PieceReader> make_reader() const override { return std::make_unique<RawReader>(file_); }
  std::uint64_t data_bytes() const override { return data_bytes_; }

  base::Fd fd_;
  const SourceFile file_;
  const std::uint64_t virtual_size_bytes_;
  const std::uint64_t data_bytes_;
  const ConvertOptions options_;
};

}  // namespace

Result<std::unique_ptr<ImageFile>> open_raw(base::Fd fd, const Inspection& inspection, const ConvertOptions& options) {
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), inspection.name));
  SourceFile file{fd.get(), static_cast<std::uint64_t>(info.st_size), inspection.name};
  if (file.size_bytes < inspection.virtual_size_bytes)
    return fail(Errc::corrupt, inspection.name + ": is shorter than when it was inspected");
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  const std::uint64_t on_disk = static_cast<std::uint64_t>(info.st_blocks) * 512;
  return std::make_unique<RawFile>(std::move(fd), std::move(file), inspection.virtual_size_bytes,
                                   std::min(on_disk, inspection.virtual_size_bytes), options);
}

}  // namespace imagecache::convert
