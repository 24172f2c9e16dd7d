// One driver, ready to be tested, and a way to read what is in its volumes. Add a line to make_rig() and to the list of
// names in driver_contract_test.cpp to put a new driver under the contract.
//
// Directories: IMAGECACHE_TEST_XFS (a file system with reflink), IMAGECACHE_TEST_EXT4 (one without) and
// IMAGECACHE_TEST_TINY (one of at most 64 MiB). Without the first two the system's temporary directory serves, whatever
// it is on; without the last a small tmpfs is mounted where only this process sees it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/drivers.hpp"
#include "backends/memory/memory_driver.hpp"
#include "base/fd.hpp"
#include "base/text.hpp"
#include "imagecache/driver.hpp"

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
  const fs::path& directory() const { return directory_->path(); }

  /// As Driver's read would be, if a service had to read volumes.
  Result<std::size_t> read(const VolumeId& volume, std::uint64_t offset, std::span<std::byte> data) {
    if (const auto* memory = dynamic_cast<backends::MemoryDriver*>(driver_.get())) {
      return memory->read(volume, offset, data);
    }
    auto connection = driver_->initialize_connection(volume);
    if (!connection) return std::unexpected(connection.error());
    auto fd = base::open_file(connection->data.at("device_path"), O_RDONLY);
    if (!fd) return std::unexpected(fd.error());
    return base::read_at(fd->get(), data, offset, volume.name);
  }

 private:
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
  return nullptr;
}

}  // namespace imagecache::test
