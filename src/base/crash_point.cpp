#include "base/crash_point.hpp"

#ifdef IMAGECACHE_CRASH_POINTS

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

#include "base/text.hpp"

namespace imagecache::base {

void crash_point(std::string_view name) {
  static const char* const wanted = std::getenv("IMAGECACHE_CRASH_AT");
  if (!wanted) return;
  const std::string_view text(wanted);
  const auto colon = text.find(':');
  if (text.substr(0, colon) != name) return;
  static std::atomic<std::uint64_t> passes{0};
  const std::uint64_t at = colon == std::string_view::npos ? 1 : parse_unsigned(text.substr(colon + 1)).value_or(1);
  if (++passes == at) std::raise(SIGKILL);
}

}  // namespace imagecache::base

#endif
