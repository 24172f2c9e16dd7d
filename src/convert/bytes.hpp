// Numbers in file headers, and reads that never go past the end of the file they are in.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::convert {

/// The number at `offset`. The caller has made sure that it lies inside.
template <std::unsigned_integral T>
T load_be(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
  if constexpr (std::endian::native == std::endian::little) value = std::byteswap(value);
  return value;
}
template <std::unsigned_integral T>
T load_le(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
  if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
  return value;
}

inline bool has_bytes(std::span<const std::byte> bytes, std::size_t offset, std::string_view expected) {
  return bytes.size() >= offset && bytes.size() - offset >= expected.size() &&
         std::memcmp(bytes.data() + offset, expected.data(), expected.size()) == 0;
}

constexpr std::uint64_t div_ceil(std::uint64_t a, std::uint64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

/// One image file, as the parsers read it: a descriptor (not owned), its real length, and what to call it.
struct SourceFile {
  int fd = -1;
  std::uint64_t size_bytes = 0;
  std::string name;

  /// "image 4f3c…: qcow2 names a backing file; refused".
  [[nodiscard]] std::unexpected<Error> refuse(std::string_view reason) const {
    return fail(Errc::unacceptable_image, name + ": " + std::string(reason) + "; refused");
  }

  bool holds(std::uint64_t offset, std::uint64_t length) const {
    return offset <= size_bytes && length <= size_bytes - offset;
  }

  /// All of `into` from `offset`. Refuses, naming `what`, if that is not inside the file; Errc::corrupt if the file has
  /// become shorter since it was measured.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into, std::string_view what) const {
    if (!holds(offset, into.size())) return refuse(std::string(what) + " lies beyond the end of the file (truncated?)");
    auto count = base::read_at(fd, into, offset, name);
    if (!count) return std::unexpected(std::move(count).error());
    if (*count != into.size()) return fail(Errc::corrupt, name + ": became shorter while it was read");
    return {};
  }

  /// Up to `length` bytes from `offset`, fewer where the file ends.
  Result<std::vector<std::byte>> read_some(std::uint64_t offset, std::size_t length) const {
    std::vector<std::byte> bytes(length);
    auto count = base::read_at(fd, bytes, offset, name);
    if (!count) return std::unexpected(std::move(count).error());
    bytes.resize(*count);
    return bytes;
  }
};

}  // namespace imagecache::convert
