// How far a long command is, in bytes, on one line of a terminal that is written over.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

namespace imagecache::cli {

class Progress {
 public:
  /// Silent unless `is_terminal`. The stream outlives it.
  Progress(std::ostream& stream, bool is_terminal) : stream_(stream), is_terminal_(is_terminal) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// "download: 12.0 MiB of 1.0 GiB, 1 %"; a total of 0 is unknown.
  void show(const std::string& what, std::uint64_t done_bytes, std::uint64_t total_bytes);
  /// Takes the line away.
  void clear();

 private:
  std::ostream& stream_;
  const bool is_terminal_;
  std::size_t width_ = 0;
};

std::string describe_progress(const std::string& what, std::uint64_t done_bytes, std::uint64_t total_bytes);

}  // namespace imagecache::cli
