// Small texts that several rooms need: sizes for people, identifiers, trimming.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace imagecache::base {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;

/// 1073741824 → "1.0 GiB".
std::string format_bytes(std::uint64_t bytes);
/// Size in whole GiB, rounded up: what Cinder calls a volume's size.
constexpr std::uint64_t to_gib_ceil(std::uint64_t bytes) {
  return bytes / gib + (bytes % gib != 0 ? 1 : 0);
}

/// A random (version 4) UUID, "3a0f…-…".
std::string new_uuid();
/// 8-4-4-4-12 hexadecimal digits.
bool is_uuid(std::string_view text);
/// May `text` be an image or volume id that becomes a file name: [A-Za-z0-9._-]{1,200} without a leading dot.
bool is_safe_name(std::string_view text);

std::string_view trim(std::string_view text);
std::string to_lower(std::string_view text);
std::vector<std::string> split(std::string_view text, char separator);
/// Decimal digits only, no sign, no overflow.
std::optional<std::uint64_t> parse_unsigned(std::string_view text);

}  // namespace imagecache::base
