#include "cli/progress.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "cli/table.hpp"

namespace imagecache::cli {

std::string describe_progress(const std::string& what, std::uint64_t done_bytes, std::uint64_t total_bytes) {
  if (total_bytes == 0 && done_bytes == 0) return what + "…";
  if (total_bytes == 0) return fmt::format("{}: {}", what, base::format_bytes(done_bytes));
  const auto share = static_cast<double>(std::min(done_bytes, total_bytes)) / static_cast<double>(total_bytes);
  return fmt::format("{}: {} of {}, {} %", what, base::format_bytes(done_bytes), base::format_bytes(total_bytes),
                     static_cast<unsigned>(share * 100));
}

void Progress::show(const std::string& what, std::uint64_t done_bytes, std::uint64_t total_bytes) {
  if (!is_terminal_) return;
  const auto text = printable(describe_progress(what, done_bytes, total_bytes));
  const auto width = display_width(text);
  stream_ << '\r' << text << std::string(width_ > width ? width_ - width : 0, ' ') << std::flush;
  width_ = width;
}

void Progress::clear() {
  if (width_ == 0) return;
  stream_ << '\r' << std::string(width_, ' ') << '\r' << std::flush;
  width_ = 0;
}

}  // namespace imagecache::cli
