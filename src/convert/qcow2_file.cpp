#include "convert/qcow2_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/try.hpp"
#include "convert/inflate.hpp"
#include "convert/qcow2.hpp"

namespace imagecache::convert {
namespace {

class Qcow2Reader final : public PieceReader {
 public:
  Qcow2Reader(const SourceFile& file, const Qcow2& image)
      : file_(file), image_(image), inflater_(image.compression()) {}

  // `offset` and all but the disk's end are multiples of a cluster.
  Result<bool> read(std::uint64_t offset, std::span<std::byte> into, std::uint64_t& stored) override {
    bool holds_data = false;
    std::size_t zero_from = 0;  // zeroes are owed from here to `at`
    std::size_t at = 0;
    while (at < into.size()) {
      const std::uint64_t in_span = (offset + at) % image_.l2_span_bytes();
      const std::size_t length =
          static_cast<std::size_t>(std::min<std::uint64_t>(image_.l2_span_bytes() - in_span, into.size() - at));
      const std::uint64_t l2_offset = image_.l2_offset((offset + at) / image_.l2_span_bytes());
      if (l2_offset == 0) {
        at += length;
        continue;
      }
      entries_.resize(div_ceil(length, image_.cluster_bytes()));
      IMAGECACHE_CHECK(image_.read_l2(file_, l2_offset, in_span / image_.cluster_bytes(), entries_));
      IMAGECACHE_CHECK(read_clusters(into, at, length, zero_from));
      at += length;
    }
    holds_data = stored_ != 0;
    if (holds_data) clear(into, zero_from, into.size());
    stored += std::exchange(stored_, 0);
    return holds_data;
  }

 private:
  Result<void> read_clusters(std::span<std::byte> into, std::size_t start, std::size_t length, std::size_t& zero_from) {
    using Kind = Qcow2Cluster::Kind;
    for (std::size_t i = 0; i < entries_.size();) {
      const std::size_t at = start + i * image_.cluster_bytes();
      std::size_t take = std::min<std::size_t>(image_.cluster_bytes(), start + length - at);
      IMAGECACHE_TRY(const Qcow2Cluster cluster, image_.classify(file_, entries_[i], take));
      ++i;
      if (cluster.kind == Kind::zero) continue;
      clear(into, zero_from, at);
      if (cluster.kind == Kind::compressed) {
        IMAGECACHE_CHECK(read_compressed(cluster, into.subspan(at, take)));
      } else {
        // Neighbours on the disk are mostly neighbours in the file: one read for all of them.
        while (i < entries_.size()) {
          const std::size_t more = std::min<std::size_t>(image_.cluster_bytes(), length - i * image_.cluster_bytes());
          IMAGECACHE_TRY(const Qcow2Cluster next, image_.classify(file_, entries_[i], more));
          if (next.kind != Kind::data || next.offset != cluster.offset + take) break;
          take += more;
          ++i;
        }
        IMAGECACHE_CHECK(file_.read(cluster.offset, into.subspan(at, take), "qcow2 data"));
      }
      stored_ += take;
      zero_from = at + take;
    }
    return {};
  }

  Result<void> read_compressed(const Qcow2Cluster& cluster, std::span<std::byte> into) {
    if (stream_.size() < cluster.length_bytes) stream_.resize(cluster.length_bytes);
    const auto stream = std::span(stream_).first(cluster.length_bytes);
    IMAGECACHE_CHECK(file_.read(cluster.offset, stream, "qcow2 data"));
    if (into.size() == image_.cluster_bytes()) {
      if (!inflater_.inflate(stream, into)) return file_.refuse("a compressed qcow2 cluster is broken");
      return {};
    }
    // The disk's last cluster: it is stored whole.
    last_.resize(image_.cluster_bytes());
    if (!inflater_.inflate(stream, last_)) return file_.refuse("a compressed qcow2 cluster is broken");
    std::memcpy(into.data(), last_.data(), into.size());
    return {};
  }

  static void clear(std::span<std::byte> into, std::size_t from, std::size_t to) {
    if (from < to) std::memset(into.data() + from, 0, to - from);
  }

  const SourceFile& file_;
  const Qcow2& image_;
  Inflater inflater_;
  std::vector<std::uint64_t> entries_;
  std::vector<std::byte> stream_;
  std::vector<std::byte> last_;
  std::uint64_t stored_ = 0;
};

class Qcow2File final : public ImageFile, private PieceSource {
 public:
  Qcow2File(base::Fd fd, SourceFile file, Qcow2 image, std::uint64_t data_bytes, ConvertOptions options)
      : fd_(std::move(fd)),
        file_(std::move(file)),
        image_(std::move(image)),
        data_bytes_(data_bytes),
        options_(std::move(options)) {}

  std::uint64_t virtual_size_bytes() const override { return image_.virtual_size_bytes(); }
  Result<void> for_each_data(const Sink& sink, std::stop_token stop) const override {
    return pass_on(*this, image_.virtual_size_bytes(), options_, sink, std::move(stop));
  }

 private:
  Result<std::optional<std::uint64_t>> next_data(std::uint64_t from) const override {
    for (std::uint64_t index = from / image_.l2_span_bytes(); index < image_.l1_entries(); ++index)
      if (image_.l2_offset(index) != 0) return std::max(from, index * image_.l2_span_bytes());
    return std::nullopt;
  }
  std::unique_ptr<PieceReader> make_reader() const override { return std::make_unique<Qcow2Reader>(file_, image_); }
  std::uint64_t data_bytes() const override { return data_bytes_; }

  base::Fd fd_;
  const SourceFile file_;
  const Qcow2 image_;
  const std::uint64_t data_bytes_;
  const ConvertOptions options_;
};

}  // namespace

Result<std::unique_ptr<ImageFile>> open_qcow2(base::Fd fd, const Inspection& inspection,
                                              const ConvertOptions& options) {
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(fd.get(), inspection.name));
  SourceFile file{fd.get(), static_cast<std::uint64_t>(info.st_size), inspection.name};
  InspectOptions as_inspected;
  as_inspected.max_virtual_size_bytes = inspection.virtual_size_bytes;
  IMAGECACHE_TRY(Qcow2 image, Qcow2::open(file, as_inspected));
  if (image.virtual_size_bytes() != inspection.virtual_size_bytes)
    return fail(Errc::corrupt, inspection.name + ": has changed since it was inspected");
  return std::make_unique<Qcow2File>(std::move(fd), std::move(file), std::move(image), inspection.data_bytes, options);
}

}  // namespace imagecache::convert
