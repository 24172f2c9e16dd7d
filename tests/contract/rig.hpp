// One driver, ready to be tested, and a way to read what is in its volumes. Add a line to make_rig() and to the list of
// names in driver_contract_test.cpp to put a new driver under the contract.
//
// Directories: IMAGECACHE_TEST_XFS (a file system with reflink), IMAGECACHE_TEST_EXT4 (one without) and
// IMAGECACHE_TEST_TINY (one of at most 64 MiB). Without the first two the system's temporary directory serves, whatever
// it is on; without the last a small tmpfs is mounted where only this process sees it.
//
// IMAGECACHE_TEST_LVM names three disks that may be overwritten, the third a small one: "/dev/vda /dev/vdb /dev/vdc" in
// the machine of tests/support/lvm_guest.sh. Without it there are no rigs of the lvm driver.
//
// IMAGECACHE_TEST_CEPH is the ceph.conf of a cluster for tests, whose pool "volumes" each rig empties: what
// tests/support/ceph.sh start prints.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backends/drivers.hpp"
#include "backends/memory/memory_driver.hpp"
#ifdef IMAGECACHE_BACKEND_RBD
#include "backends/rbd/rbd_driver.hpp"
#endif
#include "base/fd.hpp"
#include "base/text.hpp"
#include "imagecache/driver.hpp"
#include "support/share_mounts.hpp"
#ifdef IMAGECACHE_BACKEND_RBD
#include "support/rbd_pool.hpp"
#endif

namespace imagecache::test {

namespace fs = std::filesystem;

class MapOptions final : public BackendOptions {
 public:
  explicit MapOptions(std::map<std::string, std::string, std::less<>> values) : values_(std::move(values)) {}
  std::string section() const override { return "contract"; }
  std::optional<std::string> get(std::string_view option) const override {
    const auto found = values_.find(option);
    if (found == values_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

/// A directory of its own inside what `variable` names, removed in the end.
class TestDirectory {
 public:
  explicit TestDirectory(const char* variable) {
    const char* const named = std::getenv(variable);
    path_ = (named ? fs::path(named) : fs::temp_directory_path()) / ("contract-" + base::new_uuid());
    fs::create_directories(path_);
  }
  ~TestDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

constexpr const char* nfs_driver = "cinder.volume.drivers.nfs.NfsDriver";

/// A directory on the file system that `variable` names, or the system's temporary one.
inline fs::path place(const char* variable) {
  const char* const named = std::getenv(variable);
  return named ? fs::path(named) : fs::temp_directory_path();
}

/// Where IMAGECACHE_TEST_TINY does not name one: mounts a small tmpfs on `directory` for this process alone. The mount
/// goes when the process does.
inline void mount_tiny(const fs::path& directory) {
  if (::unshare(CLONE_NEWNS) != 0) {
    const std::string map = "0 " + std::to_string(::getuid()) + " 1";
    ASSERT_EQ(::unshare(CLONE_NEWUSER | CLONE_NEWNS), 0)
        << "this test needs a small file system: set IMAGECACHE_TEST_TINY to a directory on one";
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << map;
  }
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("tiny", directory.c_str(), "tmpfs", 0, "size=16m,mode=0777"), 0);
}

/// What the lvm driver of a rig works in: a volume group of its own, of extents of 512 bytes, so that volumes are of
/// exactly the size that was asked for; nothing is in it but, if it is thin, the pool.
class LvmGroup {
 public:
  explicit LvmGroup(bool thin) : thin_(thin), name_(thin ? "contract-thin" : "contract-thick") {
    static std::set<std::string> made;  // a command takes a second in an emulated machine
    const std::string disk = disks().at(thin ? 0 : 1);
    if (made.insert(name_).second) {
      run("vgs " + name_ + " >/dev/null 2>&1 || vgcreate -q -s 512b " + name_ + " " + disk);
    }
  }
  std::map<std::string, std::string, std::less<>> options() const {
    return {{"volume_group", name_},
            {"lvm_type", thin_ ? "auto" : "default"},
            {"lvm_conf_file", "none"},
            {"lvm_max_concurrency", "2"}};
  }
  void empty(Driver& driver) const {
    std::string volumes;
    for (const VolumeId& volume : *driver.list_volumes()) volumes += " " + name_ + "/" + volume.name;
    if (!volumes.empty()) run("lvremove -q -f" + volumes);
  }
  static void run(const std::string& command) {
    ASSERT_EQ(std::system(command.c_str()), 0) << command;  // NOLINT(bugprone-command-processor): we wrote it
  }
  const std::string& name() const { return name_; }
  static std::vector<std::string> disks() {
    const char* const named = std::getenv("IMAGECACHE_TEST_LVM");
    auto disks = base::split(named ? named : "", ' ');
    EXPECT_EQ(disks.size(), 3U) << "this test needs disks of its own: run it in tests/support/lvm_guest.sh";
    disks.resize(3);
    return disks;
  }

 private:
  const bool thin_;
  const std::string name_;
};

class Rig {
 public:
  explicit Rig(std::string_view driver_name, std::map<std::string, std::string, std::less<>> options,
               const char* directory_variable = nullptr) {
    if (directory_variable) {
      directory_ = std::make_unique<TestDirectory>(directory_variable);
      options["file_volume_dir"] = directory_->path().native();
    }
    auto made = backends::find_driver(driver_name)(MapOptions(std::move(options)));
    EXPECT_TRUE(made) << made.error().message;
    driver_ = std::move(*made);
    const auto ready = driver_->check_for_setup_error();
    EXPECT_TRUE(ready) << ready.error().message;
  }

  Driver& driver() { return *driver_; }
#ifdef IMAGECACHE_BACKEND_RBD
  RbdPool& rbd() { return *rbd_; }
#endif
  const fs::path& directory() const { return directory_->path(); }
  ShareMounts& shares() { return *shares_; }

  /// As Driver's read would be, if a service had to read volumes.
  Result<std::size_t> read(const VolumeId& volume, std::uint64_t offset, std::span<std::byte> data) {
    if (const auto* memory = dynamic_cast<backends::MemoryDriver*>(driver_.get())) {
      return memory->read(volume, offset, data);
    }
#ifdef IMAGECACHE_BACKEND_RBD
    if (rbd_) return rbd_->read(volume, offset, data);
#endif
    auto connection = driver_->initialize_connection(volume);
    if (!connection) return std::unexpected(connection.error());
    const fs::path path = shares_ ? shares_->mount_point(connection->data.at("export")) / connection->data.at("name")
                                  : fs::path(connection->data.at("device_path"));
    auto fd = base::open_file(path, O_RDONLY);
    if (!fd) return std::unexpected(fd.error());
    return base::read_at(fd->get(), data, offset, volume.name);
  }

 private:
  friend std::unique_ptr<Rig> make_rig(std::string_view name);
#ifdef IMAGECACHE_BACKEND_RBD
  std::unique_ptr<RbdPool> rbd_;
#endif
  std::unique_ptr<ShareMounts> shares_;
  std::unique_ptr<TestDirectory> directory_;
  std::unique_ptr<Driver> driver_;
};

inline std::unique_ptr<Rig> make_rig(std::string_view name) {
  if (name == "memory") {
    return std::make_unique<Rig>("memory", std::map<std::string, std::string, std::less<>>{});
  }
  if (name == "file_reflink") {
    return std::make_unique<Rig>("file", std::map<std::string, std::string, std::less<>>{}, "IMAGECACHE_TEST_XFS");
  }
  if (name == "file_plain") {
    return std::make_unique<Rig>("file", std::map<std::string, std::string, std::less<>>{}, "IMAGECACHE_TEST_EXT4");
  }
  if (name == "nfs") {
    auto shares = std::make_unique<ShareMounts>(place("IMAGECACHE_TEST_XFS"),
                                                std::vector<std::string>{"127.0.0.1:/one", "127.0.0.1:/two"});
    auto rig = std::make_unique<Rig>(nfs_driver, shares->options());
    rig->shares_ = std::move(shares);
    return rig;
  }
  if (name == "lvm_thin" || name == "lvm_thick") {
    const LvmGroup group(name == "lvm_thin");
    auto rig = std::make_unique<Rig>("lvm", group.options());
    group.empty(rig->driver());
    return rig;
  }
#ifdef IMAGECACHE_BACKEND_RBD
  if (name == "rbd") {
    auto pool = std::make_unique<RbdPool>();
    auto rig = std::make_unique<Rig>("rbd", std::map<std::string, std::string, std::less<>>{
                                                {"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}});
    rig->rbd_ = std::move(pool);
    return rig;
  }
#endif
  return nullptr;
}

/// All drivers that this build has, each on what it can stand on.
inline std::vector<const char*> rigs() {
  std::vector<const char*> names = {"memory", "file_reflink", "file_plain", "nfs"};
#ifdef IMAGECACHE_BACKEND_RBD
  names.push_back("rbd");
#endif
  if (std::getenv("IMAGECACHE_TEST_LVM")) names.insert(names.end(), {"lvm_thin", "lvm_thick"});
  return names;
}

}  // namespace imagecache::test
