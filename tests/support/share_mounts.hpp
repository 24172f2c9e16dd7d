// Shares as cinder-volume mounts them, without a server: directories on one file system, each bind-mounted below a base
// of mount points. Seen by this process alone; make it before any thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backends/file/nfs_shares.hpp"
#include "support/private_mount.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {

class ShareMounts {
 public:
  /// `on`: a directory on the file system to use. All shares are in the shares file; those of `mounted` are mounted.
  ShareMounts(const std::filesystem::path& on, const std::vector<std::string>& mounted) : directory_(on) {
    have_own_mounts();
    std::filesystem::create_directory(base());
    for (const std::string& share : mounted) {
      add(share);
      mount(share);
    }
  }
  ~ShareMounts() {
    for (const auto& [share, place] : mounts_) ::umount2(place.c_str(), MNT_DETACH);
  }
  ShareMounts(const ShareMounts&) = delete;
  ShareMounts& operator=(const ShareMounts&) = delete;

  /// Writes it into the shares file, and nothing else.
  void add(const std::string& line) { std::ofstream(shares_file(), std::ios::app) << line << '\n'; }
  void mount(const std::string& share) { mount(share, exported(share)); }
  void mount(const std::string& share, const std::filesystem::path& what) {
    std::filesystem::create_directories(what);
    std::filesystem::create_directories(mount_point(share));
    EXPECT_EQ(::mount(what.c_str(), mount_point(share).c_str(), nullptr, MS_BIND, nullptr), 0);
    mounts_[share] = mount_point(share);
  }
  /// Though it is in use.
  void unmount(const std::string& share) {
    EXPECT_EQ(::umount2(mount_point(share).c_str(), MNT_DETACH), 0);
    mounts_.erase(share);
  }

  std::filesystem::path base() const { return directory_ / "mnt"; }
  std::filesystem::path shares_file() const { return directory_ / "shares"; }
  std::filesystem::path mount_point(const std::string& share) const { return *backends::mount_point_of(base(), share); }
  /// What is there, whether it is mounted or not.
  std::filesystem::path exported(const std::string& share) const {
    return directory_ / ("export-" + mount_point(share).filename().native());
  }
  std::map<std::string, std::string, std::less<>> options() const {
    return {{"nfs_shares_config", shares_file().native()}, {"nfs_mount_point_base", base().native()}};
  }

 private:
  TempDir directory_;
  std::map<std::string, std::filesystem::path> mounts_;
};

}  // namespace imagecache::test
