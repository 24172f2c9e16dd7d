#include "convert/data_runs.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "base/crash_point.hpp"
#include "base/try.hpp"

namespace imagecache::convert {
namespace {

constexpr std::size_t granule = 64 * base::kib;
constexpr std::uint64_t piece_unit = 2 * base::mib;  // the largest qcow2 cluster: a piece holds whole ones
constexpr unsigned most_threads = 64;

class Copy {
 public:
  Copy(const PieceSource& source, std::uint64_t size_bytes, const ConvertOptions& options, const ImageFile::Sink& sink,
       std::stop_token stop)
      : source_(source),
        size_bytes_(size_bytes),
        piece_bytes_(std::max<std::uint64_t>(1, (options.batch_bytes + piece_unit - 1) / piece_unit) * piece_unit),
        min_zero_run_bytes_(options.min_zero_run_bytes),
        sink_(sink),
        stop_(std::move(stop)) {}

  void work() {
    try {
      take_pieces();
    } catch (const std::bad_alloc&) {
      give_up(Error{Errc::internal, "no memory for a piece of the image; set a smaller batch size or fewer threads"});
    }
  }

  Result<void> result() {
    const std::lock_guard lock(mutex_);
    if (failure_) return std::unexpected(*failure_);
    return {};
  }

 private:
  void take_pieces() {
    const std::unique_ptr<PieceReader> reader = source_.make_reader();
    const PieceBuffer buffer(std::min(piece_bytes_, size_bytes_));
    while (const std::optional<Piece> piece = take()) {
      if (auto done = pass(*reader, *piece, buffer.bytes().first(piece->length)); !done)
        return give_up(std::move(done).error());
    }
  }

  // Pieces lie on a grid, so that a piece never splits a cluster.
  std::optional<Piece> take() {
    const std::lock_guard lock(mutex_);
    if (failure_) return std::nullopt;
    if (stop_.stop_requested()) {
      failure_ = Error{Errc::cancelled, "passing the image on was stopped"};
      return std::nullopt;
    }
    if (next_ >= size_bytes_) return std::nullopt;
    auto data = source_.next_data(next_);
    if (!data) {
      failure_ = std::move(data).error();
      return std::nullopt;
    }
    if (!*data || **data >= size_bytes_) {
      next_ = size_bytes_;
      return std::nullopt;
    }
    const std::uint64_t offset = std::max(next_, **data / piece_bytes_ * piece_bytes_);
    const std::uint64_t length = std::min(piece_bytes_, size_bytes_ - offset);
    next_ = offset + length;
    return Piece{offset, length};
  }

  Result<void> pass(PieceReader& reader, const Piece& piece, std::span<std::byte> into) {
    std::uint64_t stored = 0;
    IMAGECACHE_TRY(const bool holds_data, reader.read(piece.offset, into, stored));
    if (holds_data) {
      IMAGECACHE_CHECK(for_each_run(into, min_zero_run_bytes_, [&](std::size_t at, std::size_t length) -> Result<void> {
        if (stop_.stop_requested()) return fail(Errc::cancelled, "passing the image on was stopped");
        return sink_(piece.offset + at, into.subspan(at, length));
      }));
    }
    const std::uint64_t half = std::max<std::uint64_t>(1, source_.data_bytes() / 2);
    const std::uint64_t before = stored_.fetch_add(stored);
    if (before < half && before + stored >= half) base::crash_point("convert.half");
    return {};
  }

  void give_up(Error error) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(error);
  }

  const PieceSource& source_;
  const std::uint64_t size_bytes_;
  const std::uint64_t piece_bytes_;
  const std::uint64_t min_zero_run_bytes_;
  const ImageFile::Sink& sink_;
  const std::stop_token stop_;
  std::atomic<std::uint64_t> stored_ = 0;
  std::mutex mutex_;
  // Protected by mutex_.
  std::uint64_t next_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

void PieceBuffer::Free::operator()(std::byte* memory) const {
  std::free(memory);
}

PieceBuffer::PieceBuffer(std::size_t size_bytes) : size_(size_bytes) {
  // Page-aligned, so that a sink may write it with O_DIRECT.
  const std::size_t rounded = std::max<std::size_t>(4096, (size_bytes + 4095) / 4096 * 4096);
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, rounded)));
  if (!bytes_) throw std::bad_alloc();
  std::memset(bytes_.get(), 0, rounded);
}

bool all_zero(std::span<const std::byte> bytes) {
  // Data shows itself within a few bytes; only then is it worth comparing the whole with itself, one byte on.
  const std::size_t first = std::min<std::size_t>(16, bytes.size());
  for (std::size_t i = 0; i < first; ++i)
    if (bytes[i] != std::byte{0}) return false;
  return bytes.size() <= first || std::memcmp(bytes.data(), bytes.data() + first, bytes.size() - first) == 0;
}

Result<void> for_each_run(std::span<const std::byte> piece, std::uint64_t min_zero_run_bytes,
                          const std::function<Result<void>(std::size_t, std::size_t)>& emit) {
  std::size_t run_start = 0;
  std::size_t run_end = 0;  // run_start == run_end: no run is open
  for (std::size_t at = 0; at < piece.size(); at += granule) {
    const std::size_t length = std::min(granule, piece.size() - at);
    if (all_zero(piece.subspan(at, length))) continue;
    if (run_start == run_end) {
      // A run of zeroes that crosses a piece's edge has at least half of it on one side.
      run_start = at >= std::max<std::uint64_t>(granule, min_zero_run_bytes / 2) ? at : 0;
    } else if (at - run_end >= std::max<std::uint64_t>(granule, min_zero_run_bytes)) {
      IMAGECACHE_CHECK(emit(run_start, run_end - run_start));
      run_start = at;
    }
    run_end = at + length;
  }
  if (run_start == run_end) return {};
  if (piece.size() - run_end < std::max<std::uint64_t>(granule, min_zero_run_bytes / 2)) run_end = piece.size();
  return emit(run_start, run_end - run_start);
}

Result<void> pass_on(const PieceSource& source, std::uint64_t size_bytes, const ConvertOptions& options,
                     const ImageFile::Sink& sink, std::stop_token stop) {
  base::crash_point("convert.started");
  Copy copy(source, size_bytes, options, sink, std::move(stop));
  {
    std::vector<std::jthread> helpers;
    for (unsigned i = 1; i < std::min(options.threads, most_threads); ++i) {
      try {
        helpers.emplace_back([&copy] { copy.work(); });
      } catch (const std::system_error&) {
        break;  // No more threads to be had: those that there are do it.
      }
    }
    copy.work();
  }
  return copy.result();
}

}  // namespace imagecache::convert
