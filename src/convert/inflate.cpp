#include "convert/inflate.hpp"

#include <libdeflate.h>
#include <zstd.h>

#include <new>

namespace imagecache::convert {

// A stream for 2 MiB needs no larger window; a hostile one could ask for 2 GiB.
constexpr int zstd_window_log_limit = 23;

void Inflater::Free::operator()(libdeflate_decompressor* decompressor) const {
  ::libdeflate_free_decompressor(decompressor);
}
void Inflater::Free::operator()(ZSTD_DCtx_s* context) const {
  ::ZSTD_freeDCtx(context);
}

bool Inflater::inflate(std::span<const std::byte> stream, std::span<std::byte> into) {
  return compression_ == Qcow2::Compression::zstd ? inflate_zstd(stream, into) : inflate_zlib(stream, into);
}

bool Inflater::inflate_zlib(std::span<const std::byte> stream, std::span<std::byte> into) {
  if (!zlib_) zlib_.reset(::libdeflate_alloc_decompressor());
  if (!zlib_) throw std::bad_alloc();
  std::size_t used = 0;
  // Without a place for the number of bytes it gives, fewer than `into` takes is a failure, as it should be.
  return ::libdeflate_deflate_decompress_ex(zlib_.get(), stream.data(), stream.size(), into.data(), into.size(), &used,
                                            nullptr) == LIBDEFLATE_SUCCESS;
}

bool Inflater::inflate_zstd(std::span<const std::byte> stream, std::span<std::byte> into) {
  if (!zstd_) zstd_.reset(::ZSTD_createDCtx());
  if (!zstd_) throw std::bad_alloc();
  ::ZSTD_DCtx_reset(zstd_.get(), ZSTD_reset_session_only);
  ::ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax, zstd_window_log_limit);
  ZSTD_inBuffer in{stream.data(), stream.size(), 0};
  ZSTD_outBuffer out{into.data(), into.size(), 0};
  for (;;) {
    const std::size_t in_before = in.pos;
    const std::size_t out_before = out.pos;
    const std::size_t left = ::ZSTD_decompressStream(zstd_.get(), &out, &in);
    if (::ZSTD_isError(left)) return false;
    if (out.pos == out.size) return left == 0;
    if (in.pos == in_before && out.pos == out_before) return false;
  }
}

}  // namespace imagecache::convert
