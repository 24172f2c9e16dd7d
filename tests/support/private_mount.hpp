// A file system of a kind that tests need and machines seldom have, e.g. without user attributes or mounted noatime:
// nameless, in memory, seen by this process alone. Make it before any thread: a thread keeps the mounts that its parent
// had.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_dir.hpp"

namespace imagecache::test {

/// From here on, what this thread mounts and unmounts is seen by it and the threads that it starts, and by nobody else.
inline bool have_own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) {
    const std::string map = "0 " + std::to_string(::getuid()) + " 1";
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      ADD_FAILURE() << "this test mounts a file system: run it as root or allow user namespaces";
      return false;
    }
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << map;
  }
  EXPECT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  return true;
}

class PrivateMount {
 public:
  /// `type`: "tmpfs" has user attributes since Linux 6.6, "ramfs" never. `flags` are mount(2)'s, e.g. MS_NOATIME.
  explicit PrivateMount(const char* type, unsigned long flags = 0) {
    if (!have_own_mounts()) return;
    mounted_ = ::mount(type, path().c_str(), type, flags, nullptr) == 0;
    EXPECT_TRUE(mounted_) << type;
  }
  ~PrivateMount() {
    if (mounted_) ::umount2(path().c_str(), MNT_DETACH);
  }
  PrivateMount(const PrivateMount&) = delete;
  PrivateMount& operator=(const PrivateMount&) = delete;

  const std::filesystem::path& path() const { return directory_.path(); }

 private:
  TempDir directory_;
  bool mounted_ = false;
};

}  // namespace imagecache::test
