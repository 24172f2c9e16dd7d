// Named places at which a test can end the process as a power failure would. In a build without
// IMAGECACHE_CRASH_POINTS they are nothing.
//
// IMAGECACHE_CRASH_AT=publish.renamed makes the process kill itself (SIGKILL) when it gets there;
// publish.renamed:3 the third time.
#pragma once

#include <string_view>

namespace imagecache::base {

#ifdef IMAGECACHE_CRASH_POINTS
void crash_point(std::string_view name);
#else
inline void crash_point(std::string_view) {}
#endif

}  // namespace imagecache::base
