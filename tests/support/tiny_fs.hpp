// A small file system that a test may fill up: a directory of its own on the one that IMAGECACHE_TEST_TINY names, else
// a tmpfs that only this process sees. Tests that use it hold the ctest resource "tiny" (tests/CMakeLists.txt), since
// the space is everybody's. Make it before any thread: a thread keeps the mounts that its parent had.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>

#include "base/fd.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {

class TinyFs {
 public:
  TinyFs() {
    if (const char* named = std::getenv("IMAGECACHE_TEST_TINY")) {
      directory_ = std::make_unique<TempDir>(named);
    } else {
      directory_ = std::make_unique<TempDir>();
      mounted_ = mount();
    }
    EXPECT_LE(space().f_blocks * space().f_frsize, std::uint64_t{64} << 20)
        << path() << " is not on a small file system";
  }
  ~TinyFs() {
    release();
    if (mounted_) ::umount2(path().c_str(), MNT_DETACH);
  }
  TinyFs(const TinyFs&) = delete;
  TinyFs& operator=(const TinyFs&) = delete;

  const std::filesystem::path& path() const { return directory_->path(); }
  std::filesystem::path operator/(const std::string& name) const { return path() / name; }
  std::uint64_t free_bytes() const { return space().f_bavail * space().f_frsize; }

  /// Takes all space but about `left_bytes`, until release().
  void fill_up(std::uint64_t left_bytes = 0) {
    const auto fd = base::open_file(filler(), O_RDWR | O_CREAT);
    ASSERT_TRUE(fd) << fd.error().message;
    // In ever smaller pieces: what a file system says is free is not all to be had.
    off_t size = 0;
    for (off_t piece = off_t{16} << 20; piece >= 4096; piece /= 2) {
      while (free_bytes() > left_bytes && free_bytes() - left_bytes >= static_cast<std::uint64_t>(piece) &&
             ::posix_fallocate(fd->get(), size, piece) == 0) {
        size += piece;
      }
    }
  }
  void release() {
    std::error_code ignored;
    std::filesystem::remove(filler(), ignored);
  }

 private:
  std::filesystem::path filler() const { return path() / "filler"; }
  struct statvfs space() const {
    struct statvfs info{};
    ::statvfs(path().c_str(), &info);
    return info;
  }
  bool mount() {
    if (::unshare(CLONE_NEWNS) != 0) {
      const std::string map = "0 " + std::to_string(::getuid()) + " 1";
      if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        ADD_FAILURE() << "this test needs a small file system: set IMAGECACHE_TEST_TINY to a directory on one";
        return false;
      }
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << map;
    }
    EXPECT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    const bool mounted = ::mount("tiny", path().c_str(), "tmpfs", 0, "size=48m,mode=0777") == 0;
    EXPECT_TRUE(mounted);
    return mounted;
  }

  std::unique_ptr<TempDir> directory_;
  bool mounted_ = false;
};

}  // namespace imagecache::test
