// One compressed qcow2 cluster. Private to the room.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "convert/qcow2.hpp"

struct libdeflate_decompressor;
struct ZSTD_DCtx_s;

namespace imagecache::convert {

/// Not thread-safe: one for each thread.
class Inflater {
 public:
  explicit Inflater(Qcow2::Compression compression) : compression_(compression) {}

  /// Fills all of `into` from the stream that begins at `stream`'s beginning; what follows the stream is ignored.
  /// False if the stream is broken or gives another number of bytes.
  bool inflate(std::span<const std::byte> stream, std::span<std::byte> into);

 private:
  bool inflate_zlib(std::span<const std::byte> stream, std::span<std::byte> into);
  bool inflate_zstd(std::span<const std::byte> stream, std::span<std::byte> into);
  struct Free {
    void operator()(libdeflate_decompressor* decompressor) const;
    void operator()(ZSTD_DCtx_s* context) const;
  };
  const Qcow2::Compression compression_;
  std::unique_ptr<libdeflate_decompressor, Free> zlib_;
  std::unique_ptr<ZSTD_DCtx_s, Free> zstd_;
};

}  // namespace imagecache::convert
