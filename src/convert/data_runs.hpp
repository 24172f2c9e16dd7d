// What every ImageFile of ours has in common: the disk is cut into pieces, a few threads take one after the other, and
// of each piece what is not zeroes goes to the sink. Private to the room.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>

#include "convert/limits.hpp"
#include "imagecache/types.hpp"

namespace imagecache::convert {

/// [offset, offset + length) of the disk.
struct Piece {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// Memory for one piece; all zeroes on creation.
class PieceBuffer {
 public:
  explicit PieceBuffer(std::size_t size_bytes);
  std::span<std::byte> bytes() const { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::size_t size_;
  std::unique_ptr<std::byte[], Free> bytes_;
};

/// Whether all of `bytes` is zero. Memory speed.
bool all_zero(std::span<const std::byte> bytes);

/// Calls `emit(offset, length)` for each run of `piece` that is to be written: zero granules of 64 KiB are left out
/// where at least `min_zero_run_bytes` of them stand together, at an edge of the piece half as many.
Result<void> for_each_run(std::span<const std::byte> piece, std::uint64_t min_zero_run_bytes,
                          const std::function<Result<void>(std::size_t offset, std::size_t length)>& emit);

/// One thread's part of a copy. Made on the thread that uses it.
class PieceReader {
 public:
  virtual ~PieceReader() = default;
  /// Fills all of `into`, which may hold anything, with the disk's bytes at `offset`; false if all of it is zeroes
  /// (`into` is then worth nothing). `stored` is set to the bytes that the file holds for it.
  virtual Result<bool> read(std::uint64_t offset, std::span<std::byte> into, std::uint64_t& stored) = 0;
};

class PieceSource {
 public:
  virtual ~PieceSource() = default;
  /// The first offset >= `from` that may hold data; nullopt if none does. Called by one thread at a time.
  virtual Result<std::optional<std::uint64_t>> next_data(std::uint64_t from) const = 0;
  virtual std::unique_ptr<PieceReader> make_reader() const = 0;
  /// At most this much is stored.
  virtual std::uint64_t data_bytes() const = 0;
};

/// Passes the whole disk of `size_bytes` to `sink`, as ImageFile::for_each_data promises.
Result<void> pass_on(const PieceSource& source, std::uint64_t size_bytes, const ConvertOptions& options,
                     const ImageFile::Sink& sink, std::stop_token stop);

}  // namespace imagecache::convert
