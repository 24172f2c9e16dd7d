// One program run to its end: nothing is inherited but what is named here, its output is kept, and its time is limited.
//
// Blocks the calling thread. Any thread that may block; the thread must outlive the program, which is ended with it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::base {

/// How a program is ended that takes too long, is stopped, or whose caller dies.
enum class ChildEnd {
  kill,  ///< SIGKILL, with its whole process group
  ask,   ///< SIGTERM, and nothing more: for what must not be torn away in the middle, such as LVM's commands, which put
         ///< off signals while devices are suspended. One that has not ended `ask_grace` later is left to itself
};

struct ChildSpec {
  std::string program;                   ///< a path, or a name that is looked up in PATH, /usr/sbin and /sbin
  std::vector<std::string> arguments;    ///< without the program's name
  std::vector<std::string> environment;  ///< "NAME=value"; LC_ALL=C is set besides, and nothing is inherited
  std::vector<int> descriptors;          ///< what the child has as 3, 4…; not closed here
  std::uint64_t cpu_limit_s = 0;         ///< rlimits; 0: none
  std::uint64_t address_space_limit_bytes = 0;
  std::uint64_t file_size_limit_bytes = 0;
  std::size_t output_limit_bytes = 4096;  ///< of output and errors each; what is beyond is read and dropped
  std::chrono::milliseconds timeout{0};
  /// How long it may say nothing, for one that tells how far it is; 0: as long as it lasts.
  std::chrono::milliseconds silence_timeout{0};
  ChildEnd end = ChildEnd::kill;
  std::chrono::milliseconds ask_grace{10'000};
  bool may_gain_privileges = false;  ///< sudo can do nothing without
  /// Let go of when the program has ended: of one that is left to itself that is after run_child has returned.
  std::shared_ptr<const void> held = nullptr;
};

struct ChildResult {
  int exit_status = 0;  ///< what it exited with, or
  int signal = 0;       ///< what it was killed by
  std::string output;   ///< the beginning of its standard output
  std::string errors;   ///< the beginning of its standard error
};

/// Runs it to its end and waits. Errc::not_found if there is no such program, Errc::timeout and Errc::cancelled if it
/// was ended for that; that it failed is a result.
Result<ChildResult> run_child(const ChildSpec& spec, std::stop_token stop);

}  // namespace imagecache::base
