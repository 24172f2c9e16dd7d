// The Range header of RFC 9110 §14, as far as Glance serves it: one range of bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace imagecache::api {

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;  ///< inclusive
};

enum class RangeKind {
  none,           ///< no header
  one,            ///< satisfiable: `range` is set
  unsatisfiable,  ///< begins at or beyond the end
  other,          ///< several ranges, another unit, or not understood: left to the origin
};

struct RangeRequest {
  RangeKind kind = RangeKind::none;
  ByteRange range;
};

RangeRequest parse_range(std::string_view header, std::uint64_t size_bytes);

}  // namespace imagecache::api
