#include "api/byte_range.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace imagecache::api {

RangeRequest parse_range(std::string_view header, std::uint64_t size_bytes) {
  if (header.empty()) return {.kind = RangeKind::none, .range = {}};
  constexpr RangeRequest other{.kind = RangeKind::other, .range = {}};
  constexpr RangeRequest unsatisfiable{.kind = RangeKind::unsatisfiable, .range = {}};
  if (!header.starts_with("bytes=")) return other;
  const std::string_view spec = base::trim(header.substr(6));
  const auto dash = spec.find('-');
  if (dash == std::string_view::npos || spec.find(',') != std::string_view::npos) return other;
  const std::string_view from = spec.substr(0, dash);
  const std::string_view to = spec.substr(dash + 1);
  if (from.empty()) {
    const auto suffix = base::parse_unsigned(to);
    if (!suffix) return other;
    if (*suffix == 0 || size_bytes == 0) return unsatisfiable;
    const std::uint64_t length = std::min(*suffix, size_bytes);
    return {.kind = RangeKind::one, .range = {.first = size_bytes - length, .last = size_bytes - 1}};
  }
  const auto first = base::parse_unsigned(from);
  const auto last = to.empty() ? std::optional(UINT64_MAX) : base::parse_unsigned(to);
  if (!first || !last || *last < *first) return other;
  if (*first >= size_bytes) return unsatisfiable;
  return {.kind = RangeKind::one, .range = {.first = *first, .last = std::min(*last, size_bytes - 1)}};
}

}  // namespace imagecache::api
