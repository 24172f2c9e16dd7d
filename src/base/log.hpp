// Log lines in oslo.log's shape. A line carries the room ("origin", "image_cache"…) and, where there is one, the
// request:
//
//   2026-11-22 21:56:06.501 4711 INFO imagecache.origin [req-… user project] message
//
// The only global of the project, as a log is of a process. Any thread. Never log a token.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "base/request_context.hpp"
#include "imagecache/error.hpp"

namespace imagecache::base::log {

enum class Level { debug, info, warning, error };

struct Options {
  Level level = Level::info;
  std::string log_file;  ///< empty: standard error
};

/// Called once by the program before threads start; until then, and in tests, warnings and errors go to standard error.
Result<void> setup(const Options& options);
/// For SIGHUP: opens log_file anew by its name.
Result<void> reopen();
bool enabled(Level level);
void write(Level level, std::string_view room, const RequestContext* context, std::string_view message);

template <class... Args>
void debug(std::string_view room, const RequestContext* context, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, room, context, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view room, const RequestContext* context, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, room, context, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(std::string_view room, const RequestContext* context, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warning)) write(Level::warning, room, context, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(std::string_view room, const RequestContext* context, fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, room, context, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace imagecache::base::log
