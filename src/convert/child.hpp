// One program run under limits. Private to the room.
#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::convert {

struct ChildSpec {
  std::string program;                 ///< a path, or a name that is looked up in PATH
  std::vector<std::string> arguments;  ///< without the program's name
  std::vector<int> descriptors;        ///< what the child has as 3, 4…; not closed here
  std::uint64_t cpu_limit_s = 0;       ///< rlimits; 0: none
  std::uint64_t address_space_limit_bytes = 0;
  std::uint64_t file_size_limit_bytes = 0;
  std::chrono::milliseconds timeout{0};
};

struct ChildResult {
  int exit_status = 0;  ///< what it exited with, or
  int signal = 0;       ///< what it was killed by
  std::string output;   ///< the beginning of its standard output and error
};

/// Runs it to its end and waits. Errc::not_found if there is no such program, Errc::timeout and Errc::cancelled if it
/// was killed, with its whole process group, for that; that it failed is a result. It dies with the calling thread.
Result<ChildResult> run_child(const ChildSpec& spec, std::stop_token stop);

}  // namespace imagecache::convert
